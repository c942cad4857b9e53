"""Renders all that `make k8s-up` installs, the projects' charts included: from the folder CHARTS, or from their repositories."""

import functools
import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def stack(size: str, profile: str = "", values: str = "") -> list[dict]:
    """Every object of this size. `profile` and `values` as in `make k8s-up PROFILE=… VALUES=…`."""
    environment = os.environ | {"SIZE": size, "PROFILE": profile, "VALUES": values, "KUBECONFIG": "/dev/null"}
    done = subprocess.run(["sh", "kubernetes/k8s.sh", "template"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


def of_kind(documents: list[dict], *kinds: str) -> list[dict]:
    return [document for document in documents if document["kind"] in kinds]


def workloads(documents: list[dict]) -> dict[str, dict]:
    """What makes pods, by kind and name."""
    return {f"{d['kind']} {d['metadata']['name']}": d for d in of_kind(documents, "Deployment", "StatefulSet", "DaemonSet", "Job")}


def replicas(documents: list[dict], name: str) -> int:
    """How many copies stand at least: an autoscaler's floor, or what the workload says."""
    for scaler in of_kind(documents, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if name == f"{target['kind']} {target['name']}":
            return scaler["spec"]["minReplicas"]
    return workloads(documents)[name]["spec"].get("replicas", 1)
