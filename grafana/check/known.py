"""The names that exist: those the service declares in telemetry-schema/, those that real backends were seen to emit."""

import re

import yaml

from .queries import ROOT

SCHEMA = ROOT / "telemetry-schema"
BACKENDS = ROOT / "grafana/backend-metrics.txt"

#: On every series of the service: Mimir makes job and instance of the resource, and promotes five of its attributes (mimir/mimir.yaml).
EVERYWHERE = {"job", "instance", "service_name", "service_namespace", "service_version", "service_instance_id", "deployment_environment_name"}
#: How Mimir spells a unit at the end of a name; counts in braces leave no trace.
UNITS = {"s": "_seconds", "ms": "_milliseconds", "By": "_bytes", "1": "_ratio"}
#: What Loki itself adds to a record that comes by OTLP.
LOKI_OWN = {"trace_id", "span_id", "detected_level", "severity_text", "severity_number", "flags", "scope_name"}


def underscored(name: str) -> str:
    return re.sub(r"\W", "_", name)


def series_of(name: str, instrument: str, unit: str) -> list[str]:
    """Names of the series that an OTLP metric becomes in Mimir."""
    suffix = UNITS.get(unit, "")
    if unit == "1" and instrument != "gauge":
        suffix = ""
    base = underscored(name)
    if suffix and not base.endswith(suffix):
        base += suffix
    if instrument == "histogram":
        return [f"{base}_bucket", f"{base}_count", f"{base}_sum"]
    return [f"{base}_total"] if instrument == "counter" else [base]


def declared() -> tuple[dict[str, set[str]], set[str]]:
    """Series of the service with their labels, and all attributes by their dotted names."""
    series: dict[str, set[str]] = {}
    attributes: set[str] = set()
    for path in sorted(SCHEMA.rglob("*.yaml")):
        for group in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("groups", []):
            own = [attribute.get("ref") or attribute.get("id") for attribute in group.get("attributes", [])]
            attributes.update(own)
            if group.get("type") != "metric":
                continue
            labels = EVERYWHERE | {underscored(name) for name in own}
            for name in series_of(group["metric_name"], group["instrument"], group.get("unit", "")):
                series[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return series, attributes


def seen() -> dict[str, set[str]]:
    """Series of the backends: one line each, name and labels."""
    found = {}
    for line in BACKENDS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, labels = line.partition(" ")
            found[name] = set(labels.split(",")) if labels else set()
    return found


def recorded(rules) -> dict[str, set[str]]:
    """What our own rules add: recorded series, and ALERTS with the labels of the alerts."""
    found: dict[str, set[str]] = {"ALERTS": {"alertname", "alertstate"}}
    for rule, query in rules:
        labels = set(rule.get("labels", {}))
        for group in re.findall(r"by \(([^)]*)\)", query.text):
            labels |= {name.strip() for name in group.split(",")}
        if "record" in rule:
            found[rule["record"]] = labels - {"le"}
        else:
            found["ALERTS"] |= labels
    return found
