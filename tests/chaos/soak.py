"""The demo under a moderate load for hours, while faults come and go at random: `make soak TIME=2h`.

Every ten seconds the memory, descriptors, threads and disk of service, worker and viewer are read. What must hold: none of them grows once the viewer is full; the
viewer keeps within its bounds all the time; nothing that the service made is lost, although the viewer is suspended again and again; and at the end nothing is stuck.
"""

import argparse
import csv
import http.client
import json
import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import BIN, eventually  # noqa: E402
from programs import WITHIN_SECONDS, folder  # noqa: E402
from stack.page import put_between  # noqa: E402

EVERY_SECONDS = 10
# Small, so that the viewer is full, and its memory as large as it gets, before the growth is looked at.
BOUNDS = {"spans": 20_000, "logs": 10_000, "points": 50_000, "profiles": 50}
# What is measured, in which unit.
MEASURES = {"memory": "MB", "descriptors": "", "threads": "", "disk": "MB"}
# By how much the median of the last tenth may exceed that of the first tenth after the warm-up, and the bounds of what is written: the log of each program is begun
# anew at 16 MiB, and the demo's own database has a row more for every order.
GROWTH = {"memory": 8, "descriptors": 8, "threads": 2, "disk": 8}
GROWTH_OF = {("logs", "disk"): 48, ("orders", "disk"): 32}
PROGRAMS = ("service", "worker", "viewer")
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by make soak -->", "<!-- end of what make soak makes -->"


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


class Demo:
    """`signalboxctl demo` on ports that are free."""

    def __init__(self, directory):
        self.directory, self.output = directory, directory / "output"
        bounds = {f"LENS_MAX_{name.upper()}": str(bound) for name, bound in BOUNDS.items()}
        command = [BIN / "signalboxctl", "demo", "--data-dir", directory / "data"]
        for name in ("--listen", "--worker", "--lens"):
            command += [name, "127.0.0.1:0"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **bounds}, cwd=ROOT, stdout=output, stderr=output)
        url = r"{} +(http://\S+)"
        said = eventually(lambda: re.search(url.format("viewer"), self.output.read_text()) and self.output.read_text(), WITHIN_SECONDS)
        self.service, self.viewer = (re.search(url.format(name), said)[1] for name in ("service and console", "viewer"))
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.pids = {}
        for pid in map(int, children):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            self.pids["viewer" if words[0].endswith(b"lens") else "service" if words[1] == b"serve" else "worker"] = pid
        assert set(self.pids) == set(PROGRAMS), self.pids

    def sample(self):
        taken = {}
        for name, pid in self.pids.items():
            status = Path(f"/proc/{pid}/status").read_text()
            taken[name, "memory"] = int(status.split("VmRSS:")[1].split()[0]) / 1000
            taken[name, "threads"] = int(status.split("Threads:")[1].split()[0])
            taken[name, "descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
        written = {"viewer": 0, "logs": 0, "orders": 0}
        data = self.directory / "data"
        for file in filter(Path.is_file, data.rglob("*")):
            who = {"lens": "viewer", "logs": "logs"}.get(file.relative_to(data).parts[0], "orders")
            # A journal of a database may be gone by now.
            with suppress(FileNotFoundError):
                written[who] += file.stat().st_size
        taken.update({(who, "disk"): size / 1e6 for who, size in written.items()})
        with closing(sqlite3.connect(f"file:{next((self.directory / 'data/lens').glob('lens-*.db'))}?mode=ro", uri=True, timeout=60)) as database:
            for table, bound in BOUNDS.items():
                rows = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                assert rows <= bound, f"{rows} {table} are kept, {bound} are the bound"
                taken["viewer", f"rows of {table}"] = rows
        return taken

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.service.removeprefix("http://"), timeout=60)
        with closing(connection):
            connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer, answer.read().decode()

    def total(self, name, with_error=False):
        """The sum of the service's series of a name."""
        lines = self.ask("GET", "/metrics")[1].splitlines()
        lines = [line.partition(" # ")[0] for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if not with_error or "error_type" in line)

    def signal(self, name, number):
        os.kill(self.pids[name], number)


def one_fault(demo, chance):
    """Switches one on; returns its name, its seconds, and what switches it off."""
    kind = chance.choice(["viewer suspended", "worker suspended", "slow", "failing", "blocking", "slow queries"])
    lasts = chance.uniform(5, 25)
    who = kind.partition(" ")[0]
    if kind.endswith("suspended"):
        demo.signal(who, signal.SIGSTOP)
        return kind, lasts, lambda: demo.signal(who, signal.SIGCONT)
    plan = {
        "slow": {"latency_ms": chance.randrange(100, 2000)},
        "failing": {"error_rate": chance.choice([0.1, 0.5, 1])},
        "blocking": {"block_ms": chance.randrange(10, 100)},
        "slow queries": {"slow_query_ms": chance.randrange(100, 1500)},
    }[kind]
    switch(demo, "PUT", plan)
    return kind, lasts, lambda: switch(demo, "DELETE")


def switch(demo, method, plan=None):
    """Until it is answered with 200: a request that does not arrive within 5 s, as where the machine is busy beyond measure, is answered with 408."""

    def switched():
        answer, text = demo.ask(method, "/faults", plan)
        assert answer.status == 200, f"{answer.status}: {text}"
        return True

    eventually(switched, WITHIN_SECONDS)


