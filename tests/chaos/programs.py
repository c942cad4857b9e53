"""The programs under test, the servers that they need, and the load: all of them real, on ports of their own."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers import BIN, eventually

# For what must happen at some time; long, because the machine may have other work.
WITHIN_SECONDS = 90
CALLERS = 4


class Missing(Exception):
    """What a case needs is not on this machine."""


def need(*programs):
    for program in programs:
        if not (shutil.which(program) or Path(program).exists()):
            raise Missing(f"{program} is not installed")


def alone():
    """Some faults are of the machine: they are made in namespaces of our own, see `chaos.py`."""
    if os.environ.get("SIGNALBOX_CHAOS_ALONE") != "yes":
        raise Missing("needs root, for a network and mounts of its own")


def free_port(address="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


@contextmanager
def folder(owner=None):
    with tempfile.TemporaryDirectory(prefix="signalbox-chaos-") as name:
        if owner and os.geteuid() == 0:
            shutil.chown(name, owner)
        yield Path(name)


# ── our own ──


class Program:
    """`signalbox serve` or `worker`. Its standard output goes to a file, so that nobody has to read along."""

    def __init__(self, role, directory, variables, wrapped=()):
        self.directory = directory
        self.output = directory / f"{role}-{time.monotonic_ns()}"
        environment = {"PATH": os.environ["PATH"], "LOG_FORMAT": "json", "SIGNALBOX_HTTP_THREADS": "2", **variables}
        listen = "SIGNALBOX_LISTEN" if role == "serve" else "SIGNALBOX_WORKER_LISTEN"
        environment.setdefault(listen, "127.0.0.1:0")
        with self.output.open("wb") as stdout, self.errors().open("wb") as stderr:
            command = [*wrapped, BIN / "signalbox", role]
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=stdout, stderr=stderr, start_new_session=True)

    def errors(self):
        return self.output.with_suffix(".err")

    def lines(self):
        """What it wrote, by line; the last may not be whole yet."""
        whole = self.output.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.split("\n") if line]

    def listens(self):
        """Waits until it says where, and keeps the address."""

        def address():
            assert self.process.poll() is None, f"it ended: {self.errors().read_text()}"
            said = re.search(r"listening on http://([0-9.:]+)[\"\s]", self.output.read_text())
            return said and said[1]

        self.address = eventually(address, WITHIN_SECONDS)
        return self

    def get(self, path, timeout=60):
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def pid(self):
        """Its own: what it was wrapped in may stand before it."""
        known = [self.process.pid]
        for pid in known:
            for task in Path(f"/proc/{pid}/task").iterdir():
                known += map(int, (task / "children").read_text().split())
        return next(pid for pid in known if os.readlink(f"/proc/{pid}/exe").endswith("/signalbox"))

    def send(self, number):
        os.kill(self.pid(), number)

    def memory(self):
        """Resident, in bytes."""
        status = Path(f"/proc/{self.pid()}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def stop(self):
        """Asks it to end. Its code, and the seconds that it took."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        code = self.process.wait(WITHIN_SECONDS)
        return code, time.monotonic() - began

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def program(role, directory, variables, wrapped=()):
    running = Program(role, directory, variables, wrapped)
    try:
        yield running.listens()
    finally:
        running.kill()


