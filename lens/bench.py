"""What the viewer's pages and its intake cost at full bounds. `make bench` writes the table of docs/viewer.md.

A release build is filled until every bound lets the oldest go: 200,000 spans and records, 500,000 points, 5,000 profiles. Then each page is asked for
again and again over everything that is kept. Processor time is the process' own, from /proc; instructions are counted by callgrind in
a second process, between two settings of its counter to zero. Linux only.
"""

import argparse
import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS, RECORDS, PROFILES = 200_000, 200_000, 5_000
SERIES = 5_000  # of the metric whose chart is drawn
BATCH = 512  # as SDKs send
SECOND = 1_000_000_000
SPREAD = 840 * SECOND  # all of it is of the last quarter of an hour, the range that pages begin with
PAGES = {
    "overview": "/?range=all",
    "traces": "/traces?range=all",
    "traces of a service": "/traces?range=all&service=signalbox-worker",
    "traces with an attribute": "/traces?range=all&q=order.items%3D3",
    "a trace": "/traces/{trace}",
    "logs": "/logs?range=all",
    "logs with a word": "/logs?range=all&q=backordered",
    "metrics": "/metrics?range=all",
    "chart of 5,000 series": "/metrics/data?range=all&name=shop.stock",
    "profiles": "/profiles?range=all&type=cpu",
    "services": "/services?range=all",
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", default="target/release/lens")
    arguments.add_argument("--page", help="replace the table of this page")
    arguments.add_argument("--data", help="a directory that is kept: what it holds already is not sent again")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--no-instructions", action="store_true")
    arguments = arguments.parse_args()
    counting = not arguments.no_instructions and shutil.which("valgrind")
    with contextlib.ExitStack() as stack:
        directory = arguments.data or stack.enter_context(tempfile.TemporaryDirectory())
        begun = time.time_ns() - SPREAD
        rows, lens = [], Lens([arguments.program], directory)
        if b'"traceId"' not in lens.get("/api/traces?limit=1"):
            for path, body, _ in batches(begun, 0, 1):
                lens.post(path, body)
        for name, work, items in pieces(begun, 1, 0.1):
            if items == 1:
                work(lens)  # what the first request alone costs is not measured
            rows.append((name, lens.measure(work, arguments.rounds if items == 1 else 1) / items))
        resident = lens.status("VmRSS"), lens.status("VmHWM")
        lens.stop()
        counted = instructions(arguments.program, directory, pieces(begun, 11, 0.02)) if counting else {}
        table = ["| what | CPU | instructions |", "|---|---|---|"]
        for name, ms in rows:
            shown = f"{ms:.1f} ms" if ms >= 0.1 else f"{1000 * ms:.1f} µs"
            table.append(f"| {name} | {shown} | {millions(counted.get(name))} |")
            print(table[-1], flush=True)
    table += ["", f"Resident memory afterwards: {resident[0]:.0f} MB; at its highest: {resident[1]:.0f} MB."]
    print(table[-1])
    if arguments.page:
        page = Path(arguments.page)
        before, _, rest = page.read_text().partition("<!-- made by `make bench` -->\n")
        page.write_text(before + "<!-- made by `make bench` -->\n\n" + "\n".join(table) + "\n\n<!-- end -->" + rest.partition("<!-- end -->")[2])


class Lens:
    def __init__(self, command, directory):
        environment = {"LENS_LISTEN": "127.0.0.1:0", "LENS_DATA_DIR": directory, "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        self.connection = http.client.HTTPConnection("127.0.0.1", int(re.search(r":(\d+),", said)[1]), timeout=600)

    def ask(self, method, path, body=None, kind=None):
        try:
            self.connection.request(method, path, body, {"content-type": kind} if kind else {})
            answer = self.connection.getresponse()
        except ConnectionError:  # idle for longer than the server waits
            self.connection.close()
            self.connection.request(method, path, body, {"content-type": kind} if kind else {})
            answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (path, answer.status, text[:500])
        return text

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body, kind="application/x-protobuf"):
        return self.ask("POST", path, body, kind)

    def cpu_ms(self):
        """Time on a processor of all its threads."""
        times = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(time.read_text().split()[0]) for time in times) / 1e6

    def control(self, wish):
        """Has callgrind, under which the process runs, do something."""
        subprocess.run(["callgrind_control", wish, str(self.process.pid)], check=True, stdout=subprocess.DEVNULL)
        self.connection.close()

    def status(self, name):
        return int(re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1000

    def measure(self, work, rounds):
        before = self.cpu_ms()
        for _ in range(rounds):
            work(self)
        return (self.cpu_ms() - before) / rounds

    def stop(self):
        self.process.terminate()
        return self.process.communicate()[1]


def pieces(begun, run, share):
    """What is measured: its name, a function of the viewer, and the number of items it is about. What is sent is new in each run."""
    for name, path in PAGES.items():
        yield name, lambda lens, path=path: lens.get(path.format(trace=trace_id(SPANS // 20).hex())), 1
    for kind in ("spans", "records", "points"):
        for number, form in enumerate(("protobuf", "JSON")):
            sent = [(path, encode(path, body, form), count) for path, body, count in batches(begun + SPREAD, run + number, share, kind)]

            def send(lens, sent=sent, form=form):
                for path, body, _ in sent:
                    lens.post(path, body, "application/json" if form == "JSON" else "application/x-protobuf")

            yield f"one of 512 {kind}, {form}", send, sum(count for *_, count in sent)


def instructions(program, directory, work):
    """Those of each piece of work, by its name, for one item, on the data that is there."""
    counts = {}
    with tempfile.TemporaryDirectory() as dumps:
        lens = Lens(["valgrind", "--tool=callgrind", f"--callgrind-out-file={dumps}/out", program], directory)
        for number, (name, piece, items) in enumerate(work, 1):
            if items == 1:
                piece(lens)
            lens.control("--zero")
            piece(lens)
            lens.control("--dump")
            counts[name] = int(re.search(r"^totals: (\d+)", Path(f"{dumps}/out.{number}").read_text(), re.M)[1]) / items
        lens.stop()
    return counts


def millions(count):
    if count is None:
        return ""
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count / 1e3:,.1f} k"


def trace_id(trace, run=0):
    # As random as real ones are, and the same on each run.
    return ((trace * 0x9E3779B97F4A7C15F39CC0605CEDC835 + run + 1) % (1 << 128)).to_bytes(16)


def span_id(trace, place, run=0):
    return (((trace * 16 + place + run * 7919 + 1) * 0x9E3779B97F4A7C15) % (1 << 64)).to_bytes(8)


def attributes(target, **values):
    for key, value in values.items():
        attribute = target.add(key=key.replace("__", "."))
        if isinstance(value, str):
            attribute.value.string_value = value
        else:
            attribute.value.int_value = value


# A request's spans: service, kind, name, parent, start and length in ms.
TREE = [
    (0, 2, "GET /demo/work", None, 0, 40),
    (0, 3, "cache get", 0, 1, 1),
    (0, 3, "GET /quotes/{sku}", 0, 3, 12),
    (1, 2, "GET /quotes/{sku}", 2, 4, 10),
    (1, 1, "choose carrier", 3, 5, 6),
    (0, 3, "BEGIN", 0, 16, 1),
    (0, 3, "UPDATE products", 0, 18, 5),
    (0, 3, "INSERT orders", 0, 24, 6),
    (0, 3, "COMMIT", 0, 31, 3),
    (0, 4, "send signalbox.jobs", 0, 35, 3),
]
SERVICES = ("signalbox-api", "signalbox-worker")


def batches(begun, run, share, only=None):
    """Path, body and number of items of each request."""
    makers = {"spans": spans, "records": records, "points": points, "profiles": profiles}
    for name, make in makers.items():
        if only in (None, name):
            yield from make(begun, run, share)


def resource(of, service):
    attributes(of.resource.attributes, service__name=SERVICES[service], service__version="0.1.0", service__instance__id=f"i-{service}", host__name="demo")


def spans(begun, run, share):
    traces = int(SPANS * share) // len(TREE)
    for first in range(0, traces, BATCH // len(TREE)):
        request = ExportTraceServiceRequest()
        scopes = [request.resource_spans.add(), request.resource_spans.add()]
        for service, of in enumerate(scopes):
            resource(of, service)
        scopes = [of.scope_spans.add() for of in scopes]
        count = 0
        for trace in range(first, min(first + BATCH // len(TREE), traces)):
            at = begun + (SPREAD * trace // traces if run == 0 else trace * 1000)
            failed = trace % 20 == 0
            for place, (service, kind, name, parent, start, length) in enumerate(TREE):
                span = scopes[service].spans.add(trace_id=trace_id(trace, run), span_id=span_id(trace, place, run), name=name, kind=kind)
                span.parent_span_id = b"" if parent is None else span_id(trace, parent, run)
                span.start_time_unix_nano = at + start * 1_000_000
                span.end_time_unix_nano = span.start_time_unix_nano + length * 1_000_000 * (1 + trace % 7)
                if kind == 2:
                    attributes(
                        span.attributes, http__request__method="GET", http__route=name[4:], url__path=name[4:], url__scheme="http", server__address="127.0.0.1",
                        server__port=18080, client__address="127.0.0.1", user_agent__original="signalboxctl/0.1", http__response__status_code=500 if failed else 200,
                        signalbox__request__id=f"{trace:016x}",
                    )  # fmt: skip
                elif kind == 3 and name[0] != "G":
                    attributes(span.attributes, db__system__name="sqlite", db__operation__name=name, db__query__text=f"{name} SET a = ?, b = ? WHERE id = ?", db__namespace="demo")
                else:
                    attributes(span.attributes, order__items=trace % 10, order__sku=f"sku-{trace % 50}")
                if failed and place in (0, 7):
                    span.status.code = 2
                count += 1
        yield "/v1/traces", request.SerializeToString(), count


WORDS = ("order accepted", "GET /demo/work 200", "carrier chosen", "item backordered", "cache missed")


def records(begun, run, share):
    total = int(RECORDS * share)
    for first in range(0, total, BATCH):
        request = ExportLogsServiceRequest()
        of = request.resource_logs.add()
        resource(of, 0)
        scope = of.scope_logs.add()
        for number in range(first, min(first + BATCH, total)):
            record = scope.log_records.add(time_unix_nano=begun + (SPREAD * number // total if run == 0 else number * 1000))
            record.severity_number = (9, 9, 9, 5, 13, 9, 17, 9)[number % 8]
            record.body.string_value = WORDS[number % 5]
            record.trace_id, record.span_id = trace_id(number // 10, run), span_id(number // 10, 0, run)
            attributes(record.attributes, order__id=f"{number:012x}", order__items=number % 10, duration_ms=number % 300, http__route="/demo/work", code__function__name="signalbox::routes::demo::work")
        yield "/v1/logs", request.SerializeToString(), len(scope.log_records)


def points(begun, run, share):
    """A gauge of many series that is sent once a minute, as exporters do unless told; histograms with exemplars, and gauges, sent more often."""
    rounds = int(100 * share)
    for number in range(rounds):
        at = begun + (SPREAD * (number + 1) // rounds if run == 0 else run * SECOND + number * 1000)
        yield from exports(at, begun, number, 1, [("http.server.request.duration", 100)] + [(f"shop.gauge_{metric}", 50) for metric in range(83)])
    # Last, so that what is sent later lets others go.
    if run == 0:
        for number in range(15):
            yield from exports(begun + SPREAD * (number + 1) // 15, begun, number, 1, [("shop.stock", SERIES)])


def exports(at, begun, number, service, metrics):
    """One export of these metrics, in batches."""
    wanted = [(name, series) for name, count in metrics for series in range(count)]
    for first in range(0, len(wanted), BATCH):
        request = ExportMetricsServiceRequest()
        of = request.resource_metrics.add()
        resource(of, service)
        scope = of.scope_metrics.add()
        added = {}
        for name, series in wanted[first : first + BATCH]:
            metric = added.setdefault(name, None) or scope.metrics.add(name=name, unit="s" if "duration" in name else "{item}")
            added[name] = metric
            if "duration" not in name:
                point = metric.gauge.data_points.add(time_unix_nano=at, as_double=(series * 7 + number) % 1000)
                attributes(point.attributes, sku=f"sku-{series}", shelf=f"{series % 40}")
                continue
            metric.histogram.aggregation_temporality = 2
            point = metric.histogram.data_points.add(start_time_unix_nano=begun, time_unix_nano=at, count=number * 20, sum=number * 2.5)
            point.explicit_bounds.extend((0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
            point.bucket_counts.extend([number, number * 3, number * 6, number * 5, number * 5] + [0] * 10)
            attributes(point.attributes, http__request__method="GET", http__route=f"/route/{series}", http__response__status_code=500 if series % 10 == 0 else 200)
            point.exemplars.add(time_unix_nano=at, as_double=0.02, trace_id=trace_id(series + number), span_id=span_id(series + number, 0))
        yield "/v1/metrics", request.SerializeToString(), len(wanted[first : first + BATCH])


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def profiles(begun, _run, share):
    """CPU profiles as a pusher sends them: 40 stacks of 30 frames each."""
    names = [b"", b"cpu", b"nanoseconds", b"samples", b"count"] + [f"signalbox::module_{n}::function_{n}".encode() for n in range(300)]
    total = int(PROFILES * share)
    for first in range(0, total, 100):
        series = b""
        for number in range(first, min(first + 100, total)):
            profile = field(1, field(1, 1) + field(2, 2)) + b"".join(field(6, name) for name in names)
            for n in range(1, 301):
                profile += field(4, field(1, n) + field(4, field(1, n) + field(2, n))) + field(5, field(1, n) + field(2, n + 4) + field(4, n + 4))
            for stack in range(40):
                places = b"".join(varint(1 + (number + stack * depth * 7) % 300) for depth in range(1, 31))
                profile += field(2, field(1, places) + field(2, varint(10_000_000)))
            profile += field(9, begun + SPREAD * number // total) + field(10, 10 * SECOND) + field(11, field(1, 1) + field(2, 2)) + field(12, 10_000_000)
            labels = {b"__name__": b"process_cpu", b"service_name": SERVICES[number % 2].encode()}
            pairs = b"".join(field(1, field(1, name) + field(2, value)) for name, value in labels.items())
            series += field(1, pairs + field(2, field(1, gzip.compress(profile, 1))))
        yield "/push.v1.PusherService/Push", series, min(100, total - first)


def encode(path, body, form):
    if form != "JSON":
        return body
    request = {"/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}[path].FromString(body)
    whole = MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(hexadecimal(whole)).encode()


def hexadecimal(value):
    """OTLP/JSON writes ids in hexadecimal, not in base64."""
    import base64

    if isinstance(value, list):
        return [hexadecimal(one) for one in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {key: base64.b64decode(one).hex() if key in ids else hexadecimal(one) for key, one in value.items()}


if __name__ == "__main__":
    main()
