"""The collector fails in each way it can, under load and while the service stops.

What must hold: no request waits for it, by the duration that each request says of itself; the memory grows by no more than what the queues may hold; each cause
is told once in 30 s; the exit keeps its deadline; and of all spans and records that were made, those that the collector acknowledged and those that the service
counts as lost are the sum, to the last one.
"""

import subprocess
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from collector import GARBAGE, NESTED, Collector, answering, certified, fine, hanging, rejecting, resetting, trickling
from helpers import eventually
from programs import CALLERS, WITHIN_SECONDS, Load, alone, exporting, folder, need, program

# Bytes of each queue where items are lost: less than the load makes, so that it overflows. Elsewhere the default holds all of it.
QUEUE = 256 * 1024
# One attempt to export lasts so long at most (the default). A request that waited for one, or an exit that did, would last as long.
ATTEMPT_SECONDS = 10
FLUSH_SECONDS = 3
# Spans of `GET /ping`.
SPANS = 5
WARM_UP, LOAD, HEAVY_LOAD = 50, 500, 4000
# What the allocator and the load's connections take besides the queues. The heavy load makes three times as much: 96,000 spans and records.
SLACK = 8 << 20


@dataclass(frozen=True)
class Fault:
    name: str
    # A context inside of which the fault is on. It is given the collector and a folder.
    on: object
    tls: bool = False
    # The name under which the service knows the collector, where that is the fault.
    host: str = "127.0.0.1"
    load: int = LOAD
    # Whether items are lost while it is on; else the answers alone are wrong.
    loses: bool = True
    quick: bool = False


def behaving(behaviour):
    @contextmanager
    def on(collector, _):
        collector.behave(behaviour)
        yield
        collector.behave(fine)

    return on


@contextmanager
def refusing(collector, _):
    collector.down()
    yield
    collector.up()


@contextmanager
def dropping(collector, _):
    """Netfilter drops what comes in, in the network of our own."""
    alone()
    need("iptables")
    rule = ["INPUT", "-p", "tcp", "--dport", str(collector.port), "-j", "DROP"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)


def certificate(name):
    @contextmanager
    def on(collector, directory):
        collector.tls.load_cert_chain(directory / f"{name}.pem", directory / "key.pem")
        collector.server.hang_up()
        yield
        collector.tls.load_cert_chain(directory / "good.pem", directory / "key.pem")

    return on


@contextmanager
def nameless(*_):
    """Nothing knows the name."""
    alone()
    yield


@contextmanager
def named_late(*_):
    """The file of names has it once the fault is over."""
    alone()
    yield
    with open("/etc/hosts", "a") as hosts:
        hosts.write("127.0.0.1 late.test\n")


FAULTS = [
    Fault("refuses connections", refusing, quick=True),
    Fault("answers 404", behaving(answering(404)), quick=True),
    Fault("answers 429 with Retry-After", behaving(answering(429, Retry_After=1)), quick=True),
    Fault("answers 503", behaving(answering(503))),
    Fault("hangs", behaving(hanging), quick=True),
    Fault("hangs, for a heavy load", behaving(hanging), load=HEAVY_LOAD),
    Fault("resets connections", behaving(resetting)),
    Fault("drops packets", dropping),
    Fault("reads 200 bytes a second", behaving(trickling)),
    Fault("has an expired certificate", certificate("expired"), tls=True),
    Fault("has a certificate of an unknown issuer", certificate("unknown"), tls=True, quick=True),
    Fault("answers garbage", behaving(GARBAGE), loses=False),
    Fault("answers 60,000 nested bytes", behaving(NESTED), loses=False, quick=True),
    Fault("rejects 3 of each request", behaving(rejecting), quick=True),
    Fault("has a name that resolves late", named_late, host="late.test"),
    Fault("has a name that never resolves", nameless, host="never.test"),
]


