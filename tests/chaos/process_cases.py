"""What the machine does to the process itself: it is suspended, its clock jumps, it gets no descriptor, no thread, no disk, no more memory."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from collector import Collector, hanging, text
from helpers import BIN, eventually
from programs import CALLERS, WITHIN_SECONDS, Load, Missing, Postgres, alone, exporting, folder, need, program, server

SUSPENDED_SECONDS = 30
SPANS = 5
# What README.md states for the service at rest, the two queues at their default bounds, and what a debug build and the kernel's own count take besides.
MEMORY_LIMIT = (48 + 32 + 16 + 64) << 20


@contextmanager
def started(wrapped=(), behaviour=None, **more):
    with folder() as directory:
        os.chmod(directory, 0o777)
        collector, witness = Collector(), Collector()
        if behaviour:
            collector.behave(behaviour)
        try:
            variables = {**exporting(collector, witness), "SIGNALBOX_FLUSH_TIMEOUT_MS": "5000", **more}
            with program("serve", directory, variables, wrapped) as service:
                yield service, collector, witness
        finally:
            collector.down()
            witness.down()


def ends_well(service, requests, collector):
    """It stops with 0, and no span of the requests is missing."""
    code, _ = service.stop()
    assert code == 0, f"it ended with {code}: {service.errors().read_text()}"
    pings = [span for _, span in collector.spans.values() if text(span.attributes, "http.route") == "/ping"]
    assert len(pings) == requests, f"{len(pings)} server spans of {requests} requests"
    return f"{requests} requests, {len(pings)} server spans"


def suspended():
    with started() as (service, collector, _):
        load = Load(service.address, "/ping")
        time.sleep(2)
        service.send(signal.SIGSTOP)
        time.sleep(SUSPENDED_SECONDS)
        service.send(signal.SIGCONT)
        time.sleep(2)
        load.end()
        assert not load.unanswered and set(load.statuses) == {200}, (load.unanswered[:3], load.statuses)
        return ends_well(service, load.statuses[200], collector)


def clock_stepped():
    """A library before libc's moves the wall clock, by a file that is replaced while the program runs; the monotonic clock stays."""
    need("cc")
    with folder() as directory:
        os.chmod(directory, 0o755)
        library, clock = directory / "clock.so", directory / "clock"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, Path(__file__).with_name("clock.c")], check=True, capture_output=True)

        def step(seconds):
            # Replaced whole: a file that is empty for a moment would be a step of its own.
            (directory / "next").write_text(str(seconds))
            (directory / "next").rename(clock)

        step(0)
        with started(LD_PRELOAD=str(library), SIGNALBOX_CHAOS_CLOCK=str(clock)) as (service, collector, _):
            sent = 0
            for seconds in (0, -3600, 86_400, 0):
                step(seconds)
                load = Load(service.address, "/ping", 50).join()
                assert load.statuses == {200: 50 * CALLERS}, (load.statuses, load.unanswered[:3])
                sent += 50 * CALLERS
            seen = ends_well(service, sent, collector)
            backwards = [span for _, span in collector.spans.values() if span.end_time_unix_nano < span.start_time_unix_nano]
            assert not backwards, f"{len(backwards)} spans end before they begin"
            days = {span.start_time_unix_nano // (86_400 * 10**9) for _, span in collector.spans.values()}
            assert len(days) > 1, "the clock did not move"
            return f"{seen}, none ends before it begins"


def no_descriptor():
    need("prlimit")
    with started() as (service, collector, _):
        opened = lambda: len(os.listdir(f"/proc/{service.pid()}/fd"))  # noqa: E731
        eventually(lambda: service.get("/ping")[0] == 200, WITHIN_SECONDS)
        limit = opened() + 8
        subprocess.run(["prlimit", "--pid", str(service.pid()), f"--nofile={limit}:{limit}"], check=True)
        host, _, port = service.address.rpartition(":")
        held = [socket.create_connection((host, int(port))) for _ in range(64)]
        eventually(lambda: opened() >= limit, WITHIN_SECONDS)
        time.sleep(2)
        for connection in held:
            connection.close()
        load = Load(service.address, "/ping", 50).join()
        assert load.statuses == {200: 50 * CALLERS}, (load.statuses, load.unanswered[:3])
        told = [line["message"] for line in service.lines() if "os error 24" in line["message"]]
        assert told, "it does not say so"
        return f"{limit} of {limit} in use, it said “{told[0][:70]}”; {ends_well(service, 50 * CALLERS + 1, collector)}"


def no_thread():
    """A limit of processes for a user who has no others."""
    alone()
    user = ["setpriv", "--reuid=64123", "--regid=64123", "--clear-groups"]
    with started(user) as (service, collector, _):
        threads = len(os.listdir(f"/proc/{service.pid()}/task"))
        limit = [*user, "prlimit", "--pid", str(service.pid())]
        subprocess.run([*limit, f"--nproc={threads}:"], check=True)
        # Work that wants a thread: the blocking pool makes one when it has none to spare.
        load = Load(service.address, "/demo/work", 25).join()
        others = Load(service.address, "/ping", 50).join()
        assert not load.unanswered and not others.unanswered, (load.unanswered[:3], others.unanswered[:3])
        assert others.statuses == {200: 50 * CALLERS}, others.statuses
        subprocess.run([*limit, "--nproc=1000:"], check=True)
        after = Load(service.address, "/demo/work", 5).join()
        assert set(after.statuses) == {200}, after.statuses
        seen = f"{threads} threads; /demo/work meanwhile {dict(load.statuses)}"
        return f"{seen}; {ends_well(service, 50 * CALLERS, collector)}"


def no_thread_at_start():
    """It cannot start then, and says why."""
    alone()
    with folder() as directory:
        os.chmod(directory, 0o777)
        limit = ["prlimit", "--nproc=3:3", "setpriv", "--reuid=64124", "--regid=64124", "--clear-groups"]
        environment = {"PATH": os.environ["PATH"], "SIGNALBOX_LISTEN": "127.0.0.1:0"}
        done = subprocess.run([*limit, BIN / "signalbox", "serve"], cwd=directory, env=environment, capture_output=True, text=True, timeout=WITHIN_SECONDS)
        assert done.returncode in (1, 101), f"it ended with {done.returncode}: {done.stderr}"
        assert "thread" in done.stderr or "Resource temporarily unavailable" in done.stderr, done.stderr
        return f"it ends with {done.returncode}: {done.stderr.strip().splitlines()[0][:160]}"


def full_tmp():
    """The demo's database is elsewhere, so nothing of it should need /tmp."""
    alone()
    full = "mount -t tmpfs -o size=64k tmpfs /tmp && dd if=/dev/zero of=/tmp/full bs=64k 2>/dev/null; exec \"$@\""
    return in_mounts(full)


def read_only_root():
    alone()
    return in_mounts("mount --bind / / && mount -o remount,bind,ro / && ! touch /tmp/signalbox-read-only 2>/dev/null && exec \"$@\"")


def in_mounts(prepare):
    with server(Postgres) as postgres:
        with started(["unshare", "--mount", "sh", "-c", prepare, "sh"], DATABASE_URL=postgres.url()) as (service, collector, _):
            load = Load(service.address, "/demo/work", 10).join()
            assert load.statuses == {200: 10 * CALLERS}, (load.statuses, load.unanswered[:3])
            pings = Load(service.address, "/ping", 50).join()
            assert pings.statuses == {200: 50 * CALLERS}, pings.statuses
            return f"{10 * CALLERS} orders; {ends_well(service, 50 * CALLERS, collector)}"


def memory_limited():
    """A control group of the kernel ends what takes more. The collector hangs, so that the queues fill as far as they may."""
    groups = Path("/sys/fs/cgroup/memory")
    if not (groups / "memory.limit_in_bytes").exists() or not os.access(groups, os.W_OK):
        raise Missing("needs a writable control group of version 1")
    group = groups / f"signalbox-chaos-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(MEMORY_LIMIT))
        join = ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]
        with started(join, hanging) as (service, _, witness):
            load = Load(service.address, "/ping", 8000).join()
            assert load.statuses == {200: 8000 * CALLERS}, (load.statuses, load.unanswered[:3])
            code, _ = service.stop()
            assert code == 0, f"it ended with {code}"
            most = int((group / "memory.max_usage_in_bytes").read_text())
            made, lost = 8000 * CALLERS * SPANS, witness.failed("otel.sdk.exporter.span.exported") + witness.failed("otel.sdk.processor.span.processed")
            assert lost == made, f"{lost:.0f} spans lost of {made} made"
            return f"{made} spans made, all lost and counted; most memory {most >> 20} of {MEMORY_LIMIT >> 20} MB, caches of files included"
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), WITHIN_SECONDS)
        group.rmdir()
