"""What the stack that runs loses when its parts are killed, cut off or filled up: `make chaos-stack`.

Each case sends requests of known ids and of a status that nobody else asks for, does one thing to the stack meanwhile, mends it, and then counts at the
stores, request by request, what of the answered ones is missing. `make doctor` is asked while the fault is on and must name the place. The losses are held
against the bounds that the table of docs/reliability.md states, and that table is written by this command (--write).

`make chaos-stack ARGS="tempo alloy"` runs the cases that have one of the words in their name.
"""

import argparse
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from page import put_between

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by make chaos-stack -->", "<!-- end of what make chaos-stack makes -->"

# Once all is ready again: how long the stores may take to have what was queued, and after how long without anything new the rest counts as lost.
# A push that hangs in a store that died is given up by Alloy after 30 s, and tried again some seconds later.
ARRIVES_WITHIN_SECONDS = 240
NOTHING_NEW_SECONDS = 80
# What the service has not handed over yet when it is killed: spans every second, records every second, metrics every five; and a request in between.
SERVICE = {"logs": 3, "traces": 3, "metrics": 8}
# What Tempo has acknowledged and not written yet (tempo/tempo.yaml).
TEMPO = {"traces": 12}


@dataclass(frozen=True)
class Case:
    name: str
    # What is done, and undone at the end of the context.
    fault: object
    # Seconds' worth of requests that may be missing, by signal. Nothing otherwise.
    bound: dict = field(default_factory=dict)
    # One of these stands in what `make doctor` says meanwhile; None where it cannot be asked.
    named: tuple | None = ()
    # Seconds; None is what the command line says.
    lasts: int | None = None


def compose(*arguments, check=True):
    # The base alone: `make` lays every system over it, and what one of them needs of a service is not there.
    environment = {**os.environ, "COMPOSE_FILE": "docker-compose.yml"}
    return subprocess.run(["docker", "compose", *arguments], cwd=ROOT, env=environment, check=check, capture_output=True, text=True)


def running():
    return set(compose("ps", "--services", "--status", "running").stdout.split())


@contextmanager
def killed(*services):
    """At once, without a chance to write anything down; started again at the end."""
    present = [service for service in services if service in running()]
    compose("kill", "--signal", "KILL", *present)
    try:
        yield
    finally:
        compose("start", *present)


@contextmanager
def everything_killed():
    compose("kill", "--signal", "KILL")
    try:
        yield
    finally:
        compose("up", "--detach", "--no-build")


@contextmanager
def stopped(service):
    compose("stop", service)
    try:
        yield
    finally:
        compose("start", service)


@contextmanager
def full(service, target, user):
    """The service's volume is a small one meanwhile, and nothing is left on it."""
    project = json.loads(compose("config", "--format", "json").stdout)["name"]
    volume, small = f"{project}_chaos", 48
    options = ["--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o=size={small}m,uid={user}"]
    overlay = {"services": {service: {"volumes": [f"chaos:{target}"]}}, "volumes": {"chaos": {"external": True, "name": volume}}}
    file = ROOT / f".chaos-{project}.json"
    subprocess.run(["docker", "volume", "create", *options, volume], check=True, capture_output=True)
    try:
        file.write_text(json.dumps(overlay))
        compose("-f", "docker-compose.yml", "-f", str(file), "up", "--detach", "--no-deps", "--no-build", service)
        wait()
        image = json.loads(compose("config", "--format", "json").stdout)["services"]["probe"]["image"]
        fill = ["docker", "run", "--rm", "--user", "0", "--volume", f"{volume}:/full", image, "sh", "-c", "cat /dev/zero >/full/filler"]
        subprocess.run(fill, check=False, capture_output=True)
        yield
        subprocess.run([*fill[:-1], "rm /full/filler"], check=True, capture_output=True)
    finally:
        # What it took meanwhile is counted before its own volume comes back: see `run`.
        LATER.append(lambda: restore(service, volume, file))


def restore(service, volume, file):
    compose("up", "--detach", "--no-deps", "--no-build", service)
    subprocess.run(["docker", "volume", "rm", volume], check=False, capture_output=True)
    file.unlink(missing_ok=True)


# What is put back once the case has been counted.
LATER = []


