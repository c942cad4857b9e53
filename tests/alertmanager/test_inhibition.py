"""What silences what: the stack's rules in a real Alertmanager, as mimir/alertmanager.yaml has them. Each case is two alerts at once."""

import json
import socket
import subprocess
from urllib.request import Request, urlopen

import pytest
from helpers import ROOT, eventually, fetch


def alert(name, **labels):
    return {"alertname": name, **labels}


STORE_DOWN = alert("SignalboxStoreDown", severity="page", hop="store", job="mimir", instance="mimir-2:9009")
PYROSCOPE_DOWN = STORE_DOWN | {"job": "pyroscope", "instance": "pyroscope:4040"}
DATABASE_DOWN = alert("SignalboxDatabaseDown", severity="page", hop="dependency", instance="postgres:5432")
CACHE_DOWN = alert("SignalboxCacheDown", severity="ticket", hop="dependency", instance="redis:6379")
QUEUE_FILLING = alert("SignalboxCollectorQueueFilling", severity="ticket", hop="alloy", data_type="logs")
QUEUE_FULL = alert("SignalboxCollectorQueueFull", severity="page", hop="alloy", component_id="otelcol.exporter.otlphttp.loki")
REFUSING = alert("SignalboxCollectorRefusing", severity="ticket", hop="alloy", job="alloy")
PROFILES = alert("SignalboxCollectorProfilesDropping", severity="ticket", hop="alloy", instance="alloy:12345")
SILENT_ALLOY = alert("SignalboxCollectorSilent", severity="page", hop="alloy", job="alloy")
SILENT_SERVICE = alert("SignalboxServiceSilent", severity="page", hop="service", service_name="signalbox-api")
POOL_TIMEOUTS = alert("SignalboxPoolTimeouts", severity="page", service_name="signalbox-api")
BURNS_FAST = alert("SignalboxLatencyBudgetBurnsFast", severity="page", slo="latency", service_name="signalbox-api")
BURNS_SLOW = alert("SignalboxLatencyBudgetBurnsSlow", severity="ticket", slo="latency", service_name="signalbox-api")


def not_reached(dependency):
    return alert("SignalboxDependencyDown", severity="ticket", service_name="signalbox-api", signalbox_dependency_name=dependency)


CASES = [
    # cause, what comes with it, is the second silenced?
    (STORE_DOWN, QUEUE_FILLING, True),
    (STORE_DOWN, QUEUE_FULL, False),
    (STORE_DOWN, REFUSING, False),
    (STORE_DOWN, PROFILES, False),
    (PYROSCOPE_DOWN, PROFILES, True),
    (DATABASE_DOWN, POOL_TIMEOUTS, True),
    (DATABASE_DOWN, not_reached("database"), True),
    (DATABASE_DOWN, not_reached("cache"), False),
    (DATABASE_DOWN, not_reached("worker"), False),
    (CACHE_DOWN, not_reached("cache"), True),
    (CACHE_DOWN, not_reached("database"), False),
    (CACHE_DOWN, POOL_TIMEOUTS, False),
    (SILENT_ALLOY, SILENT_SERVICE, True),
    (BURNS_FAST, BURNS_SLOW, True),
    (BURNS_FAST, BURNS_SLOW | {"slo": "availability"}, False),
]


@pytest.fixture
def alertmanager(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus-alertmanager", f"--config.file={ROOT / 'mimir/alertmanager.yaml'}", f"--storage.path={tmp_path}"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        eventually(lambda: fetch(f"http://{address}/-/ready"))
        yield f"http://{address}/api/v2/alerts"
        process.terminate()


@pytest.mark.parametrize(("cause", "other", "silenced"), CASES, ids=lambda value: value.get("alertname", "") if isinstance(value, dict) else None)
def test_a_cause_silences_what_it_explains_and_nothing_else(alertmanager, cause, other, silenced):
    # It takes alerts in one by one: when the last is silenced by the last but one, the two before them have been weighed.
    witness, last = BURNS_FAST | {"slo": "witness"}, BURNS_SLOW | {"slo": "witness"}
    for labels in (cause, other, witness, last):
        body = json.dumps([{"labels": labels}]).encode()
        urlopen(Request(alertmanager, body, {"Content-Type": "application/json"}), timeout=10).close()

    def found(labels):
        alerts = json.loads(fetch(alertmanager))
        return next((item["status"]["state"] for item in alerts if item["labels"] == labels), None)

    eventually(lambda: found(last) == "suppressed")
    assert (found(cause), found(other)) == ("active", "suppressed" if silenced else "active")
