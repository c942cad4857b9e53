"""Every query must parse, and must ask only for what somebody emits; every panel must explain itself and know its unit.

`python -m check` checks the files. Three more ask a running stack, after a load:
`--collect MIMIR` adds what the backends emit to grafana/backend-metrics.txt, `--live MIMIR LOKI TEMPO` names panels without data, and
`--docs MIMIR LOKI TEMPO PYROSCOPE` names queries of the pages without data (`make verify-docs`).
In the compose stack MIMIR is http://127.0.0.1:19009/prometheus, LOKI http://127.0.0.1:13100, TEMPO http://127.0.0.1:13200, PYROSCOPE http://127.0.0.1:14040.
"""

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import promql_parser

from . import counting, drills, known, live, pages, queries
from .queries import Query

SOURCES = {"mimir", "loki", "tempo", "pyroscope"}
NO_UNIT = {"row", "text", "logs", "traces", "flamegraph", "nodeGraph", "alertlist", "table", "heatmap", "state-timeline"}
#: Questions for every service that sends a signal.
EVERY_SERVICE = {
    "label_values(service_name)",
    "label_values(traces_spanmetrics_calls_total, service)",
    "labelValue service_name of process_cpu:cpu:nanoseconds:cpu:nanoseconds",
}
PROFILES = {"process_cpu:cpu:nanoseconds:cpu:nanoseconds", "memory:inuse_space:bytes:space:bytes"}


# -- PromQL ------------------------------------------------------------------------------------------------------------


