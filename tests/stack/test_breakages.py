"""Things that are broken on purpose, one at a time, and the words in which `make verify` or `make doctor` names each.

The table is the list of them. A breakage is a changed copy of a configuration, a variable or a setting of Compose, laid over one or more services of the
stack that runs; afterwards they are as before. The whole table takes about an hour: ARGS="tests/stack/test_breakages.py -k loki" runs a part of it.
"""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field

import pytest
from helpers import ROOT

on_request = pytest.mark.skipif(os.environ.get("BREAKAGES") != "1", reason="takes an hour and breaks the stack meanwhile: BREAKAGES=1 runs it")

# Where each folder of configuration is mounted, and by whom.
MOUNTS = {
    "alloy": ("/etc/alloy", ["alloy"]),
    "loki": ("/etc/loki", ["loki"]),
    "mimir": ("/etc/mimir", ["mimir-1", "mimir-2", "mimir-3"]),
    "nginx": ("/etc/nginx/signalbox", ["nginx-push", "nginx-query"]),
    "pyroscope": ("/etc/pyroscope", ["pyroscope"]),
    "tempo": ("/etc/tempo", ["tempo"]),
}
SOURCES = "grafana/provisioning/datasources/signalbox.yaml"


@dataclass(frozen=True)
class Breakage:
    name: str
    # All of these stand in what is said.
    words: list[str]
    # File of the repository, and what is replaced in it.
    edits: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    # Service, and what is laid over it in Compose's words.
    services: dict[str, dict] = field(default_factory=dict)
    # Services that are stopped.
    stopped: tuple[str, ...] = ()
    # `doctor` judges what passes, so there is a load meanwhile.
    by: str = "verify"
    # Between doctor's two readings.
    over: str = "20s"


def environment(service, **variables):
    return {service: {"environment": variables}}


