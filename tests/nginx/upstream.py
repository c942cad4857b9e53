"""A server behind the balancer. It keeps what arrives and says who it is; a test can make it answer otherwise, die and come back."""

import json
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    upstream: str
    method: str
    path: str
    headers: dict
    body: bytes


class Upstream:
    def __init__(self, name, address, port):
        self.name, self.address, self.port = name, address, port
        self.service = name.split("-")[0]
        self.arrived = []
        self.answer = say_who
        self.start()

    def start(self):
        self.server = Server((self.address, self.port), Handler)
        self.server.upstream = self
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self):
        """As a killed process: new connections are refused, those that are open end. Stopping twice is once."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        for connection in self.server.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments):
        self.connections = []
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """A connection that a killed server leaves behind is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self):
        upstream = self.server.upstream
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(upstream.name, self.command, self.path, headers, body)
        upstream.arrived.append(request)
        upstream.answer(self, request)

    do_GET = do_POST = do_PUT = do_DELETE = handle_request

    def log_message(self, *_):
        """The test says what arrived."""


def say_who(handler, request):
    reply(handler, 200, json.dumps({"upstream": request.upstream}))


def reply(handler, status, text):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text.encode())


def refuse(status):
    """An answer of this status that says who refused."""
    return lambda handler, request: reply(handler, status, f"{request.upstream} refuses")


def hang_up(handler, _request):
    """Dies after it has read the request and before it answers."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