def authorities(directory):
    """Two authorities, and certificates of one key: a good one, one that has expired, and one of the issuer that nobody was told."""
    need("openssl")

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=directory)

    elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("authority", "stranger"):
        openssl("req", "-x509", *elliptic, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", 2)
    openssl("req", *elliptic, "-keyout", "key.pem", "-out", "request", "-subj", "/CN=collector")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for name, issuer, days in (("good", "authority", 2), ("expired", "authority", -1), ("unknown", "stranger", 2)):
        by = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"]
        openssl("x509", "-req", "-in", "request", *by, "-days", days, "-extfile", "names", "-out", f"{name}.pem")


@contextmanager
def started(fault, flush_seconds):
    """The service, warmed up where it has a collector, with a collector and a witness."""
    with folder() as directory:
        if fault.tls:
            authorities(directory)
        collector = Collector(certified(directory / "good.pem", directory / "key.pem") if fault.tls else None)
        witness = Collector()
        variables = {
            **exporting(collector, witness, fault.host),
            "SIGNALBOX_FLUSH_TIMEOUT_MS": str(flush_seconds * 1000),
        }
        if fault.loses:
            variables |= {"TELEMETRY_SPAN_QUEUE_BYTES": str(QUEUE), "TELEMETRY_LOG_QUEUE_BYTES": str(QUEUE)}
        if fault.tls:
            variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(directory / "authority.pem")
        try:
            with program("serve", directory, variables) as service:
                load = Load(service.address, "/ping", WARM_UP).join()
                if fault.host == "127.0.0.1":
                    eventually(lambda: len(collector.spans) == SPANS * CALLERS * WARM_UP, WITHIN_SECONDS)
                yield service, collector, witness, load, directory
        finally:
            collector.down()
            witness.down()


def under_load(fault):
    """The fault is on for as long as the load lasts. Mended, the service sends what it still has."""
    with started(fault, 30) as (service, collector, witness, load, directory):
        memory = service.memory()
        with fault.on(collector, directory):
            second = Load(service.address, "/ping", fault.load).join()
            grown = service.memory() - memory
            if fault.name.startswith("answers 429"):
                # However soon the load is over: an attempt, and one that had to wait.
                eventually(lambda: all(len(collector.refused_at[signal]) > 1 for signal in ("traces", "logs")), WITHIN_SECONDS)
        code, took = service.stop()
        assert grown < 2 * QUEUE + SLACK, f"the memory has grown by {grown} bytes"
        seen = [*accounts(fault, service, collector, witness, [load, second]), f"memory +{grown / 1e6:.1f} MB"]
        if fault.name.startswith("answers 429"):
            heeds_retry_after(collector)
        return ", ".join(seen)


def while_stopping(fault):
    """The fault stays on: the service is told to stop with what it could not send."""
    with started(fault, FLUSH_SECONDS) as (service, collector, witness, load, directory), fault.on(collector, directory):
        second = Load(service.address, "/ping", LOAD // 4).join()
        code, took = service.stop()
        assert took < ATTEMPT_SECONDS, f"the exit took {took:.1f} s, the deadline is {FLUSH_SECONDS} s"
        return ", ".join([*accounts(fault, service, collector, witness, [load, second]), f"exit in {took:.1f} s"])


def accounts(fault, service, collector, witness, loads):
    requests = sum(load.statuses[200] for load in loads)
    assert not any(load.unanswered for load in loads) and requests == sum(load.statuses.total() for load in loads), loads
    lines = service.lines()
    lost = {kind: witness.failed(f"otel.sdk.exporter.{kind}.exported") + witness.failed(f"otel.sdk.processor.{kind}.processed") for kind in ("span", "log")}
    waited = [line["signalbox.request.duration_ms"] for line in lines if line["target"] == "access"]
    waited += [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 for _, span in collector.spans.values()]
    assert max(waited) < ATTEMPT_SECONDS * 1000, f"a request took {max(waited)} ms"
    once_in_30_seconds(lines)
    # A line that a busy machine had no time to write is no record that was lost, though it is counted under the same name.
    unwritten = witness.failed("otel.sdk.processor.log.processed", "stdout")
    lost["log"] -= unwritten
    # What the exporters say of themselves goes to standard output alone.
    made = {"span": requests * SPANS, "log": sum(line["target"] != "telemetry" for line in lines) + unwritten}
    sent = {"span": len(collector.spans), "log": len(collector.records)}
    for kind in made:
        assert sent[kind] + lost[kind] == made[kind], f"{kind}: {sent[kind]} sent and {lost[kind]:.0f} lost are not the {made[kind]} made; {service.errors().read_text()}"
    assert bool(lost["span"]) == fault.loses, f"{lost['span']:.0f} spans were lost: the fault was not what it should have been"
    said = [f"{sent[kind]} of {made[kind]} {kind}s sent, {lost[kind]:.0f} lost" for kind in made]
    return [*said, f"longest request {max(waited):.0f} ms"]


def once_in_30_seconds(lines):
    """One line for each signal, cause and fate."""
    told = defaultdict(list)
    for line in lines:
        if line["target"] == "telemetry" and "error.type" in line:
            fate = "signalbox.telemetry.lost" in line
            told[line["signalbox.telemetry.signal"], line["error.type"], fate].append(datetime.fromisoformat(line["timestamp"]))
    for what, times in told.items():
        gaps = [(later - earlier).total_seconds() for earlier, later in zip(times, times[1:])]
        assert all(gap > 29 for gap in gaps), f"{what} is told again after {gaps} s"


def heeds_retry_after(collector):
    """No attempt comes earlier than it was asked to, but the first after the end of the fault."""
    for signal in ("traces", "logs"):
        times = collector.refused_at[signal]
        gaps = [later - earlier for earlier, later in zip(times, times[1:])]
        assert gaps and min(gaps) > 0.99, f"{signal}: attempts after {gaps} s"