BREAKAGES = [
    Breakage("wrong path of Loki in Alloy", ["BROKEN  logs      alloy", "alloy/config.alloy", "`make logs-alloy`"],
             services=environment("alloy", LOGS_TO="http://nginx-push:13100/otlq")),
    Breakage("wrong port of Mimir in Alloy", ["BROKEN  metrics   alloy", "behind  D5"],
             services=environment("alloy", METRICS_TO="http://nginx-push:19010/otlp")),
    Breakage("wrong port in the push balancer", ["BROKEN  traces    nginx-push", "502 Bad Gateway", "nginx/push.conf"],
             edits={"nginx/push.conf": [("server tempo:4318", "server tempo:4319")]}),
    Breakage("wrong port in the query balancer", ["BROKEN  profiles  nginx-query", "502 Bad Gateway", "nginx/query.conf"],
             edits={"nginx/query.conf": [("server pyroscope:4040", "server pyroscope:4041")]}),
    Breakage("wrong address of a data source", ["BROKEN  traces    grafana", "grafana/provisioning/datasources"],
             edits={SOURCES: [("url: ${TEMPO_URL}", "url: http://nginx-query:13201")]}),
    # Grafana does not start with it: "Datasource provisioning error", says its log.
    Breakage("wrong uid of a data source", ["BROKEN  logs      grafana", "`make logs-grafana`"],
             edits={SOURCES: [("uid: pyroscope\n", "uid: pyroscop\n")]}),
    Breakage("an unanchored regex of a derived field", ["BROKEN  D1        log → trace", "matcherRegex: ^trace_id$", SOURCES],
             edits={SOURCES: [("matcherRegex: ^trace_id$", "matcherRegex: trace_id")]}),
    Breakage("a query of trace to logs that finds nothing", ["BROKEN  D2        trace → logs", "tracesToLogsV2", SOURCES],
             edits={SOURCES: [('| trace_id="$${__trace.traceId}"', '| trace="$${__trace.traceId}"')]}),
    Breakage("a wrong label in trace to metrics", ["BROKEN  D3        trace → metrics", "tracesToMetrics", SOURCES],
             edits={SOURCES: [("{ key: service.name, value: service_name }\n          - { key: http.route", "{ key: service.name, value: service }\n          - { key: http.route")]}),
    Breakage("a wrong profile type in trace to profile", ["BROKEN  D4        trace → profile", "tracesToProfiles", SOURCES],
             edits={SOURCES: [("profileTypeId: process_cpu:cpu", "profileTypeId: process_cpu:wall")]}),
    Breakage("exemplars that lead nowhere", ["BROKEN  D5        exemplar → trace", "exemplarTraceIdDestinations", SOURCES],
             edits={SOURCES: [("- name: trace_id\n          datasourceUid: tempo", "- name: trace_id\n          datasourceUid: jaeger")]}),
    Breakage("an exemplar limit of 0", ["BROKEN  D5        exemplar → trace", "max_global_exemplars_per_user in mimir/mimir.yaml"],
             edits={"mimir/mimir.yaml": [("max_global_exemplars_per_user: 100000", "max_global_exemplars_per_user: 0")]}),
    # Not send_exemplars in tempo.yaml: Tempo's generator sends them whatever that says.
    Breakage("the generator's exemplars lead nowhere", ["BROKEN  D5        span metrics' exemplar → trace", f"exemplarTraceIdDestinations in {SOURCES} (traceID)"],
             edits={SOURCES: [("- name: traceID\n          datasourceUid: tempo", "- name: traceID\n          datasourceUid: jaeger")]}),
    Breakage("a generator without service graphs", ["BROKEN  D8        service graph", "processors in tempo/tempo.yaml"],
             edits={"tempo/tempo.yaml": [("${TEMPO_PROCESSORS:-[span-metrics, service-graphs]}", "[span-metrics]")]}),
    Breakage("two Mimirs of one hostname", ["BROKEN  mimir     members of the ring", "2 of 3 members are active", "`hostname:` in docker-compose.yml"],
             services={"mimir-3": {"hostname": "mimir-2"}}),
    Breakage("one Mimir away", ["BROKEN  mimir     members of the ring", "2 of 3 members are active", "`docker compose ps`"], stopped=("mimir-2",)),
    Breakage("a tenant that Alloy does not name", ["BROKEN  logs      nginx-push", "401 Unauthorized: no org id"],
             edits={"loki/loki.yaml": [("${TENANCY:-false}", "true")], "nginx/shared.conf": [("X-Scope-OrgID $tenant", "X-Scope-OrgID ''")]}),
    Breakage("no structured metadata", ["BROKEN  logs      store", "400 Bad Request", "structured metadata", "`make logs-loki`"],
             edits={"loki/loki.yaml": [("allow_structured_metadata: true", "allow_structured_metadata: false")]}),
    Breakage("a store that is stopped", ["BROKEN  traces    store", "tempo says of itself", "`make logs-tempo`", "behind  D1", "ok      D7"], stopped=("tempo",)),
    Breakage("traces switched off", ["BROKEN  traces    service", "its OTEL_* and PYROSCOPE_* variables"], services=environment("signalbox-api", OTEL_TRACES_EXPORTER="none")),
    Breakage("the service's exporter leads elsewhere", ["BROKEN  logs      service", "BROKEN  metrics   service", "BROKEN  traces    service", "OTEL_*"],
             services=environment("signalbox-api", OTEL_EXPORTER_OTLP_ENDPOINT="http://alloy:4319")),
    Breakage("the service's profiles lead elsewhere", ["BROKEN  profiles  service", "PYROSCOPE_*"],
             services=environment("signalbox-api", PYROSCOPE_SERVER_ADDRESS="http://alloy:4041")),
    Breakage("delta temporality", ["BROKEN  metrics   service"], services=environment("signalbox-api", OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta")),
    Breakage("delta temporality, by its counters", ["metrics lost", "mimir"], by="doctor",
             services=environment("signalbox-api", OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta")),
    Breakage("a link template with a wrong uid", ["BROKEN  A14       console → logs", "SIGNALBOX_LINK_"],
             services=environment("signalbox-api", SIGNALBOX_LINK_LOGS_URL="http://127.0.0.1:13000/explore?panes=%7B%22a%22:%7B%22queries%22:%5B%7B%22refId%22:%22A%22,"
                                  "%22datasource%22:%7B%22type%22:%22loki%22,%22uid%22:%22lokki%22%7D,%22expr%22:%22{trace_id}%22%7D%5D,"
                                  "%22range%22:%7B%22from%22:%22{from_ms}%22,%22to%22:%22{to_ms}%22%7D%7D%7D")),
    Breakage("a rate limit of Loki", ["logs lost", "rate limit in loki/loki.yaml"], by="doctor",
             edits={"loki/loki.yaml": [("ingestion_rate_mb: 16", "ingestion_rate_mb: 0.001"), ("ingestion_burst_size_mb: 32", "ingestion_burst_size_mb: 0.002")]}),
    Breakage("too few labels in Mimir", ["metrics", "labels or attributes are more, or other, than mimir/mimir.yaml allows"], by="doctor",
             edits={"mimir/mimir.yaml": [("limits:\n", "limits:\n  max_label_names_per_series: 5\n")]}),
    Breakage("a body limit of the balancer", ["alloy: ", "traces"], by="doctor",
             edits={"nginx/shared.conf": [("client_max_body_size    32m", "client_max_body_size    1k")]}),
    Breakage("a queue of one span", ["signalbox-api: ", "queue_full", "OTEL_BSP_MAX_QUEUE_SIZE"], by="doctor",
             services=environment("signalbox-api", OTEL_BSP_MAX_QUEUE_SIZE="1", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")),
    Breakage("a wrong password of the observer", ["BROKEN  D11       span → what the database said", "postgres/observer.sh"],
             services=environment("alloy", POSTGRES_DSN="postgres://observer:wrong@postgres:5432/signalbox?sslmode=disable")),
    Breakage("comments switched off", ["BROKEN  D11       span → what the database said", "SIGNALBOX_DATABASE_COMMENTS in .env"],
             services=environment("signalbox-api", SIGNALBOX_DATABASE_COMMENTS="false")),
    Breakage("another secret at the object store", ["loki: ", "operations on the object store failed", "S3_SECRET_KEY in .env"], by="doctor", over="120s",
             services=environment("minio", MINIO_ROOT_PASSWORD="anothersecret")),
    # Neither starts with it.
    Breakage("a wrong secret of the object store at Loki", ["loki: not ready", "`make logs-loki`"], by="doctor", services=environment("loki", S3_SECRET_KEY="wrongsecret")),
    Breakage("a wrong secret of the object store at Tempo", ["tempo: not ready", "`make logs-tempo`"], by="doctor", services=environment("tempo", S3_SECRET_KEY="wrongsecret")),
    Breakage("Alloy away", ["alloy: not ready", "the services drop what they cannot send"], by="doctor", stopped=("alloy",)),
    Breakage("MinIO away", ["minio: not ready", "the stores keep what is new themselves"], by="doctor", stopped=("minio",)),
]


def run(*command, **options):
    options = {"capture_output": True, "text": True, "timeout": 600, **options}
    return subprocess.run(command, cwd=ROOT, check=False, **options)


def compose(*arguments):
    done = run("docker", "compose", *arguments, env={**os.environ, "COMPOSE_FILE": "docker-compose.yml"})
    assert done.returncode == 0, done.stderr


def overlay(breakage, folder):
    """Compose's file that breaks, and the services it concerns."""
    services = {name: dict(changes) for name, changes in breakage.services.items()}
    for path, replacements in breakage.edits.items():
        text = (ROOT / path).read_text()
        for old, new in replacements:
            assert old in text, f"{path} has no {old!r}"
            text = text.replace(old, new)
        if path == SOURCES:
            changed = folder / "signalbox.yaml"
            changed.write_text(text)
            changed.chmod(0o644)
            # Grafana keeps what it was provisioned with before: without its volume it begins anew.
            services["grafana"] = {"volumes": [f"{changed}:/etc/grafana/provisioning/datasources/signalbox.yaml:ro", {"type": "tmpfs", "target": "/var/lib/grafana"}]}
            continue
        top = path.split("/")[0]
        copy = folder / top
        if not copy.exists():
            shutil.copytree(ROOT / top, copy)
        (folder / path).write_text(text)
        target, users = MOUNTS[top]
        for user in users:
            services.setdefault(user, {})["volumes"] = [f"{copy}:{target}:ro"]
    file = folder / "overlay.json"
    file.write_text(json.dumps({"services": services}))
    for entry in folder.rglob("*"):
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    return file, list(services)


@pytest.fixture
def broken(request, tmp_path):
    breakage = request.param
    file, services = overlay(breakage, tmp_path)
    try:
        if services:
            compose("-f", "docker-compose.yml", "-f", str(file), "up", "--detach", "--no-deps", "--no-build", *services)
        if breakage.stopped:
            compose("stop", *breakage.stopped)
        for service in services:
            ready(service)
        yield breakage
    finally:
        if breakage.stopped:
            compose("start", *breakage.stopped)
        if services:
            compose("up", "--detach", "--no-deps", "--no-build", *services)
        done = run("make", "wait")
        assert done.returncode == 0, done.stdout + done.stderr


def ready(service):
    """Waits until a part answers, or for half a minute: some are broken in a way that keeps them from it."""
    for _ in range(30):
        if run("docker", "compose", "exec", "-T", "probe", "signalboxctl", "probe", service).returncode == 0:
            return
        time.sleep(1)


def test_every_edit_finds_what_it_changes():
    for breakage in BREAKAGES:
        for path, replacements in breakage.edits.items():
            text = (ROOT / path).read_text()
            assert [old for old, _ in replacements if old not in text] == [], f"{breakage.name}, {path}"


@on_request
@pytest.mark.parametrize("broken", BREAKAGES, indirect=True, ids=[breakage.name for breakage in BREAKAGES])
def test_a_breakage_is_named(broken):
    if broken.by == "doctor":
        load = subprocess.Popen(["make", "generate-load", f"ARGS=--duration {int(broken.over[:-1]) + 30}s"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(5)
        done = run("make", "doctor", f"ARGS=--over {broken.over}")
        load.wait(timeout=300)
    else:
        done = run("make", "verify", "ARGS=--deadline 20s")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    for words in broken.words:
        assert words in said, f"`{words}` is not said:\n{said}"
    # One line for each finding, however long the answer was that it repeats.
    assert "<html" not in said and "<center>" not in said, said


@on_request
def test_the_stack_is_whole_again():
    done = run("make", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
