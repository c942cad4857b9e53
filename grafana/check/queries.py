"""All queries of the repository, with Grafana's variables filled in as a browser would at first sight."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN = {"__rate_interval": "1m", "__interval": "15s", "__auto": "15s", "__range": "15m"}
LANGUAGE = {"prometheus": "promql", "loki": "logql", "tempo": "traceql", "grafana-pyroscope-datasource": "profile"}
#: What Grafana, Compose or the service puts into a link when it is followed.
LINK_NAME = re.compile(r"\$\{[^{}]+\}|(?<![{%])\{[a-z_]+\}")
VARIABLE = re.compile(r"\$(?:\{([a-z_]+)(?::[a-z]+)?\}|([a-z_]+))")


@dataclass(frozen=True)
class Query:
    where: str
    language: str
    text: str


def dashboards(*folders: str) -> dict[str, dict]:
    """Those of the base and of the systems, or of `folders` alone."""
    found = [path for folder in folders or ("grafana/dashboards", "systems/*/dashboards") for path in sorted(ROOT.glob(f"{folder}/*.json"))]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}


def panels(board: dict) -> Iterator[dict]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def values(board: dict) -> dict[str, str]:
    """Each variable's value when the dashboard is opened."""
    found = dict(BUILT_IN)
    for variable in board["templating"].get("list", []):
        current = variable.get("current", {}).get("value", "")
        found[variable["name"]] = variable.get("allValue", ".*") if current == ["$__all"] else "|".join(current) if isinstance(current, list) else current
    return found


def filled(text: str, known: dict[str, str]) -> str:
    return VARIABLE.sub(lambda match: known.get(match[1] or match[2], match[0]), text)


def of_dashboard(name: str, board: dict) -> Iterator[Query]:
    known = values(board)
    for panel in panels(board):
        for target in panel.get("targets", []):
            language = LANGUAGE[target["datasource"]["type"]]
            if language == "profile":
                yield Query(f"{name} / {panel['title']}", "profile", target["profileTypeId"])
                continue
            text = target.get("expr") or target.get("query")
            if text and text != "$trace_id":  # a bare id is looked up, not searched for
                yield Query(f"{name} / {panel['title']}", language, filled(text, known))
    for annotation in board["annotations"]["list"]:
        yield Query(f"{name} / annotation {annotation['name']}", "promql", filled(annotation["expr"], known))
    for variable in board["templating"].get("list", []):
        source = variable.get("datasource", {}).get("type")
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
        if source == "prometheus" and asked:
            yield Query(f"{name} / variable {variable['name']}", "promql", f"count by ({asked[2]}) ({filled(asked[1], known)})")


def of_rules(folder: str, language: str) -> Iterator[tuple[dict, Query]]:
    for path in sorted((ROOT / folder).rglob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield rule, Query(f"{path.relative_to(ROOT)} / {rule.get('alert') or rule['record']}", language, rule["expr"])


def of_panes(where: str, url: str) -> Iterator[Query]:
    """What the page *Explore* asks for when a link opens it."""
    panes = parse_qs(urlsplit(url).query)["panes"][0]
    for pane in json.loads(LINK_NAME.sub("x", panes)).values():
        for query in pane["queries"]:
            language = LANGUAGE[query["datasource"]["type"]]
            if language == "profile":
                yield Query(where, "profile", query["profileTypeId"])
            elif query.get("expr") or len(query["query"]) > 1:  # a bare id is looked up
                yield Query(where, language, query.get("expr") or query["query"])


def of_data_sources() -> Iterator[Query]:
    """The links between the signals, as provisioned."""
    for path in [*sorted(ROOT.glob("grafana/provisioning/datasources/*.yaml")), *sorted(ROOT.glob("systems/*/datasources.yaml"))]:
        for source in yaml.safe_load(path.read_text(encoding="utf-8").replace("$$", "$"))["datasources"]:
            settings = source.get("jsonData", {})
            where = f"{path.relative_to(ROOT)} / {source['name']}"
            for field in settings.get("derivedFields", []):
                if field["url"].startswith("/explore"):
                    yield from of_panes(f"{where} / {field['matcherRegex']}", LINK_NAME.sub("x", field["url"]))
            if "query" in (logs := settings.get("tracesToLogsV2", {})):
                yield Query(f"{where} / trace to logs", "logql", LINK_NAME.sub("x", logs["query"]))
            for asked in settings.get("tracesToMetrics", {}).get("queries", []):
                tags = asked["query"].replace("$__tags", 'service_name="x",http_route="x"')
                yield Query(f"{where} / {asked['name']}", "promql", LINK_NAME.sub("x", tags))


def of_compose() -> Iterator[Query]:
    """Where the console and the load generator lead: the templates that the service is given."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for name, template in compose["services"]["signalbox-api"]["environment"].items():
        if name.startswith("SIGNALBOX_LINK_"):
            yield from of_panes(f"docker-compose.yml / {name}", LINK_NAME.sub("x", template))


def links() -> list[Query]:
    return [*of_data_sources(), *of_compose()]


def everything() -> list[Query]:
    found = [query for name, board in dashboards().items() for query in of_dashboard(name, board)]
    found += [query for _, query in of_rules("mimir/rules", "promql")]
    found += [query for _, query in of_rules("loki/rules", "logql")]
    return found + links()
