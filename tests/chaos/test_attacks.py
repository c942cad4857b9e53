"""What a caller may try, and what must hold: the service answers everybody else, its log has one line a request, and its series stay as many as they were."""

import gzip
import http.client
import json
import secrets
import socket
import subprocess
import time
import zlib
from functools import cache
from urllib.request import Request, urlopen

import pytest
from collector import Collector
from helpers import BIN, eventually
from programs import WITHIN_SECONDS, exporting, folder, free_port, program

# A terminal's colours and title, a carriage return, what turns the direction of text, a line of its own that looks like one of ours, C1 controls, no UTF-8.
FORGED = '{"timestamp":"2026-01-01T00:00:00Z","severity":"ERROR","target":"access","message":"forged"}'
INJECTIONS = {
    "ansi": b"\x1b[31mred\x1b]0;title\x07",
    "newline": b"a\r\n" + FORGED.encode(),
    "bidi": "a\u202eb\u2066c\u200f".encode(),
    "c1": "a\u009b31m\u0085b".encode(),
    "separators": "a\u2028b\u2029c".encode(),
    "no utf-8": b"a\xff\xfe\x80b",
    "quotes": b'a","severity":"FATAL","b":"',
    "markup": b"<script>alert(1)</script>",
}
# What a terminal or an editor acts on: C0 and C1 controls, marks of direction, separators of lines.
ACTS = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"} - {"\n"}


@pytest.fixture
def lens():
    port = free_port()
    with folder() as directory:
        variables = {"LENS_LISTEN": f"127.0.0.1:{port}", "LENS_DATA_DIR": str(directory)}
        process = subprocess.Popen([BIN / "lens"], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: fetched(f"http://127.0.0.1:{port}/readyz"), WITHIN_SECONDS)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def fetched(url):
    try:
        with urlopen(url, timeout=30) as answer:
            return answer.read().decode()
    except OSError:
        return None


@pytest.fixture
def service(request):
    """The service, and a collector that takes what it sends. A parameter is the format of its log."""
    with folder() as directory:
        collector = Collector()
        variables = {**exporting(collector, collector), "SIGNALBOX_FLUSH_TIMEOUT_MS": "30000"}
        try:
            with program("serve", directory, variables) as running:
                running.collector = collector
                yield running
        finally:
            collector.down()


