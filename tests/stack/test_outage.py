"""`make stop-X` is an outage of one part and `make start-X` its end, for every part of the base."""

import subprocess

import pytest
from helpers import ROOT, eventually

PARTS = ("signalbox-api", "signalbox-worker", "postgres", "redis", "alloy", "nginx-push", "nginx-query", "loki", "tempo", "pyroscope", "grafana")


def running():
    done = subprocess.run(["docker", "compose", "ps", "--services", "--status", "running"], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize("part", PARTS)
def test_a_stopped_part_starts_again(part):
    stopped = subprocess.run(["make", f"stop-{part}"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert stopped.returncode == 0, stopped.stderr
    assert part not in running()
    started = subprocess.run(["make", f"start-{part}"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    eventually(lambda: part in running())


def test_the_stack_is_ready_again():
    done = subprocess.run(["make", "wait"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
