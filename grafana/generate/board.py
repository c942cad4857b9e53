"""A dashboard: its question, its variables, its rows, the way to the next one."""

import json
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard as model

from . import names as n
from .panels import LOKI, MIMIR, PYROSCOPE

TAG = "signalbox"
COLUMNS = 24


def query_variable(name: str, label: str, query: str, *, source=MIMIR, default: Sequence[str] = (), description: str = ""):
    """Several values may be chosen; all are at first, or `default`. *All* matches series without the label too: a request that
    met no route has none."""
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(source)
        .query({"query": query, "refId": f"variable-{name}", "qryType": 1} if source is MIMIR else query)
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+" if source is LOKI else ".*")  # Loki refuses a stream selector that could match everything
    )
    return variable.current(model.VariableOption(selected=True, text=list(default) or ["All"], value=list(default) or ["$__all"]))


def service_variable(source: common.DataSourceRef = MIMIR, default: Sequence[str] = ()):
    """Every service that sends the signal, of whatever name and namespace; `default` are those shown at first."""
    return query_variable("service", "Service", f"label_values({n.SERVICE})", source=source, default=default)


def profiled_service_variable(default: str):
    """One of the services that send CPU profiles: a flame graph of two would add up what has nothing in common."""
    query = {"type": "labelValue", "profileTypeId": n.CPU_PROFILE, "labelName": n.SERVICE, "refId": "variable-service"}
    return (
        builders.QueryVariable("service")
        .label("Service")
        .datasource(PYROSCOPE)
        .query(query)
        .definition(f"labelValue {n.SERVICE} of {n.CPU_PROFILE}")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(False)
        .include_all(False)
        .current(model.VariableOption(selected=True, text=default, value=default))
    )


def choice(name: str, label: str, values: Sequence[str], *, all_value: str | None = None, description: str = ""):
    """A closed list; with `all_value`, several may be chosen and all of them are at first."""
    variable = builders.CustomVariable(name).label(label).description(description).values(",".join(values))
    if all_value is None:
        first = values[0].split(" : ")
        return variable.multi(False).include_all(False).current(model.VariableOption(selected=True, text=first[0], value=first[-1]))
    return (
        variable.multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def text_variable(name: str, label: str, description: str):
    return (
        builders.TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value("")
        .current(model.VariableOption(selected=True, text="", value=""))
    )


def alerts_annotation() -> builders.AnnotationQuery:
    """Marks when a page was firing (tickets would paint over everything); the ruler writes ALERTS into Mimir."""
    return (
        builders.AnnotationQuery()
        .name("Pages")
        .datasource(MIMIR)
        .enable(True)
        .icon_color("red")
        .expr('sum by (alertname, severity) (ALERTS{alertname=~"Signalbox.+", alertstate="firing", severity="page"})')
        .step("15s")
        .title_format("{{alertname}}")
        .text_format("severity {{severity}}")
    )


def faults_annotation() -> builders.AnnotationQuery:
    """Marks when faults were injected: no panel, since in the normal run there are none. The counter is born with the first fault of its
    kind, which increase() cannot see: hence the value less that of a minute ago, or the whole value where there was none."""
    injected = n.FAULTS_INJECTED
    return (
        builders.AnnotationQuery()
        .name("Faults")
        .datasource(MIMIR)
        .enable(True)
        .icon_color("purple")
        .expr(f"sum by ({n.SERVICE}, {n.FAULT_KIND}) (({injected} - {injected} offset 1m) or {injected}) > 0")
        .step("15s")
        .title_format(f"{{{{{n.FAULT_KIND}}}}}")
        .text_format(f"injected into {{{{{n.SERVICE}}}}}")
    )


def board(
    uid: str,
    title: str,
    question: str,
    *,
    variables: Sequence = (),
    content: Sequence,
    next_board: tuple[str, str],
    annotations: Sequence[builders.AnnotationQuery] = (),
    span: str = "now-15m",
    refresh: str = "10s",
) -> builders.Dashboard:
    """`content` holds panels and rows in reading order; a tuple of (row, panels) is a row that opens on a click."""
    built = (
        builders.Dashboard(title)
        .uid(f"signalbox-{uid}")
        .description(question)
        .tags([TAG, "generated"])
        .time(span, "now")
        .refresh(refresh)
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .editable()
        .annotation(alerts_annotation())
        .link(
            builders.DashboardLink(f"Next: {next_board[1]}")
            .type(model.DashboardLinkType.LINK)
            .url(f"/d/signalbox-{next_board[0]}")
            .icon("doc")
            .keep_time(True)
            .include_vars(True)
        )
        .link(
            builders.DashboardLink("Signalbox")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
    )
    for annotation in annotations:
        built = built.annotation(annotation)
    for variable in variables:
        built = built.with_variable(variable)
    for item in content:
        built = built.with_row(item) if isinstance(item, builders.Row) else built.with_panel(item)
    return built


def render(built: builders.Dashboard) -> str:
    """The committed file: sorted keys, a stable id per panel, no field that only a newer Grafana reads."""
    document = json.loads(JSONEncoder(sort_keys=True, indent=2).encode(built.build()))
    for number, panel in enumerate(document["panels"], start=1):
        panel["id"] = number
        for found in links_of(panel):
            found.pop("placement", None)
    for found in document["links"]:
        found.pop("placement", None)
    lay_out(document["panels"])
    document["panels"] = fold(document["panels"])
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def lay_out(panels: list[dict]) -> None:
    """Puts each panel at the highest free place, leftmost first; a row starts below everything before it."""
    heights = [0] * COLUMNS
    for panel in panels:
        place = panel["gridPos"]
        if panel["type"] == "row":
            place |= {"x": 0, "y": max(heights), "w": COLUMNS, "h": 1}
            heights = [max(heights) + 1] * COLUMNS
            continue
        width = place["w"]
        y, x = min((max(heights[x : x + width]), x) for x in range(COLUMNS - width + 1))
        place |= {"x": x, "y": y}
        heights[x : x + width] = [y + place["h"]] * width


def links_of(node):
    """Every object below `node` that is a link."""
    if isinstance(node, dict):
        if "url" in node and "title" in node:
            yield node
        for value in node.values():
            yield from links_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from links_of(value)


def fold(panels: list[dict]) -> list[dict]:
    """Grafana keeps the panels of a closed row inside that row."""
    result: list[dict] = []
    closed: dict | None = None
    for panel in panels:
        if panel["type"] == "row":
            closed = panel if panel.get("collapsed") else None
            panel["panels"] = []
            result.append(panel)
        elif closed is not None:
            closed["panels"].append(panel)
        else:
            result.append(panel)
    return result
