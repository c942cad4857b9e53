"""Shell commands of the pages: each fence that is marked `runnable` is run in a clone of its own, and all its commands must succeed.

After the language of a fence stands `runnable` for what needs nothing else, `runnable demo` for what is typed while `make demo` runs, and `runnable stack` for what
needs Docker (`make verify-fences`, while no stack is up). Whoever adds a fence marks it, or says here why it cannot be run.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import BIN, ROOT

FENCE = re.compile(r"^```sh( [^\n]+)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = Path(__file__).with_name("run.bash")
WITHIN_SECONDS = 1200
STACK = os.environ.get("FENCES") == "stack"
# A fence that is not run, by its first command.
NOT_RUN = {
    "make test             # everything that needs no Docker; says what it skipped": "runs this test",
    "make demo             # builds and runs the service, its worker and the viewer": "has make test among its lines",
    "kind create cluster": "needs kind",
    "kubectl -n signalbox port-forward service/signalbox-api 18080 &": "needs a cluster",
    "make verify SERVICE=shop      # your OTEL_SERVICE_NAME, after a minute of traffic": "needs the reader's own service",
    "pip install opentelemetry-distro opentelemetry-exporter-otlp flask opentelemetry-instrumentation-flask": "needs the reader's own service",
    "make dashboards     # after a change in generate/": "`make test` has both",
    "cd grafana": "asks a stack after some load: tests/stack/test_dashboards.py does",
    "weaver registry check -r telemetry-schema": "needs Weaver",
    "weaver registry live-check -r telemetry-schema --include-unreferenced --format json --output report &": "needs Weaver",
    "curl -s -X POST http://127.0.0.1:4320/stop": "needs Weaver",
}


def fences():
    """Page with line, mark and commands of every shell fence."""
    pages = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            yield f"{page}:{text.count(chr(10), 0, fence.start()) + 1}", (fence[1] or "").strip(), fence[2]


def marked(*marks):
    return [pytest.param(mark, commands, id=place) for place, mark, commands in fences() if mark in marks]


def test_a_fence_is_run_or_it_is_said_why_not():
    first = {commands.splitlines()[0]: place for place, mark, commands in fences() if mark not in ("runnable", "runnable demo", "runnable stack")}
    assert {place: line for line, place in first.items() if line not in NOT_RUN} == {}
    assert set(NOT_RUN) - set(first) == set(), "no longer on any page"


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """As after `git clone` and a build: the programs are those of this checkout, because building them anew would take minutes and prove nothing more."""
    place = tmp_path_factory.mktemp("pages") / "signalbox"
    subprocess.run(["git", "clone", "--quiet", ROOT, place], check=True)
    if not STACK:
        built = place / "target" / "debug"
        built.mkdir(parents=True)
        for program in ("signalbox", "lens", "signalboxctl", "shop"):
            shutil.copy(BIN / program, built)
        cargo = place.parent / "bin" / "cargo"
        cargo.parent.mkdir()
        cargo.write_text('#!/bin/sh\n[ "$1" = build ] || { echo "only cargo build is expected: $*" >&2; exit 1; }\n')
        cargo.chmod(0o755)
    return place


def run(clone, commands, **variables):
    """Its commands, one after the other; the outcome with all that they wrote."""
    of_make = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "COMPOSE_FILE", "CARGO_TARGET_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    environment["PATH"] = f"{clone.parent / 'bin'}:{environment['PATH']}"
    said = clone.parent / "demo"
    said.write_bytes(b"")
    process = subprocess.Popen(
        ["bash", RUN, said],
        cwd=clone,
        env={**environment, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        written, _ = process.communicate(commands, timeout=WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    assert process.returncode == 0, f"{written}\nthe demo said: {said.read_text()}"
    return written


@pytest.mark.parametrize(("mark", "commands"), marked("runnable stack") if STACK else marked("runnable", "runnable demo"))
def test_commands_run_in_a_clone(clone, mark, commands):
    # A stack of another checkout is none of this clone's.
    run(clone, f"make demo\n{commands}" if mark.endswith("demo") else commands, COMPOSE_PROJECT_NAME="pages", FENCE_STACK="yes" if STACK else "")


def test_a_command_that_fails_fails_its_fence(clone):
    for commands in ("make no-such-target\ntrue\n", "false\n", "false | cat\n", "echo $NO_SUCH_VARIABLE\n"):
        with pytest.raises(AssertionError):
            run(clone, commands)
    assert run(clone, "echo one\nexport TWO=two # a comment\necho $TWO\n").splitlines()[-1] == "two"