def send(address, *parts):
    """Raw bytes, and what comes back."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"".join(parts))
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return answer


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def quoted(value):
    return b"".join(b"%%%02x" % byte for byte in value)


def inject(address, value):
    """The value in every place of a request that a caller chooses: path, query, headers, body. How many requests there were."""
    plain = value.replace(b"\r", b"").replace(b"\n", b"").replace(b"\x00", b"")
    headers = b"host: a\r\nconnection: close\r\nuser-agent: %b\r\nx-request-id: %b\r\nclient-id: %b\r\nbaggage: a=%b\r\ntracestate: a=%b\r\n" % ((plain,) * 5)
    body = json.dumps({"latency_ms": value.decode("utf-8", "replace")}).encode()
    for line in (b"GET /ping?q=%b HTTP/1.1\r\n" % quoted(value), b"GET /%b HTTP/1.1\r\n" % quoted(value), b"GET /api?sc=%b HTTP/1.1\r\n" % quoted(value)):
        assert status(send(address, line, headers, b"\r\n")) in (200, 400, 404), line
    length = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert status(send(address, b"POST /faults HTTP/1.1\r\n", headers, length, body)) in (400, 404, 405, 422)
    return 4


@pytest.mark.parametrize("value", INJECTIONS.values(), ids=INJECTIONS)
def test_no_caller_writes_a_line_into_the_log(service, value):
    requests = inject(service.address, value)
    assert service.stop()[0] == 0

    text = service.output.read_bytes().decode("utf-8")  # and it is UTF-8
    assert not ACTS & set(text), "what a terminal acts on stands in the log as it is"
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum(line["target"] == "access" for line in lines) == requests
    assert not [line for line in lines if line["message"] == "forged" or line["severity"] == "FATAL"]
    assert len([span for _, span in service.collector.spans.values() if span.kind == span.SPAN_KIND_SERVER]) == requests


@pytest.mark.parametrize("value", INJECTIONS.values(), ids=INJECTIONS)
def test_no_caller_acts_on_a_terminal(value):
    with folder() as directory:
        collector = Collector()
        variables = {**exporting(collector, collector), "LOG_FORMAT": "human"}
        with program("serve", directory, variables) as running:
            requests = inject(running.address, value)
            running.stop()
            text = running.output.read_bytes().decode("utf-8")
        collector.down()
    assert not ACTS & set(text), "what a terminal acts on stands in the log as it is"
    assert len([line for line in text.splitlines() if " 200" in line or " 4" in line]) >= requests
    assert not [line for line in text.splitlines() if line.startswith("{")]


def test_a_page_shows_what_was_injected_as_text(lens):
    """What others sent is shown; no markup of theirs, nothing that acts."""
    trace = secrets.token_hex(16)
    for value in INJECTIONS.values():
        text = value.decode("utf-8", "replace")
        span = {"traceId": trace, "spanId": secrets.token_hex(8), "name": text, "kind": 2, "startTimeUnixNano": f"{time.time_ns()}", "endTimeUnixNano": f"{time.time_ns()}"}
        span["attributes"] = [{"key": text, "value": {"stringValue": text}}]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": text}}]}
        record = {"timeUnixNano": f"{time.time_ns()}", "severityText": text, "body": {"stringValue": text}, "traceId": trace, "attributes": span["attributes"]}
        for path, body in (
            ("traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}),
            ("logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}),
        ):
            request = Request(f"{lens}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
            urlopen(request, timeout=30).close()
    stored = json.dumps(json.loads(fetched(f"{lens}/api/traces/{trace}")), ensure_ascii=False)
    for value in INJECTIONS.values():
        assert json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False)[1:-1] in stored, "the store keeps what was sent"
    for path in ("/", "/traces", f"/traces/{trace}", "/logs", "/services"):
        page = fetched(f"{lens}{path}")
        assert page and "<script>alert" not in page, path
        with urlopen(f"{lens}{path}", timeout=30) as answer:
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"] or "default-src 'self'" in answer.headers["Content-Security-Policy"]


def series(service):
    _, page = service.get("/metrics")
    return {line.partition(b" # ")[0].rpartition(b" ")[0] for line in page.splitlines() if line and not line.startswith(b"#")}


def attack(address, number):
    """As many different values as a request has places for, all at once."""
    word = secrets.token_hex(8)
    method = ("GET", "POST", "PUT", f"X{word.upper()}")[number % 4]
    path = (f"/{word}", f"/ping?{word}={word}", f"/api?sc={200 + number % 400}&delay_ms=0", f"/demo/{word}")[number // 4 % 4]
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {name: word for name in ("User-Agent", "X-Request-Id", "Client-Id", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Referer", "Baggage", word)}
    headers |= {"Host": f"{word}.test:{number % 60000}", "X-Signalbox-Fault": f"{word}=1", "Content-Type": f"text/{word}"}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_series_stay_bounded_under_a_cardinality_attack(service, lens):
    """Statuses are the one thing that a caller may choose, from 200 to 599: each has been asked for before it is counted."""
    for number in range(800):
        attack(service.address, number)
    service.get("/metrics")
    before = series(service)
    for number in range(800):
        attack(service.address, number)
    after = series(service)
    # That of a method begins when a request of it is on its way while metrics are read: ten methods, two schemes.
    active = {line for line in after if line.startswith(b"http_server_active_requests{")}
    assert len(active) <= 20
    more = {line for line in after - before - active if b"otel_sdk" not in line}
    assert not more, f"{len(more)} series more: {sorted({line.partition(b'{')[0] for line in more})[:9]}"
    pushed = {series for series in service.collector.values}
    assert len(after) < 20_000 and len(pushed) < 20_000
    print(f"{len(after)} samples on /metrics after 1,600 requests of {1600 * 12} different values")


@cache
def bombs():
    zeros = b"0" * (200 << 20)
    return {"gzip": gzip.compress(zeros, 6), "deflate": zlib.compress(zeros, 6)}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_decompression_bomb_is_refused(service, lens, encoding):
    bomb = bombs()["deflate" if encoding == "deflate" else "gzip"]
    if encoding == "gzip, gzip":
        bomb = gzip.compress(bomb, 9)
    before = service.memory()
    head = b"content-type: application/json\r\nhost: a\r\nconnection: close\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (encoding.encode(), len(bomb))
    answer = send(service.address, b"POST /faults HTTP/1.1\r\n", head, bomb)
    assert status(answer) in (None, 400, 404, 405, 413, 415)
    assert service.memory() - before < 32 << 20, "it was inflated"
    head = head.replace(b"host: a", b"host: localhost")
    assert status(send(lens.removeprefix("http://"), b"POST /v1/traces HTTP/1.1\r\n", head, bomb)) in (400, 413, 415)
    assert service.get("/ping")[0] == 200 and fetched(f"{lens}/readyz")


def test_slow_callers_keep_nobody_out(service):
    """Half a request each, a byte a second: they are closed, and others are answered meanwhile."""
    host, _, port = service.address.rpartition(":")
    slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(300)]
    for number, connection in enumerate(slow):
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: a\r\nx-" if number % 2 else b"PUT /faults HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        connection.setblocking(False)
    answered, open_ones = 0, list(slow)

    def all_closed():
        nonlocal answered, open_ones
        answered += service.get("/ping")[0] == 200
        still = []
        for connection in open_ones:
            try:
                connection.send(b"a")
                if connection.recv(4096):
                    still.append(connection)
            except BlockingIOError:
                still.append(connection)
            except OSError:
                pass
        open_ones = still
        return not open_ones

    eventually(all_closed, WITHIN_SECONDS)
    assert answered > 3
    for connection in slow:
        connection.close()
