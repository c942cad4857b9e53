"""The API keeps to its own description: schemathesis makes requests out of it, good and bad, and holds each answer against it."""

import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

CONFIG = Path(__file__).with_name("schemathesis.toml")
PROGRAM = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "schemathesis"
# Faults stay injected until they are reset, so they are tried apart from what they would disturb, and after it.
RUNS = {
    "service": ("service", ["--exclude-path", "/faults"]),
    "faults": ("service", ["--include-path", "/faults"]),
    "worker": ("worker", []),
}


@pytest.fixture
def faults_reset_afterwards(demo):
    yield
    reset = urllib.request.Request(f"{demo.service}/faults", method="DELETE")
    assert urllib.request.urlopen(reset, timeout=10).status == 200


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.usefixtures("faults_reset_afterwards")
def test_answers_keep_to_the_description(demo, name, tmp_path):
    role, selection = RUNS[name]
    url = f"{getattr(demo, role)}/openapi.json"
    run = subprocess.run(
        [str(PROGRAM), "--config-file", str(CONFIG), "run", url, *selection],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CONFIG.parent)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    assert re.search(r"\b([1-9]\d*) generated, \1 passed", run.stdout), run.stdout[-2_000:]