@contextmanager
def packets_lost(service, to, percent):
    """Of what goes from one container to another and back. By netfilter, because not every kernel has netem; needs root on this machine."""
    pid = container(service, "{{.State.Pid}}")
    address = container(to, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    inside = ["nsenter", "--target", pid, "--net", "iptables"]
    chance = ["-m", "statistic", "--mode", "random", "--probability", str(percent / 100), "-j", "DROP"]
    rules = [["OUTPUT", "-d", address, *chance], ["INPUT", "-s", address, *chance]]
    for rule in rules:
        subprocess.run([*inside, "-A", *rule], check=True, capture_output=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([*inside, "-D", *rule], check=True, capture_output=True)


def container(service, template):
    name = compose("ps", "--quiet", service).stdout.strip()
    return subprocess.run(["docker", "inspect", "--format", template, name], check=True, capture_output=True, text=True).stdout.strip()


def kill(service, bound=None, named=()):
    return Case(f"kill -9 {service}", lambda: killed(service), bound or {}, named if named is None else (*named, f"{service}: not ready"))


CASES = [
    kill("signalbox-api", SERVICE),
    kill("signalbox-worker"),
    kill("postgres"),
    kill("redis"),
    kill("alloy", named=("between the service and alloy",)),
    kill("nginx-push"),
    kill("nginx-query"),
    kill("loki"),
    kill("mimir-2"),
    kill("tempo", TEMPO),
    kill("pyroscope"),
    kill("minio"),
    kill("grafana"),
    # `make doctor` runs in it.
    kill("probe", named=None),
    Case("kill -9 alloy and loki", lambda: killed("alloy", "loki"), {}, ("alloy: not ready",)),
    Case("kill -9 two of three Mimirs", lambda: killed("mimir-1", "mimir-3"), {}, ("mimir-1: not ready",)),
    Case("kill -9 tempo and nginx-push", lambda: killed("tempo", "nginx-push"), TEMPO, ("tempo: not ready",)),
    Case("kill -9 of all at once", everything_killed, {"logs": 3, "traces": 15, "metrics": 8}, None),
    Case("Loki's disk full", lambda: full("loki", "/loki", 10001), {}, ("loki",)),
    Case("MinIO away", lambda: stopped("minio"), {}, ("minio: not ready",), lasts=600),
    Case("5 % of packets lost, Alloy and nginx-push", lambda: packets_lost("alloy", "nginx-push", 5), {}, ("healthy", "alloy")),
]


# ── what is sent ──


def setting(name):
    if name in os.environ:
        return os.environ[name]
    return re.search(rf"^{name}=(.*)$", (ROOT / ".env").read_text(), re.MULTILINE)[1]


def url(port):
    return f"http://{setting('BIND')}:{setting(port)}"


class Load:
    """`rate` requests a second, each due at its own moment, whatever becomes of the others. Keeps the ids of those that were answered as asked."""

    def __init__(self, rate, status):
        self.run = f"chaos-{secrets.token_hex(4)}"
        self.rate, self.status = rate, status
        self.sent, self.answered = 0, {}
        self.began = time.time()
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.threads = ThreadPoolExecutor(64)
        self.clock = threading.Thread(target=self.tick)
        self.clock.start()

    def tick(self):
        due = time.monotonic()
        while not self.over.is_set():
            self.threads.submit(self.request, self.sent)
            self.sent += 1
            due += 1 / self.rate
            time.sleep(max(0, due - time.monotonic()))

    def request(self, number):
        trace_id, request_id = secrets.token_hex(16), f"{self.run}-{number}"
        headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", "x-request-id": request_id}
        try:
            urlopen(Request(f"{url('API_PORT')}/api?sc={self.status}&delay_ms=0", headers=headers), timeout=30).close()
        except (HTTPError, URLError, TimeoutError, ConnectionError, OSError):
            return
        with self.lock:
            self.answered[request_id] = trace_id

    def end(self):
        self.over.set()
        self.clock.join()
        self.threads.shutdown()


# ── what is found ──


def ask(base, path, **parameters):
    with urlopen(f"{base}{path}?{urlencode(parameters)}", timeout=60) as answer:
        return json.load(answer)


def records(load):
    """Request ids in the access log, as often as they stand there."""
    query = f'{{service_name="signalbox-api"}} |= "GET /api {load.status}" | signalbox_request_id=~"{load.run}-.*"'
    window = {"start": int((load.began - 60) * 1e9), "end": int((time.time() + 60) * 1e9), "limit": 5000}
    found = ask(url("QUERY_LOKI_PORT"), "/loki/api/v1/query_range", query=query, **window)["data"]["result"]
    return [stream["stream"]["signalbox_request_id"] for stream in found for _ in stream["values"]]


def traces(load):
    """Trace ids of the server spans that Tempo has. By one search: a look-up by id reads hundreds of ranges from the object store, for each of thousands."""
    query = f'{{ name = "GET /api" && span.http.response.status_code = {load.status} }}'
    window = {"start": int(load.began - 60), "end": int(time.time() + 60), "limit": load.sent + 1, "spss": 1}
    found = ask(url("QUERY_TEMPO_PORT"), "/api/search", q=query, **window).get("traces", [])
    # Tempo leaves out leading zeros.
    return {trace["traceID"].zfill(32) for trace in found}


def counted(load):
    """By every process that served; a process's counter only grows."""
    selector = f'http_server_request_duration_seconds_count{{service_name="signalbox-api",http_response_status_code="{load.status}"}}'
    minutes = int((time.time() - load.began) / 60) + 2
    query = f"sum(max_over_time({selector}[{minutes}m]))"
    result = ask(url("QUERY_MIMIR_PORT"), "/prometheus/api/v1/query", query=query)["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def lost(load):
    """Answered requests that a store does not have, by signal, once everything is there or time is up; and records that are there twice."""
    until, before, changed = time.monotonic() + ARRIVES_WITHIN_SECONDS, None, time.monotonic()
    while True:
        try:
            written = records(load)
            missing = {
                "logs": len(load.answered.keys() - set(written)),
                "traces": len(set(load.answered.values()) - traces(load)),
                "metrics": max(0, len(load.answered) - counted(load)),
            }
            if missing != before:
                before, changed = missing, time.monotonic()
            if not any(missing.values()) or time.monotonic() > min(until, changed + NOTHING_NEW_SECONDS):
                return missing, len(written) - len(set(written))
        except (HTTPError, URLError, TimeoutError, ConnectionError) as error:
            if time.monotonic() > until:
                raise RuntimeError(f"a store does not answer after the fault: {error}") from error
        time.sleep(3)


# ── one case ──


def wait():
    done = subprocess.run(["make", "--no-print-directory", "wait"], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the stack does not get ready: {done.stdout}{done.stderr}")


def doctor(seconds):
    """What `make doctor` says is wrong: its findings."""
    done = subprocess.run(["make", "--no-print-directory", "doctor", f"ARGS=--over {seconds}s"], cwd=ROOT, check=False, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if re.match("LOSS|LOGIN|healthy|note", line)]
    return [re.sub(r"\s+", " ", line) for line in said]


def run(case, rate, away):
    status = 230 + secrets.randbelow(70)
    lasts = case.lasts or away
    load = Load(rate, status)
    time.sleep(8)
    began = time.monotonic()
    said = []
    try:
        with case.fault():
            if case.named is not None:
                said = doctor(max(5, lasts - 8))
            time.sleep(max(0, began + lasts - time.monotonic()))
            lasted = time.monotonic() - began
        wait()
        time.sleep(5)
    finally:
        load.end()
    try:
        missing, twice = lost(load)
    finally:
        for undo in LATER:
            undo()
        LATER.clear()
    wait()
    bounds = {of: int(case.bound.get(of, 0) * rate) for of in missing}
    over = [f"{missing[of]} of the {of} missing, bound {bounds[of]}" for of in missing if missing[of] > bounds[of]]
    if case.named and not any(word in line for word in case.named for line in said):
        over.append(f"`make doctor` does not name it: {said}")
    cells = [f"{missing[of]}, at most {bounds[of]}" if bounds[of] else str(missing[of]) for of in ("logs", "traces", "metrics")]
    named = next((line for line in said if any(word in line for word in case.named or ())), "")
    named = named.removeprefix("LOSS ").partition(";")[0].partition(". ")[0][:110]
    row = [case.name, f"{lasted:.0f} s", f"{len(load.answered)} of {load.sent}", *cells, str(twice), named.replace("|", "/") or "–"]
    return row, over


def table(rows, rate):
    head = ["what was done", "for", "requests answered", "records lost", "traces lost", "not counted", "records twice", "`make doctor` meanwhile"]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    made = f"{time.strftime('%-d %B %Y')}, {rate:g} requests a second, {os.cpu_count()} processors."
    return "\n".join([made, "", *lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="run the cases with one of these words in their name; all without")
    parser.add_argument("--rate", type=float, default=5, help="requests a second")
    parser.add_argument("--away", type=int, default=20, help="seconds that a fault lasts")
    parser.add_argument("--list", action="store_true", help="list the cases and run none")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if not arguments.words or any(word in case.name for word in arguments.words)]
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return 0
    # Told to stop, it still puts back what it broke.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    rows, failures = [], []
    for case in chosen:
        print(f"── {case.name}", file=sys.stderr, flush=True)
        try:
            row, over = run(case, arguments.rate, arguments.away)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"   FAILED: {error} {getattr(error, 'stderr', '') or ''}", file=sys.stderr, flush=True)
            failures.append(case.name)
            continue
        print("   " + " | ".join(row), file=sys.stderr, flush=True)
        rows.append(row)
        for reason in over:
            print(f"   BEYOND ITS BOUND: {reason}", file=sys.stderr, flush=True)
        if over:
            failures.append(case.name)
    print(table(rows, arguments.rate))
    if arguments.write:
        put_between(PAGE, BEGIN, END, table(rows, arguments.rate))
    if failures:
        print(f"\nbeyond their bounds: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
