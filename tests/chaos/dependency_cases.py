"""Databases, Redis and the worker fail under load, and come back: the same process serves again, without a restart.

What must hold: every answer is one that the contract names for that fault; each acknowledged order is stored, none twice; the server spans have the statuses
that the callers got, one for one, and those of failures say so; where a dependency fails, its own span has the error; and when the fault is over, all is whole.
"""

import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from collector import Collector, text
from helpers import eventually
from programs import WITHIN_SECONDS, Load, MariaDb, Postgres, Program, Redis, alone, exporting, folder, program, server

FAULT_SECONDS = 4
# Of what fails: short, so that it is given up while the fault is on. Of everything else: long, so that a busy machine does not look like a fault.
SHORT, LONG = "800", "8000"
TIMEOUTS = {
    Postgres: ("SIGNALBOX_DATABASE_ACQUIRE_TIMEOUT_MS", "SIGNALBOX_DATABASE_STATEMENT_TIMEOUT_MS"),
    Redis: ("SIGNALBOX_REDIS_TIMEOUT_MS",),
    None: ("SIGNALBOX_WORKER_TIMEOUT_MS",),
}
TIMEOUTS[MariaDb] = TIMEOUTS[Postgres]
# Answers while a database is away: it says so, or that nobody knows in time.
AWAY = {200, 503, 504}


@dataclass(frozen=True)
class Fault:
    name: str
    # Class of the server that fails; None is the worker.
    of: object
    # A context inside of which the fault is on. It is given the server, or the worker.
    on: object
    # Every answer is one of these,
    allowed: frozenset
    # and some are this status; None is a 200 that names what was missing.
    shows: int | None
    # Whether spans of calls to it must have failed.
    fails: bool = False
    # The name under which the service knows it, where that is the fault.
    host: str | None = None
    quick: bool = False


@contextmanager
def stopped(it):
    it.down()
    time.sleep(FAULT_SECONDS)
    yield
    it.up()


@contextmanager
def restarted(it):
    for _ in range(3):
        it.down()
        it.up()
        time.sleep(FAULT_SECONDS / 3)
    yield


@contextmanager
def hanging(it):
    it.hang(signal.SIGSTOP)
    time.sleep(FAULT_SECONDS)
    yield
    it.hang(signal.SIGCONT)


@contextmanager
def slow(it):
    """It runs for a tenth of the time."""
    until = time.monotonic() + FAULT_SECONDS
    while time.monotonic() < until:
        it.hang(signal.SIGSTOP)
        time.sleep(0.45)
        it.hang(signal.SIGCONT)
        time.sleep(0.05)
    yield


@contextmanager
def read_only(it):
    it.read_only(True)
    it.end_sessions()
    time.sleep(FAULT_SECONDS)
    yield
    it.read_only(False)
    it.end_sessions()


@contextmanager
def sessions_ended(it):
    for _ in range(20):
        it.end_sessions()
        time.sleep(FAULT_SECONDS / 20)
    yield


@contextmanager
def storm(it):
    """Others take every connection that there is."""
    others = []
    until = time.monotonic() + FAULT_SECONDS
    it.end_sessions()
    while time.monotonic() < until:
        others = [other for other in others if other.poll() is None]
        others += [it.session() for _ in range(35 - len(others))]
        time.sleep(0.2)
    yield
    for other in others:
        other.kill()
        other.wait()


@contextmanager
def moved(it):
    """Its name leads to another address, and nobody is left at the old one."""
    alone()
    it.moves_to("127.0.0.2")
    with open("/etc/hosts") as hosts:
        others = [line for line in hosts if "moving.test" not in line]
    with open("/etc/hosts", "w") as hosts:
        hosts.writelines([*others, "127.0.0.2 moving.test\n"])
    yield