def exporting(collector, witness, host="127.0.0.1"):
    """Settings of a program whose spans and records go to the collector. Its metrics go to a witness that is always well: they count what was lost."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url(host),
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{witness.url()}/v1/metrics",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "OTEL_SERVICE_NAME": "signalbox-api",
    }


# ── load ──


class Load:
    """Requests by several callers at once: each so many, or until it is ended."""

    def __init__(self, address, path, each=None):
        self.address, self.path, self.each = address, path, each
        self.statuses, self.orders, self.degraded, self.unanswered = Counter(), [], 0, []
        self.over, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def call(self):
        connection, reused = http.client.HTTPConnection(self.address, timeout=120), False
        left = self.each
        while not self.over.is_set() and left != 0:
            left = left and left - 1
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                self.count(answer.status, answer.read())
                reused = True
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A server may close a connection that was idle for too long; then the request is sent again, on a new one.
                if reused and isinstance(error, (ConnectionError, http.client.RemoteDisconnected)):
                    left = left and left + 1
                    reused = False
                    continue
                with self.lock:
                    self.unanswered.append(repr(error))
            if self.each is None:
                time.sleep(0.02)
        connection.close()

    def count(self, status, body):
        placed = json.loads(body) if status == 200 and self.path == "/demo/work" else {}
        with self.lock:
            self.statuses[status] += 1
            if placed:
                self.orders.append(placed["order"]["id"])
                self.degraded += bool(placed["degraded"])

    def end(self):
        self.over.set()
        return self.join()

    def join(self):
        for thread in self.threads:
            thread.join()
        return self


# ── servers of others ──


def as_user(user, command):
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command] if os.geteuid() == 0 else command


def accepts(address, port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


class OtherServer:
    """A server of another project, in a directory of its own, which can be stopped and started again."""

    user, ends_with, address = None, signal.SIGTERM, "127.0.0.1"

    def __init__(self, directory):
        self.directory, self.process, self.port = directory, None, free_port()
        self.create()
        self.up()

    def create(self):
        """What it needs before its first start."""

    def up(self, *options):
        command = as_user(self.user, self.command(*options)) if self.user else self.command(*options)
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=output, stderr=output, start_new_session=True)
        eventually(self.ready, WITHIN_SECONDS)

    def ready(self):
        return accepts(self.address, self.port)

    def down(self):
        if self.process:
            self.process.send_signal(self.ends_with)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def hang(self, number):
        """SIGSTOP or SIGCONT, to it and to the processes that serve its sessions."""
        for pid in [self.process.pid, *Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]:
            with suppress(ProcessLookupError):  # a session that has ended meanwhile
                os.kill(int(pid), number)

    def run(self, *command):
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.directory).stdout

    def moves_to(self, address):
        """Stopped here, started there: what a failover looks like to those who know its name."""
        self.down()
        self.address = address
        self.up()


class Postgres(OtherServer):
    name, user, ends_with = "PostgreSQL", "postgres", signal.SIGINT
    storm = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'signalbox'"

    def programs(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise Missing("postgresql is not installed")
        return found[-1].parent

    def create(self):
        self.run(*as_user(self.user, [self.programs() / "initdb", "--auth=trust", "--username=signalbox", "--no-sync", "-D", "data"]))

    def command(self, *options):
        # A server that was killed leaves its lock behind.
        (self.directory / "data/postmaster.pid").unlink(missing_ok=True)
        settings = [f"listen_addresses={self.address}", "unix_socket_directories=", "fsync=off", "max_connections=30", *options]
        return [self.programs() / "postgres", "-D", "data", "-p", str(self.port), *(part for setting in settings for part in ("-c", setting))]

    def ready(self):
        ready = subprocess.run([self.programs() / "pg_isready", "-h", self.address, "-p", str(self.port)], capture_output=True, check=False)
        return ready.returncode == 0

    def url(self, host=None):
        return f"postgres://signalbox@{host or self.address}:{self.port}/postgres"

    def sql(self, text):
        return self.run("psql", "-qAt", self.url(), "-c", text)

    def read_only(self, yes):
        self.sql(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if yes else 'off'}")
        self.sql("SELECT pg_reload_conf()")

    def session(self):
        return subprocess.Popen(["psql", "-qAt", self.url(), "-c", "SELECT pg_sleep(120)"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end_sessions(self):
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'signalbox'")


class MariaDb(OtherServer):
    name, user = "MariaDB", "mysql"

    def create(self):
        need("mariadb-install-db", "/usr/sbin/mariadbd")
        self.data = f"--datadir={self.directory}/data"
        self.run(*as_user(self.user, ["mariadb-install-db", "--no-defaults", self.data, "--auth-root-authentication-method=normal", "--skip-test-db"]))
        users = "CREATE USER IF NOT EXISTS signalbox IDENTIFIED BY 'secret'; GRANT ALL ON signalbox.* TO signalbox;"
        (self.directory / "init.sql").write_text(f"CREATE DATABASE IF NOT EXISTS signalbox;\n{users.replace('; ', ';' + chr(10))}\n")

    def command(self, *options):
        own = [f"--bind-address={self.address}", f"--port={self.port}", self.data, f"--socket={self.directory}/socket", f"--init-file={self.directory}/init.sql"]
        return ["/usr/sbin/mariadbd", "--no-defaults", "--innodb-flush-log-at-trx-commit=0", "--max-connections=30", *own, *options]

    def url(self, host=None):
        return f"mysql://signalbox:secret@{host or self.address}:{self.port}/signalbox"

    def client(self, text):
        return ["mariadb", "--no-defaults", "-N", "-h", self.address, "-P", str(self.port), "-u", "root", "signalbox", "-e", text]

    def sql(self, text):
        return self.run(*self.client(text))

    def read_only(self, yes):
        # root is exempt, the service is not.
        self.sql(f"SET GLOBAL read_only = {int(yes)}")

    def session(self):
        login = ["-u", "signalbox", "-psecret"]
        command = ["mariadb", "--no-defaults", "-h", self.address, "-P", str(self.port), *login, "signalbox", "-e", "SELECT SLEEP(120)"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end_sessions(self):
        self.sql("KILL USER signalbox")


class Redis(OtherServer):
    name = "Redis"

    def create(self):
        need("redis-server", "redis-cli")

    def command(self, *options):
        return ["redis-server", "--port", str(self.port), "--bind", self.address, "--save", "", "--appendonly", "no", *options]

    def url(self, host=None):
        return f"redis://{host or self.address}:{self.port}/0"

    def ask(self, *words):
        return self.run("redis-cli", "-h", self.address, "-p", str(self.port), *words)


@contextmanager
def server(of):
    with folder(of.user) as directory:
        running = of(directory)
        try:
            yield running
        finally:
            if running.process:
                running.hang(signal.SIGCONT)
            running.down()
