"""The names that exist: those that telemetry-schema/ declares or imports, and those that the real programs were seen to emit.

The schema tells all of our own metrics. Of those it imports it has the names alone, their labels are OpenTelemetry's: so these, as
all series of Alloy, stores and exporters, stand in grafana/backend-metrics.txt as they were seen.
"""

import re

import yaml

from .queries import ROOT

SCHEMA = ROOT / "telemetry-schema"
BACKENDS = ROOT / "grafana/backend-metrics.txt"

#: On every series of the service: Mimir makes job and instance of the resource, and promotes five of its attributes (mimir/mimir.yaml).
EVERYWHERE = {"job", "instance", "service_name", "service_namespace", "service_version", "service_instance_id", "deployment_environment_name"}
#: How Mimir spells a unit at the end of a name; counts in braces leave no trace.
UNITS = {"s": "_seconds", "ms": "_milliseconds", "By": "_bytes", "1": "_ratio"}
#: What records of other people's services have and a link of ours follows (docs/your-service.md).
FOREIGN = {"request_id"}
#: Labels of the records that Alloy makes of PostgreSQL's own view (alloy/database.alloy), and words of their lines that a query looks for.
DATABASE = {"job", "op", "pid", "blocked_by_pids", "queryid", "digest"}
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


def declared() -> tuple[dict[str, set[str]], set[str], set[str]]:
    """Our own series with their labels; the beginnings of those imported from OpenTelemetry; all attributes by their dotted names."""
    series: dict[str, set[str]] = {}
    imported: set[str] = set()
    attributes: set[str] = set()
    for path in sorted(SCHEMA.rglob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        imported |= {underscored(name) for name in document.get("imports", {}).get("metrics", [])}
        attributes |= {attribute["key"] for attribute in document.get("attributes", [])}
        metrics = document.get("metrics", [])
        for holder in (*metrics, *document.get("attribute_groups", []), *document.get("events", [])):
            attributes |= {attribute["ref"] for attribute in holder.get("attributes", [])}
        for metric in metrics:
            labels = EVERYWHERE | {underscored(attribute["ref"]) for attribute in metric.get("attributes", [])}
            for name in series_of(metric["name"], metric["instrument"], metric["unit"]):
                series[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return series, imported, attributes


def seen(imported: set[str]) -> dict[str, set[str]]:
    """Series that were seen, one line each: name and labels. One of the service must be an imported one besides.

    A line that begins with a question mark was read in the program's source: born only with a failure that nobody has caused yet.
    """
    found = {}
    for line in BACKENDS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, labels = line.removeprefix("? ").partition(" ")
            found[name] = set(labels.split(",")) if labels else set()
            if "service_instance_id" in found[name] and not any(name.startswith(start) for start in imported):
                del found[name]
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