@contextmanager
def redis_full(it):
    it.ask("CONFIG", "SET", "maxmemory", "1")
    time.sleep(FAULT_SECONDS)
    yield
    it.ask("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def redis_read_only(it):
    it.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    time.sleep(FAULT_SECONDS)
    yield
    it.ask("CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def redis_storm(it):
    """The one connection that is left is another's, and the service's own are ended."""
    with socket.create_connection((it.address, it.port)) as other:
        other.sendall(b"CONFIG SET maxclients 1\r\n")
        for _ in range(10):
            other.sendall(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
            time.sleep(FAULT_SECONDS / 10)
        yield
        other.sendall(b"CONFIG SET maxclients 1000\r\n")
        other.recv(4096)


class Worker:
    """Our own second program, which fails as a server does."""

    def __init__(self, directory, variables):
        self.directory, self.variables, self.program = directory, dict(variables), None
        self.up()
        self.variables["SIGNALBOX_WORKER_LISTEN"] = self.program.address

    def up(self):
        self.program = Program("worker", self.directory, self.variables).listens()

    def down(self):
        self.program.kill()

    def hang(self, number):
        self.program.send(number)

    def moves_to(self, address):
        self.down()
        self.variables["SIGNALBOX_WORKER_LISTEN"] = f"{address}:{self.program.address.rpartition(':')[2]}"
        self.up()

    def url(self, host=None):
        return f"http://{host or '127.0.0.1'}:{self.program.address.rpartition(':')[2]}"


def faults():
    away = frozenset(AWAY)
    for of in (Postgres, MariaDb):
        quick = of is Postgres
        yield Fault("stopped", of, stopped, away, 503, quick=quick)
        yield Fault("restarted three times", of, restarted, away, None)
        yield Fault("hanging", of, hanging, away, None, quick=quick)
        yield Fault("slow", of, slow, away, None)
        yield Fault("read-only", of, read_only, away, 503, fails=True)
        yield Fault("ends every session", of, sessions_ended, away, None)
        yield Fault("has no connection left", of, storm, away, 503)
        yield Fault("at another address", of, moved, away, None, host="moving.test")
    fine = frozenset({200})
    for name, on in (("stopped", stopped), ("restarted three times", restarted), ("hanging", hanging)):
        yield Fault(name, Redis, on, fine, 200, quick=name != "restarted three times")
    # What is read is there, and what cannot be handed over by Redis goes to the worker directly.
    for name, on in (("full", redis_full), ("read-only", redis_read_only), ("has no connection left", redis_storm)):
        yield Fault(name, Redis, on, fine, None, fails=True)
    yield Fault("slow", Redis, slow, fine, None)
    yield Fault("at another address", Redis, moved, fine, None, host="moving.test")
    for name, on in (("stopped", stopped), ("restarted three times", restarted), ("hanging", hanging)):
        yield Fault(name, None, on, fine, 200, quick=name == "hanging")
    # It may answer in time all the same.
    yield Fault("slow", None, slow, fine, None)
    yield Fault("at another address", None, moved, fine, None, host="moving.test")


@contextmanager
def placed(fault):
    """The service with its worker, all signals going to a collector, and what is to fail."""
    with ExitStack() as stack:
        if fault.host:
            alone()
            lead_here(fault.host)
        directory = stack.enter_context(folder())
        collector = Collector()
        stack.callback(collector.down)
        variables = {**exporting(collector, collector), "SIGNALBOX_FLUSH_TIMEOUT_MS": "30000", "SIGNALBOX_REQUEST_TIMEOUT_MS": "30000"}
        variables |= {name: SHORT if names is TIMEOUTS[fault.of] else LONG for names in TIMEOUTS.values() for name in names}
        worker = Worker(directory, variables)
        stack.callback(worker.down)
        it, at = (stack.enter_context(server(fault.of)), "REDIS_URL" if fault.of is Redis else "DATABASE_URL") if fault.of else (worker, None)
        if at:
            variables[at] = it.url(fault.host)
        variables["SIGNALBOX_WORKER_URL"] = worker.url(None if at else fault.host)
        yield stack.enter_context(program("serve", directory, variables)), collector, it


def lead_here(host):
    """`host` is this machine, until its file of names says otherwise."""
    with open("/etc/hosts") as hosts:
        others = [line for line in hosts if host not in line]
    with open("/etc/hosts", "w") as hosts:
        hosts.writelines([*others, f"127.0.0.1 {host}\n"])


def run(fault):
    with placed(fault) as (service, collector, it):
        def whole():
            status, body = service.get("/demo/work")
            return status == 200 and b'"degraded":[]' in body

        eventually(whole, WITHIN_SECONDS)
        load = Load(service.address, "/demo/work")
        try:
            with fault.on(it):
                pass
            back = time.monotonic()
            eventually(lambda: all(whole() for _ in range(10)), WITHIN_SECONDS)
            took = time.monotonic() - back
        finally:
            load.end()
        pid, code = service.pid(), service.stop()[0]
        assert code == 0, service.errors().read_text()
        return ", ".join([*answers(fault, load), *stored(fault, it, load), *spans(fault, collector, load), f"whole again after {took:.1f} s in process {pid}"])


def answers(fault, load):
    assert not load.unanswered, load.unanswered[:3]
    assert set(load.statuses) <= fault.allowed, f"answers of other kinds: {dict(load.statuses)}"
    if fault.shows == 200:
        assert load.degraded, "nobody was told that something was missing"
        return [f"{load.statuses[200]} × 200, {load.degraded} of them degraded"]
    if fault.shows:
        assert load.statuses[fault.shows], f"nobody saw it: {dict(load.statuses)}"
    return [", ".join(f"{count} × {status}" for status, count in sorted(load.statuses.items()))]


def stored(fault, it, load):
    assert len(load.orders) == len(set(load.orders)), "an order was acknowledged twice"
    if fault.of not in (Postgres, MariaDb):
        return []
    kept = {int(line) for line in it.sql("SELECT id FROM orders").split()}
    missing = set(load.orders) - kept
    assert not missing, f"acknowledged and not stored: {sorted(missing)[:5]}"
    return [f"{len(load.orders)} orders acknowledged, all stored"]


def spans(fault, collector, load):
    """What the callers saw is what the spans say. Ten and more requests were our own, while it got well again: they were 200."""
    own = [span for service, span in collector.spans.values() if service == "signalbox-api"]
    served = [span for span in own if span.kind == span.SPAN_KIND_SERVER and text(span.attributes, "http.route") == "/demo/work"]
    statuses = Counter(int(text(span.attributes, "http.response.status_code")) for span in served)
    for status in load.statuses.keys() - {200}:
        assert statuses[status] >= load.statuses[status], f"{status}: {load.statuses[status]} answers, {statuses[status]} spans"
    wrong = [span for span in served if (int(text(span.attributes, "http.response.status_code")) >= 500) != (span.status.code == span.status.STATUS_CODE_ERROR)]
    assert not wrong, f"{len(wrong)} server spans whose status is not that of their answer"
    unnamed = [span for span in served if span.status.code == span.status.STATUS_CODE_ERROR and not text(span.attributes, "error.type")]
    assert not unnamed, f"{len(unnamed)} failed server spans without error.type"
    failed = [span for span in own if span.kind in (span.SPAN_KIND_CLIENT, span.SPAN_KIND_PRODUCER) and span.status.code == span.status.STATUS_CODE_ERROR]
    kinds = Counter(text(span.attributes, "error.type") or "none" for span in failed)
    assert "none" not in kinds, f"failed spans without error.type: {kinds}"
    # A database that gives no connection is asked nothing: there may be no span of a statement then.
    if fault.fails or (fault.shows and fault.of not in (Postgres, MariaDb)):
        assert failed, "no span of the dependency has an error"
    return [f"{len(served)} server spans, failed client spans: {', '.join(f'{count} × {kind}' for kind, count in kinds.most_common(3)) or 'none'}"]
