"""A collector that misbehaves as it is told: OTLP over HTTP on a port of this machine. It counts what it acknowledged, and nothing else."""

import gzip
import os
import socket
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

# What a partial success rejects of each request.
REJECTED = 3


class Collector:
    def __init__(self, tls=None):
        # Span by id and record by its bytes, as what is sent twice is one; the newest value of each counter and gauge.
        self.spans, self.records, self.values = {}, {}, {}
        self.rejected = {"traces": 0, "logs": 0}
        # When requests of each signal were refused.
        self.refused_at = {"traces": [], "logs": [], "metrics": []}
        self.tls, self.behaviour, self.port, self.server = tls, fine, 0, None
        self.lock = threading.Lock()
        self.up()

    def up(self):
        self.server = Server(("127.0.0.1", self.port), Exchange)
        self.server.collector = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self):
        """New connections are refused, those that are open end."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server.hang_up()
            self.server = None

    def behave(self, behaviour):
        """From the next request on; those that hang are let go."""
        self.behaviour = behaviour

    def url(self, host="127.0.0.1"):
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def total(self, name, **attributes):
        """The sum of a metric's series that have `attributes`; of those without an error where none is asked for."""
        wanted = {"error.type": None, **{key.replace("_", "."): value for key, value in attributes.items()}}
        fits = lambda found: all(found.get(key) == value for key, value in wanted.items())  # noqa: E731
        with self.lock:
            return sum(value for (metric, series), value in self.values.items() if metric == name and fits(dict(series)))

    def failed(self, name, component=""):
        """Of one component, if it is named."""

        def fits(series):
            return "error.type" in series and series.get("otel.component.type", "").startswith(component)

        with self.lock:
            return sum(value for (metric, series), value in self.values.items() if metric == name and fits(dict(series)))

    def take(self, signal, body, rejecting=0):
        """Counts what a request brings as arrived; the last `rejecting` items as refused."""
        with self.lock:
            if signal == "traces":
                spans = [(of, span) for of in ExportTraceServiceRequest.FromString(body).resource_spans for scope in of.scope_spans for span in scope.spans]
                kept = spans[: max(0, len(spans) - rejecting)]
                self.spans.update({span.span_id: (text(of.resource.attributes, "service.name"), span) for of, span in kept})
                self.rejected[signal] += len(spans) - len(kept)
            elif signal == "logs":
                records = [log for of in ExportLogsServiceRequest.FromString(body).resource_logs for scope in of.scope_logs for log in scope.log_records]
                kept = records[: max(0, len(records) - rejecting)]
                self.records.update({record.SerializeToString(): record for record in kept})
                self.rejected[signal] += len(records) - len(kept)
            else:
                for of in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for metric in (metric for scope in of.scope_metrics for metric in scope.metrics):
                        for point in metric.sum.data_points or metric.gauge.data_points:
                            series = tuple(sorted((pair.key, pair.value.string_value) for pair in point.attributes))
                            self.values[metric.name, series] = point.as_int or point.as_double


def text(attributes, key):
    """An attribute, as text."""
    for pair in attributes:
        if pair.key == key:
            return str(getattr(pair.value, pair.value.WhichOneof("value")))
    return None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *arguments):
        self.connections = set()
        super().__init__(*arguments)

    def get_request(self):
        connection, address = super().get_request()
        if self.collector.tls:
            # The handshake is made by the connection's own thread.
            connection = self.collector.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connections.add(connection)
        return connection, address

    def hang_up(self):
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except (OSError, ValueError):
                pass  # it has ended by itself
        self.connections.clear()

    def handle_error(self, request, client_address):
        """Connections that break are what this is for."""


class Exchange(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        collector = self.server.collector
        self.signal = self.path.rpartition("/")[2]
        behaviour = collector.behaviour
        self.stays = lambda: collector.behaviour is behaviour
        behaviour(self)

    def body(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "Content-Type": "application/x-protobuf", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def fine(exchange):
    exchange.server.collector.take(exchange.signal, exchange.body())
    exchange.answer(200)


def answering(status, **headers):
    def answer(exchange):
        exchange.body()
        exchange.server.collector.refused_at[exchange.signal].append(time.monotonic())
        exchange.answer(status, **headers)

    return answer


def accepting(what):
    """Takes the request, and says so with a body that is no answer."""

    def answer(exchange):
        exchange.server.collector.take(exchange.signal, exchange.body())
        exchange.answer(200, what)

    return answer


def hanging(exchange):
    """Reads the request and never answers."""
    exchange.body()
    while exchange.stays():
        time.sleep(0.05)
    exchange.close_connection = True


def resetting(exchange):
    """Reads the request, then the connection is reset."""
    exchange.body()
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.rfile.close()
    exchange.connection.close()
    exchange.close_connection = True


def trickling(exchange):
    """Reads 200 bytes a second."""
    left = int(exchange.headers["Content-Length"])
    while left and exchange.stays():
        left -= len(exchange.rfile.read(min(left, 20)))
        time.sleep(0.1)
    exchange.close_connection = True


def rejecting(exchange):
    """A partial success: all but three items are taken."""
    collector = exchange.server.collector
    before = dict(collector.rejected)
    collector.take(exchange.signal, exchange.body(), REJECTED)
    answer = ExportTraceServiceResponse() if exchange.signal == "traces" else ExportLogsServiceResponse()
    field = "rejected_spans" if exchange.signal == "traces" else "rejected_log_records"
    setattr(answer.partial_success, field, collector.rejected[exchange.signal] - before[exchange.signal])
    answer.partial_success.error_message = "three too many"
    exchange.answer(200, answer.SerializeToString())


GARBAGE = accepting(os.urandom(4096))
# A group inside a group, as often as the answer has bytes.
NESTED = accepting(b"\x1b" * 60_000)


def certified(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # Every connection shows its certificate: a session that is taken up again would not.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context
