"""Faults without Docker: `make chaos`. What must hold in each is asserted, and what was seen becomes a row of docs/reliability.md (--write).

`make chaos ARGS="redis hangs"` runs the cases that have one of the words in their name; `ARGS=--quick` those of `make test`, which judge nothing by
how long it took, but for deadlines that are the promise.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import collector_cases  # noqa: E402
import dependency_cases  # noqa: E402
import process_cases  # noqa: E402
from programs import Missing  # noqa: E402
from stack.page import put_between  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by make chaos -->", "<!-- end of what make chaos makes -->"


@dataclass(frozen=True)
class Case:
    name: str
    must: str
    # Returns what was seen; an AssertionError says what does not hold.
    run: object
    quick: bool = False


def cases():
    counted = "no request waits, memory within the queues, a line a cause, sent + lost = made"
    for fault in collector_cases.FAULTS:
        yield Case(f"collector {fault.name}, under load", counted, partial(collector_cases.under_load, fault), fault.quick)
        # A name that resolves late is one that never does, for as long as the stop lasts.
        if fault.load == collector_cases.LOAD and fault.host != "late.test":
            yield Case(f"collector {fault.name}, at the stop", f"{counted}, exit in time", partial(collector_cases.while_stopping, fault), fault.name == "hangs")
    for fault in dependency_cases.faults():
        shows = {None: "", 200: ", some degraded"}.get(fault.shows, f", some {fault.shows}")
        must = f"{', '.join(map(str, sorted(fault.allowed)))}{shows}; no acknowledged order lost; spans as answered; whole again"
        yield Case(f"{fault.of.name if fault.of else 'worker'} {fault.name}", must, partial(dependency_cases.run, fault), fault.quick)
    yield Case("process suspended for 30 s", "answers all, no span lost", process_cases.suspended)
    yield Case("process's clock stepped", "back an hour, on a day, and back: no span lost or negative", process_cases.clock_stepped)
    yield Case("process without a descriptor left", "says so, no abort, answers once there are", process_cases.no_descriptor, quick=True)
    yield Case("process refused threads", "no abort, every request answered, whole again", process_cases.no_thread)
    yield Case("process refused threads at the start", "ends and says why", process_cases.no_thread_at_start)
    yield Case("process with /tmp full", "starts and serves", process_cases.full_tmp)
    yield Case("process on a read-only root", "starts and serves", process_cases.read_only_root)
    yield Case("process with a limit of memory", "never ended for it, all losses counted", process_cases.memory_limited)


def row(case):
    try:
        return case.run(), True
    except Missing as missing:
        return f"not run: {missing}", os.environ.get("CI") != "true"
    except (AssertionError, subprocess.CalledProcessError) as error:
        return f"**does not hold**: {error}", False


def table(rows):
    head = ["what was done", "what must hold", "what was seen"]
    lines = [line(cells) for cells in (head, ["---"] * 3, *rows)]
    made = f"{time.strftime('%-d %B %Y')}, debug build, {os.cpu_count()} processors."
    return "\n".join([made, "", *lines])


def line(cells):
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def with_others(rows):
    """The rows, and those of the page that were not made this time, in the order of the cases."""
    lines = [text.removeprefix("| ").removesuffix(" |").split(" | ") for text in PAGE.read_text().splitlines() if text.startswith("| ")]
    known = {cells[0]: cells for cells in lines if len(cells) == 3}
    known |= {name: [name, *rest] for name, *rest in rows}
    return [known[case.name] for case in cases() if case.name in known]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="run the cases with one of these words in their name; all without")
    parser.add_argument("--quick", action="store_true", help="run those of make test only")
    parser.add_argument("--list", action="store_true", help="list the cases and run none")
    parser.add_argument("--write", action="store_true", help="put the rows into the table of docs/reliability.md")
    arguments = parser.parse_args()
    chosen = [case for case in cases() if case.quick or not arguments.quick]
    chosen = [case for case in chosen if not arguments.words or any(word in case.name for word in arguments.words)]
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return 0
    rows, failed = [], []
    for case in chosen:
        began = time.monotonic()
        seen, holds = row(case)
        print(f"{'   ' if holds else '!! '}{case.name} ({time.monotonic() - began:.0f} s): {seen}", file=sys.stderr, flush=True)
        rows.append([case.name, case.must, seen])
        if not holds:
            failed.append(case.name)
    print(table(rows))
    if arguments.write:
        put_between(PAGE, BEGIN, END, table(with_others(rows)))
    if failed:
        print(f"\nnot held: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