def selectors(expression) -> Iterator[tuple[str, set[str]]]:
    """(metric, labels matched) of each selector below."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {matcher.name for matcher in node.matchers.matchers}))

    promql_parser.walk(expression, visit)
    return iter(found)


def grouped(expression) -> set[str]:
    """Labels that aggregations and matchings name, less those that the query makes itself."""
    asked, made = set(), set()

    def visit(node):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            asked.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            asked.update(node.modifier.matching.labels)
        if isinstance(node, promql_parser.Call) and node.func.name in ("label_replace", "label_join"):
            made.add(node.args[1].val)
            strings = [argument.val for argument in node.args[2:] if isinstance(argument, promql_parser.StringLiteral)]
            asked.update(strings[1:2] if node.func.name == "label_replace" else strings[1:])

    promql_parser.walk(expression, visit)
    return asked - made


def check_promql(query: Query, series: dict[str, set[str]]) -> Iterator[str]:
    try:
        expression = promql_parser.parse(query.text)
    except ValueError as error:
        yield f"{query.where}: does not parse: {error}"
        return
    if "vector(0)" in query.text:
        yield f"{query.where}: vector(0) hides a broken pipeline"
    available: set[str] = set()
    for metric, labels in selectors(expression):
        if metric is None:  # every series of a service
            available |= known.EVERYWHERE
            continue
        if metric not in series:
            yield f"{query.where}: nobody emits {metric}"
            continue
        available |= series[metric]
        for label in sorted(labels - series[metric]):
            yield f"{query.where}: {metric} has no label {label}"
    for label in sorted(grouped(expression) - available - {"__name__"}):
        yield f"{query.where}: no series here has the label {label}"


# -- LogQL, TraceQL ----------------------------------------------------------------------------------------------------


def parse_elsewhere(asked: list[Query]) -> Iterator[str]:
    """The grammars are JavaScript packages of Grafana's own editors."""
    here = Path(__file__).parent
    payload = json.dumps([{"language": query.language, "query": query.text} for query in asked])
    answer = subprocess.run(["node", "parse.mjs"], cwd=here, input=payload, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode != 0:
        yield f"the grammars of LogQL and TraceQL are missing: npm ci --prefix grafana/check\n{answer.stderr[-400:]}"
        return
    for query, wrong in zip(asked, json.loads(answer.stdout), strict=True):
        if wrong:
            yield f"{query.where}: does not parse near {wrong['near']!r}"


def check_syntax(query: Query) -> Iterator[str]:
    """For queries whose names nobody declares. LogQL and TraceQL are parsed with the others."""
    match query.language:
        case "promql":
            try:
                promql_parser.parse(query.text)
            except ValueError as error:
                yield f"{query.where}: does not parse: {error}"
        case "profile" if query.text.partition("{")[0] not in PROFILES:
            yield f"{query.where}: nobody sends profiles of type {query.text}"


def check_logql(query: Query, attributes: set[str]) -> Iterator[str]:
    exist = known.LOKI_OWN | known.FOREIGN | known.DATABASE | set(re.findall(r"label_format (\w+)=", query.text)) | {known.underscored(name) for name in attributes}
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|`[^`]*`', '""', query.text)
    bare = re.split(r"\|\s*(?:logfmt|json)", bare)[0]  # behind a parser the line says which fields there are
    asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"\"", bare))
    for group in re.findall(r"by \(([^)]*)\)", bare):
        asked |= {name.strip() for name in group.split(",")}
    for name in sorted(asked - exist):
        yield f"{query.where}: no record has the field {name}"


def check_traceql(query: Query, attributes: set[str]) -> Iterator[str]:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query.text)
    for name in re.findall(r"\b(?:resource|span)\.([\w.]+)", bare):
        if name not in attributes:
            yield f"{query.where}: no span has the attribute {name}"


# -- dashboards --------------------------------------------------------------------------------------------------------


def check_board(name: str, board: dict, uids: dict[str, set[str]]) -> Iterator[str]:
    if board["uid"] != f"signalbox-{name}" or board["schemaVersion"] != 42 or not board.get("description"):
        yield f"{name}: uid, schemaVersion or description"
    text = json.dumps(board)
    for uid in set(re.findall(r'"uid": "([^"]+)"', text)) - SOURCES - set(uids):
        yield f"{name}: unknown data source {uid}"
    for uid, query in re.findall(r"/d/(signalbox-[a-z-]+)\??([^\"\\]*)", text):
        if uid not in uids:
            yield f"{name}: link to a dashboard that does not exist: {uid}"
        for variable in re.findall(r"var-(\w+)=", query):
            if variable not in uids.get(uid, set()):
                yield f"{name}: {uid} has no variable {variable}"
    for panel in queries.panels(board):
        where = f"{name} / {panel.get('title') or panel['type']}"
        if panel["type"] not in ("row", "text") and not panel.get("description"):
            yield f"{where}: no description"
        if panel["type"] not in NO_UNIT and "unit" not in panel["fieldConfig"]["defaults"]:
            yield f"{where}: no unit"


def check_any_service(boards: dict[str, dict]) -> Iterator[str]:
    """Another service appears everywhere: no link and no panel names a service or a namespace, and the variable `service` offers all that there are.

    Excepted are what was promised for one service and what compares one service's push with its pull.
    """
    of_one_service = ("slo / ", "prometheus / ")
    asked = [query for name, board in boards.items() for query in queries.of_dashboard(name, board | {"templating": {}})] + queries.links()
    for query in asked:
        fixed = re.search(r'\b(service_namespace|service_name|service|resource\.service\.\w+)\s*=\s*"(?!x"|\$)([^"]*)"', query.text)
        if fixed and not query.where.startswith(of_one_service):
            yield f"{query.where}: is about {fixed[0]} alone"
    for name, board in boards.items():
        for variable in board["templating"].get("list", []):
            everyone = variable.get("definition", "") in EVERY_SERVICE
            if variable["name"] == "service" and not everyone:
                yield f"{name}: the variable service does not offer every service: {variable.get('definition') or variable['query']}"


def check_alert(rule: dict, query: Query, uids: dict[str, set[str]]) -> Iterator[str]:
    """Grafana links an alert by `__dashboardUid__` alone, the incident receiver by `dashboard`, which may say more."""
    said = rule["annotations"]
    uid = said.get("__dashboardUid__")
    if uid not in uids or said["dashboard"].partition("?")[0] != f"/d/{uid}":
        yield f"{query.where}: dashboard and __dashboardUid__ are not one dashboard that exists"


def check() -> int:
    boards = queries.dashboards()
    uids = {board["uid"]: {variable["name"] for variable in board["templating"].get("list", [])} for board in boards.values()}
    own, imported, attributes = known.declared()
    rules = [*queries.of_rules("mimir/rules", "promql"), *queries.of_rules("loki/rules", "logql")]
    series = own | known.seen(imported) | known.recorded(rules)
    on_pages = [query for query, _ in pages.fences()]
    asked = queries.everything() + on_pages
    problems = [problem for name, board in boards.items() for problem in check_board(name, board, uids)]
    problems += [problem for rule, query in rules if "alert" in rule for problem in check_alert(rule, query, uids)]
    problems += check_any_service(boards)
    problems += [*pages.broken_links(), *pages.unknown_targets(), *pages.unknown_variables()]
    problems += counting.problems()
    in_drills = list(drills.walks())
    problems += [problem for query in in_drills for problem in check_syntax(query)]
    problems += parse_elsewhere([query for query in asked + in_drills if query.language in ("logql", "traceql")])
    for query in asked:
        match query.language:
            case "promql":
                problems += check_promql(query, series)
            case "logql":
                problems += check_logql(query, attributes)
            case "traceql":
                problems += check_traceql(query, attributes)
            case "profile" if query.text.partition("{")[0] not in PROFILES:
                problems.append(f"{query.where}: nobody sends profiles of type {query.text}")
    for problem in sorted(set(problems)):
        print(problem)
    print(f"{len(asked)} queries of {len(boards)} dashboards, {len(rules)} rules, {len(on_pages)} places of the pages and {len(in_drills)} steps of drills: {len(set(problems))} problems")
    return 1 if problems else 0


# -- what the backends have --------------------------------------------------------------------------------------------


def collect(url: str) -> int:
    own, imported, _ = known.declared()
    rules = [*queries.of_rules("mimir/rules", "promql"), *queries.of_rules("loki/rules", "logql")]
    foreign = set()
    for query in queries.everything():
        if query.language == "promql":
            foreign |= {metric for metric, _ in selectors(promql_parser.parse(query.text))}
    foreign -= set(own) | set(known.recorded(rules))
    found = known.seen(imported)
    unseen = {line.split()[1] for line in known.BACKENDS.read_text(encoding="utf-8").splitlines() if line.startswith("? ")}
    for metric in sorted(foreign):
        address = f"{url}/api/v1/series?{urllib.parse.urlencode({'match[]': metric})}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            labels = {label for labels in json.load(answer)["data"] for label in labels} - {"__name__"}
        if labels:
            found[metric] = found.get(metric, set()) | labels
            unseen.discard(metric)
        elif metric not in found:
            print(f"not seen: {metric}")
    header = [line for line in known.BACKENDS.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    lines = [f"{'? ' if name in unseen else ''}{name} {','.join(sorted(labels))}".rstrip() for name, labels in sorted(found.items()) if name in foreign]
    known.BACKENDS.write_text("\n".join(header + lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} of {len(foreign)} series that the schema does not tell are known")
    return 0


match sys.argv[1:]:
    case []:
        sys.exit(check())
    case ["--collect", mimir]:
        sys.exit(collect(mimir))
    case ["--live", mimir, loki, tempo]:
        found = list(live.empty({"mimir": mimir, "loki": loki, "tempo": tempo}))
        print("\n".join(found + [f"{len(found)} queries without an answer"]))
        sys.exit(1 if found else 0)
    case ["--docs", mimir, loki, tempo, pyroscope]:
        found = list(pages.unanswered({"mimir": mimir, "loki": loki, "tempo": tempo, "pyroscope": pyroscope}))
        print("\n".join(found + [f"{len(found)} of {len(list(pages.fences()))} queries of the pages without an answer"]))
        sys.exit(1 if found else 0)
    case _:
        sys.exit("usage: python -m check [--collect MIMIR | --live MIMIR LOKI TEMPO | --docs MIMIR LOKI TEMPO PYROSCOPE]")
