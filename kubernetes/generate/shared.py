"""Values files made of compose's configurations: limits, what is promoted to labels, retention, processors, links.

The projects' charts want these under keys of their own (`structuredConfig`), so a file cannot simply be handed over; what is copied is
therefore generated, and held against its source by `--check`. Whole files (Alloy's, dashboards, data sources, rules, Alertmanager's routes,
Tempo's as one process) are not copied at all: kubernetes/k8s.sh hands them over as they are.
"""

from pathlib import Path
from typing import Any

import yaml

FOLDER = "kubernetes/values/shared"

# Source, the keys under which its chart wants configuration, and which parts of the source hold for every shape of the store: a path
# that ends in a mapping takes all of it.
STORES: dict[str, tuple[str, list[str], list[str]]] = {
    "loki": (
        "loki/loki.yaml",
        ["loki", "structuredConfig"],
        [
            "auth_enabled",
            "distributor.otlp_config",
            "ingester.chunk_idle_period",
            "ingester.max_chunk_age",
            "limits_config",
            "compactor.retention_enabled",
            "ruler.evaluation_interval",
            "ruler.poll_interval",
            "ruler.enable_api",
            "ruler.remote_write",
            "ruler.alertmanager_url",
            "ruler.enable_alertmanager_v2",
            "analytics",
        ],
    ),
    "mimir": (
        "mimir/mimir.yaml",
        ["mimir", "structuredConfig"],
        [
            "multitenancy_enabled",
            "blocks_storage.bucket_store.sync_interval",
            "frontend.max_retries",
            "ruler.alertmanager_url",
            "ruler.evaluation_interval",
            "ruler.poll_interval",
            "alertmanager.sharding_ring",
            "limits",
            "usage_stats",
        ],
    ),
    "tempo": (
        "tempo/tempo.yaml",
        ["tempo", "structuredConfig"],
        [
            "stream_over_http_enabled",
            "live_store.fail_on_high_lag",
            "query_frontend.query_end_cutoff",
            "backend_scheduler.provider",
            "backend_worker.compaction",
            "metrics_generator.registry",
            "metrics_generator.processor",
            "metrics_generator.storage.remote_write",
            "overrides",
            "usage_report",
        ],
    ),
    "pyroscope": (
        "pyroscope/pyroscope.yaml",
        ["pyroscope", "structuredConfig"],
        ["limits", "self_profiling", "analytics"],
    ),
}

COMPOSE = "docker-compose.yml"
# Grafana as compose publishes it; the chart says where it is reached.
GRAFANA = "http://${BIND}:${GRAFANA_PORT}"


def files(root: Path) -> dict[str, str]:
    made = {f"{FOLDER}/{store}.yaml": _store(root, *how) for store, how in STORES.items()}
    made[f"{FOLDER}/signalbox.yaml"] = _links(root)
    made[f"{FOLDER}/trial.yaml"] = _commands(root)
    return made


def _store(root: Path, source: str, under: list[str], parts: list[str]) -> str:
    content = yaml.safe_load((root / source).read_text(encoding="utf-8"))
    taken: dict[str, Any] = {}
    for part in parts:
        value, place = content, taken
        keys = part.split(".")
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise KeyError(f"{source} has no {part}")
            value = value[key]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    for key in reversed(under):
        taken = {key: taken}
    return _write(source, taken)


def _services(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / COMPOSE).read_text(encoding="utf-8"))["services"]


def _commands(root: Path) -> str:
    """With which arguments compose starts the servers that the trial chart has as well."""
    services = _services(root)
    return _write(COMPOSE, {"commands": {name: services[name]["command"] for name in ("postgres", "redis", "minio")}})


def _links(root: Path) -> str:
    environment = _services(root)["signalbox-api"]["environment"]
    links = {name: value for name, value in environment.items() if name.startswith("SIGNALBOX_LINK_")}
    strange = [name for name, value in links.items() if not value.startswith(GRAFANA + "/")]
    if strange or not links:
        raise ValueError(f"{COMPOSE}: links that do not begin with {GRAFANA}: {strange}, of {len(links)}")
    return _write(COMPOSE, {"links": {name: value.replace(GRAFANA, "{{ .Values.grafanaUrl }}") for name, value in links.items()}})


def _write(source: str, content: dict[str, Any]) -> str:
    header = f"# Generated from {source} by kubernetes/generate; edit that file, then `make kubernetes-files`.\n"
    return header + yaml.safe_dump(content, sort_keys=False, width=1000, allow_unicode=True)