def live(demo, load, time_of_it, chance, sheet):
    """Faults, samples. Returns the samples and how often each fault was on."""
    samples, faults = [], {}
    began = time.monotonic()
    next_sample, next_change, off = began, began + 10, None
    while time.monotonic() < began + time_of_it:
        if time.monotonic() >= next_change:
            if off:
                off()
                off, next_change = None, time.monotonic() + chance.uniform(5, 30)
            else:
                kind, lasts, off = one_fault(demo, chance)
                faults[kind] = faults.get(kind, 0) + 1
                next_change = time.monotonic() + lasts
        if time.monotonic() >= next_sample:
            assert demo.process.poll() is None, demo.output.read_text()
            assert load.poll() is None, "the load has ended"
            samples.append((time.monotonic() - began, demo.sample()))
            if len(samples) == 1:
                sheet.writerow(["seconds", *(" ".join(key) for key in samples[0][1])])
            sheet.writerow([f"{samples[-1][0]:.0f}", *samples[-1][1].values()])
            next_sample += EVERY_SECONDS
        time.sleep(0.2)
    if off:
        off()
    return samples, faults


def growth(samples):
    """Rows of program, measure, before, after, slope in an hour; and which grow by more than they may."""
    rest = samples[len(samples) // 3 :]
    tenth = max(1, len(rest) // 10)
    rows, grown = [], []
    for key in [key for key in rest[0][1] if key[1] in MEASURES]:
        times, values = [at for at, _ in rest], [taken[key] for _, taken in rest]
        before, after = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
        slope = statistics.linear_regression(times, values).slope * 3600
        unit = MEASURES[key[1]] and f" {MEASURES[key[1]]}"
        rows.append([key[0], key[1], f"{before:.1f}{unit}", f"{after:.1f}{unit}", f"{max(values):.1f}{unit}", f"{slope:+.2f}{unit} an hour"])
        if after - before > GROWTH_OF.get(key, GROWTH[key[1]]):
            grown.append(" ".join(key))
    return rows, grown


def soak(time_of_it, rate, seed):
    chance = random.Random(seed)
    with folder() as directory:
        demo, load = Demo(directory), None
        sheet = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "soak.csv"
        try:
            command = [BIN / "signalboxctl", "load", "--url", demo.service, "--rate", str(rate), "--duration", f"{time_of_it + 60}s"]
            load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with sheet.open("w", buffering=1) as out:
                samples, faults = live(demo, load, time_of_it, chance, csv.writer(out))
            load.send_signal(signal.SIGINT)
            load.wait(WITHIN_SECONDS)
            # Nothing is stuck: a new request is found, and no item waits.
            answer, _ = demo.ask("GET", "/ping")
            trace = answer.getheader("traceresponse").split("-")[1]
            eventually(lambda: is_kept(demo.viewer, trace), WITHIN_SECONDS)
            eventually(lambda: demo.total("otel_sdk_processor_span_queue_size") == 0, WITHIN_SECONDS)
            lost = sum(demo.total(f"otel_sdk_{what}_total", with_error=True) for kind in ("span", "log") for what in (f"exporter_{kind}_exported", f"processor_{kind}_processed"))
            sent = sum(demo.total(f"otel_sdk_exporter_{kind}_exported_total") for kind in ("span", "log"))
            answered = demo.total("http_server_request_duration_seconds_count")
            demo.process.send_signal(signal.SIGINT)
            code = demo.process.wait(WITHIN_SECONDS)
            assert code == 0, f"the demo ended with {code}: {demo.output.read_text()}"
            rows, grown = growth(samples)
            text = summary(samples, rate, faults, answered, sent, lost, rows)
            return text, [*(f"{what} has grown" for what in grown), *([f"{lost:.0f} spans and records lost"] if lost else [])]
        finally:
            for process in (load, demo.process):
                if process and process.poll() is None:
                    process.terminate()
                    process.wait(WITHIN_SECONDS)


def is_kept(viewer, trace):
    connection = http.client.HTTPConnection(viewer.removeprefix("http://"), timeout=60)
    with closing(connection):
        connection.request("GET", f"/api/traces/{trace}")
        return connection.getresponse().status == 200


def summary(samples, rate, faults, answered, sent, lost, rows):
    took = samples[-1][0]
    on = ", ".join(f"{count} × {kind}" for kind, count in sorted(faults.items()))
    full = ", ".join(f"{max(taken['viewer', f'rows of {table}'] for _, taken in samples):,} of {bound:,} {table}" for table, bound in BOUNDS.items())
    text = (
        f"{time.strftime('%-d %B %Y')}, debug build, {os.cpu_count()} processors: {took / 60:.0f} minutes, {rate} requests a second asked, {answered:.0f} answered, {len(samples)} samples. "
        f"Faults: {on or 'none'}. The service sent {sent:.0f} spans and records, {lost:.0f} were lost. The viewer kept {full} at most. "
        f"The last two thirds of the time, in which the viewer is full:"
    )
    head = [["program", "measure", "at first", "at last", "most", "slope"], ["---"] * 6]
    return "\n".join([text, "", *("| " + " | ".join(cells) + " |" for cells in [*head, *rows])])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--time", type=seconds, default="2h", help="such as 2h, 90m or 60s")
    parser.add_argument("--rate", type=int, default=5, help="requests a second")
    parser.add_argument("--seed", type=int, default=None, help="of the faults")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    text, wrong = soak(arguments.time, arguments.rate, seed)
    print(text)
    if arguments.write:
        put_between(PAGE, BEGIN, END, text)
    for what in wrong:
        print(f"does not hold: {what}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
