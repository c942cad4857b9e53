"""Renders our charts with helm, which needs no cluster for that."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "kubernetes/signalbox"
TRIAL = ROOT / "kubernetes/trial"
SIZES = ("small", "large")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def render(chart: Path, *arguments: str) -> list[dict]:
    done = helm("template", chart.name, str(chart), "--namespace", "signalbox", *arguments)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def ours(size: str, *arguments: str) -> list[dict]:
    """Our chart as `make k8s-up` installs it in this size, the Job of `make k8s-verify` included."""
    values = [f"--values=kubernetes/values/{layer}/signalbox.yaml" for layer in ("shared", size)]
    return render(CHART, *values, "--set=verify.run=true", *arguments)


def trial(*arguments: str) -> list[dict]:
    images = ",".join(f"images.{name}=example/{name}:1" for name in ("postgres", "redis", "minio", "kafka"))
    return render(TRIAL, "--set=kafka.enabled=true", f"--set={images}", "--set-file=buckets=minio/buckets.sh,observerScript=postgres/observer.sh", "--values=kubernetes/values/shared/trial.yaml", *arguments)


@pytest.fixture(scope="session", params=[*SIZES, "trial"])
def documents(request) -> list[dict]:
    return trial() if request.param == "trial" else ours(request.param)
