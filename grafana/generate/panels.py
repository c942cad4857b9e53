"""Panels in the house style. Each takes a title, the description a reader sees on hover, and its queries."""

import json
from collections.abc import Sequence
from urllib.parse import quote

from grafana_foundation_sdk.builders import (
    bargauge,
    common as common_builders,
    dashboard as builders,
    heatmap as heatmap_builders,
    logs as logs_builders,
    loki,
    nodegraph,
    prometheus,
    stat as stat_builders,
    statetimeline,
    table as table_builders,
    tempo,
    text as text_builders,
    timeseries,
)
from grafana_foundation_sdk.builders import grafanapyroscope as pyroscope
from grafana_foundation_sdk.models import (
    common,
    dashboard as model,
    heatmap as heatmap_model,
    prometheus as prometheus_model,
    tempo as tempo_model,
    text as text_model,
)

from . import style

# -- data sources: fixed uids, provisioned in grafana/provisioning ------------------------------------------------------


def source(kind: str, uid: str) -> common.DataSourceRef:
    return common.DataSourceRef(type_val=kind, uid=uid)


MIMIR = source("prometheus", "mimir")
LOKI = source("loki", "loki")
TEMPO = source("tempo", "tempo")
PYROSCOPE = source("grafana-pyroscope-datasource", "pyroscope")

UP_WORDS = [
    model.ValueMap(
        options={
            "0": model.ValueMappingResult(text="down", color=style.BAD),
            "1": model.ValueMappingResult(text="up", color=style.GOOD),
        }
    )
]

#: A quantile or a share of nothing.
NOT_A_NUMBER = [{"type": "special", "options": {"match": "nan", "result": {"text": "–", "color": style.QUIET}}}]

# -- queries -----------------------------------------------------------------------------------------------------------


def prom(expression: str, legend: str = "__auto", *, exemplars: bool = False) -> prometheus.Dataquery:
    """A range query."""
    query = prometheus.Dataquery().expr(expression).legend_format(legend).range().editor_mode(prometheus_model.QueryEditorMode.CODE)
    return query.exemplar(True) if exemplars else query


def scraped(expression: str, legend: str = "__auto") -> prometheus.Dataquery:
    """A range query of what Alloy scrapes every 15 s, three times rarer than the service pushes: $__rate_interval follows."""
    return prom(expression, legend).interval("15s")


def now(expression: str, legend: str = "__auto") -> prometheus.Dataquery:
    """One value, at the end of the range."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).instant().editor_mode(prometheus_model.QueryEditorMode.CODE)


def row_of(expression: str) -> prometheus.Dataquery:
    """One value per label set, as rows of a table."""
    return now(expression).format(prometheus_model.PromQueryFormat.TABLE)


def buckets(expression: str) -> prometheus.Dataquery:
    return prom(expression, "{{le}}", exemplars=True).format(prometheus_model.PromQueryFormat.HEATMAP)


def logql(expression: str, legend: str = "", *, instant: bool = False, limit: int | None = None) -> loki.Dataquery:
    query = loki.Dataquery().expr(expression).query_type("instant" if instant else "range")
    if legend:
        query = query.legend_format(legend)
    return query.max_lines(limit) if limit else query


def traceql(query: str, *, limit: int = 20, spans: bool = False) -> tempo.Dataquery:
    kind = tempo_model.SearchTableType.SPANS if spans else tempo_model.SearchTableType.TRACES
    return tempo.Dataquery().query_type("traceql").query(query).limit(limit).spss(3).table_type(kind)


def profile(profile_type: str, labels: str, *, kind: str = "profile", group: Sequence[str] = ()) -> pyroscope.Dataquery:
    return pyroscope.Dataquery().query_type(kind).profile_type_id(profile_type).label_selector(labels).group_by(list(group))


# -- shared bits -------------------------------------------------------------------------------------------------------


def scale(thresholds: list[model.Threshold]) -> builders.ThresholdsConfig:
    return builders.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def color(mode: model.FieldColorModeId, fixed: str | None = None) -> builders.FieldColor:
    built = builders.FieldColor().mode(mode)
    return built.fixed_color(fixed) if fixed else built


def link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url)


def explore(title: str, datasource: common.DataSourceRef, query: dict) -> builders.DashboardLink:
    """A link to the page *Explore* over the dashboard's range. Grafana fills in `$` names, so they stay as they are."""
    named = {"type": datasource.type_val, "uid": datasource.uid}
    pane = {"datasource": datasource.uid, "queries": [{"refId": "A", "datasource": named, **query}], "range": {"from": "${__from}", "to": "${__to}"}}
    panes = quote(json.dumps({"a": pane}, separators=(",", ":")), safe="${}:,/")
    return link(title, f"/explore?schemaVersion=1&orgId=1&panes={panes}")


def prop(identity: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val=identity, value=value)


def fixed(name: str) -> model.DynamicConfigValue:
    return prop("color", {"mode": "fixed", "fixedColor": name})


def _base(panel, title, description, targets, datasource, width, height):
    panel = panel.title(title).description(description).datasource(datasource).span(width).height(height)
    for index, target in enumerate(targets):
        panel = panel.with_target(target.ref_id(chr(ord("A") + index)).datasource(datasource))
    return panel


# -- panels ------------------------------------------------------------------------------------------------------------


def read_me(question: str, how: str, then: str) -> text_builders.Panel:
    """The line on top of every dashboard: its question, how to read it, where to go next."""
    return (
        text_builders.Panel()
        .title("")
        .transparent(True)
        .mode(text_model.TextMode.MARKDOWN)
        .content(f"### {question}\n{how} **Next:** {then}")
        .span(style.FULL)
        .height(style.READ_HEIGHT)
    )


def row(title: str, *, collapsed: bool = False) -> builders.Row:
    return builders.Row(title).collapsed(collapsed)


def stat(
    title: str,
    description: str,
    *targets,
    unit: str,
    thresholds: list[model.Threshold],
    decimals: int | None = None,
    sparkline: bool = True,
    width: int = style.SIXTH,
    height: int = style.STAT_HEIGHT,
    datasource=MIMIR,
    mappings: list | None = None,
    links: Sequence[builders.DashboardLink] = (),
    calc: str = "lastNotNull",
    nothing: str | None = None,
) -> stat_builders.Panel:
    """One number. `nothing` is what it says when the query finds nothing to count."""
    panel = (
        _base(stat_builders.Panel(), title, description, targets, datasource, width, height)
        .unit(unit)
        .thresholds(scale(thresholds))
        .color_scheme(color(model.FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA if sparkline else common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.AUTO if len(targets) > 1 else common.BigValueTextMode.VALUE)
        .justify_mode(common.BigValueJustifyMode.AUTO)
        .reduce_options(common_builders.ReduceDataOptions().calcs([calc]).values(False))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if mappings:
        panel = panel.mappings(mappings)
    if nothing is not None:
        panel = panel.no_value(nothing)
    return panel.data_links(list(links)) if links else panel


def graph(
    title: str,
    description: str,
    *targets,
    unit: str,
    width: int = style.HALF,
    height: int = style.GRAPH_HEIGHT,
    stacked: bool = False,
    bars: bool = False,
    fill: int = 8,
    minimum: float | None = 0,
    maximum: float | None = None,
    colors: dict[str, str] | None = None,
    single: str | None = None,
    limit: list[model.Threshold] | None = None,
    links: Sequence[builders.DashboardLink] = (),
    datasource=MIMIR,
    legend_table: bool = False,
    decimals: int | None = None,
) -> timeseries.Panel:
    """Lines over time; `colors` fixes the colour of a series by its name, `single` that of all.

    Stacked series are areas without outline: the line of a series that is zero would cover the one below it.
    """
    legend = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    if legend_table:
        legend = (
            legend.display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.RIGHT)
            .calcs(["mean", "max"])
            .sort_by("Mean")
            .sort_desc(True)
        )
    else:
        legend = legend.display_mode(common.LegendDisplayMode.LIST).calcs([])
    panel = (
        _base(timeseries.Panel(), title, description, targets, datasource, width, height)
        .unit(unit)
        .draw_style(common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE)
        .line_width(0 if bars or stacked else 2)
        .line_interpolation(common.LineInterpolation.SMOOTH)
        .fill_opacity(80 if bars else (60 if stacked else fill))
        .gradient_mode(common.GraphGradientMode.NONE if bars or stacked else common.GraphGradientMode.OPACITY)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(60_000)
        .axis_border_show(False)
        .legend(legend)
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if minimum is not None:
        panel = panel.min(minimum)
    if maximum is not None:
        panel = panel.max(maximum)
    if decimals is not None:
        panel = panel.decimals(decimals)
    if single:
        panel = panel.color_scheme(color(model.FieldColorModeId.FIXED, single))
    else:
        panel = panel.color_scheme(color(model.FieldColorModeId.PALETTE_CLASSIC))
    for name, fixed_color in (colors or {}).items():
        panel = panel.override_by_name(name, [fixed(fixed_color)])
    if limit:
        panel = panel.thresholds(scale(limit)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return panel.data_links(list(links)) if links else panel


def heatmap(title: str, description: str, target, *, unit: str = "s", width: int = style.HALF, height: int = style.GRAPH_HEIGHT, scheme: str = "Blues"):
    return (
        _base(heatmap_builders.Panel(), title, description, [target], MIMIR, width, height)
        .calculate(False)
        .color(
            heatmap_builders.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme(scheme)
            .exponent(0.5)
            .steps(64)
            .reverse(False)
        )
        .cell_gap(1)
        .filter_values(heatmap_builders.FilterValueRange().le(1e-9))
        .y_axis(heatmap_builders.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
        .cell_values(heatmap_builders.CellValues().unit("reqps").decimals(2))
        .rows_frame(heatmap_builders.RowsHeatmapOptions().layout(common.HeatmapCellLayout.AUTO))
        .tooltip(heatmap_builders.HeatmapTooltip().mode(common.TooltipDisplayMode.SINGLE).show_color_scale(True).y_histogram(True))
        .exemplars_color("rgba(255,120,10,0.9)")
        .show_legend()
    )


def bars(title: str, description: str, *targets, unit: str, thresholds=None, width: int = style.THIRD, height: int = style.GRAPH_HEIGHT, datasource=MIMIR, maximum: float | None = None):
    """One horizontal bar per series, longest first comes from the query's `sort_desc`."""
    panel = (
        _base(bargauge.Panel(), title, description, targets, datasource, width, height)
        .unit(unit)
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.GRADIENT)
        .value_mode(common.BarGaugeValueMode.TEXT)
        .name_placement(common.BarGaugeNamePlacement.LEFT)
        .show_unfilled(True)
        .sizing(common.BarGaugeSizing.AUTO)
        .min_viz_height(14)
        .max_viz_height(28)
        .min(0)
        .thresholds(scale(thresholds or style.plain()))
        .color_scheme(color(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    return panel.max(maximum) if maximum is not None else panel


def table(
    title: str,
    description: str,
    columns: dict[str, tuple[str, str]],
    *,
    join: str,
    join_title: str,
    sort: str,
    thresholds: dict[str, list[model.Threshold]] | None = None,
    gauges: Sequence[str] = (),
    links: Sequence[builders.DashboardLink] = (),
    width: int = style.FULL,
    height: int = style.GRAPH_HEIGHT,
):
    """Instant queries joined on one label. `columns`: title → (expression, unit)."""
    panel = _base(table_builders.Panel(), title, description, [row_of(query) for query, _ in columns.values()], MIMIR, width, height)
    panel = (
        panel.cell_height(common.TableCellHeight.SM)
        .with_transformation(model.DataTransformerConfig(id_val="joinByField", options={"byField": join, "mode": "outer"}))
        .with_transformation(
            model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"pattern": f"^({join}|Value.*)$"}})
        )
        .sort_by([common_builders.TableSortByFieldState().display_name(sort).desc(True)])
    )
    panel = panel.override_by_name(
        join, [prop("displayName", join_title), prop("custom.width", 240)] + ([prop("links", [l.build() for l in links])] if links else [])
    )
    for index, (name, (_, unit)) in enumerate(columns.items()):
        field = f"Value #{chr(ord('A') + index)}"
        properties = [prop("displayName", name), prop("unit", unit), prop("noValue", "–"), prop("mappings", NOT_A_NUMBER)]
        if thresholds and name in thresholds:
            properties += [
                prop("thresholds", scale(thresholds[name]).build()),
                prop("custom.cellOptions", {"type": "color-text"}),
            ]
        if name in gauges:
            properties += [prop("custom.cellOptions", {"type": "gauge", "mode": "gradient", "valueDisplayMode": "text"}), prop("min", 0), fixed(style.METRICS)]
        panel = panel.override_by_name(field, properties)
    return panel


def trace_table(title: str, description: str, query: str, *, limit: int = 20, spans: bool = False, width: int = style.HALF, height: int = style.GRAPH_HEIGHT):
    return _base(table_builders.Panel(), title, description, [traceql(query, limit=limit, spans=spans)], TEMPO, width, height).cell_height(
        common.TableCellHeight.SM
    )


def log_lines(title: str, description: str, query: str, *, height: int = 14, width: int = style.FULL, limit: int = 200):
    return (
        _base(logs_builders.Panel(), title, description, [logql(query, limit=limit)], LOKI, width, height)
        .show_time(True)
        .show_labels(False)
        .show_common_labels(False)
        .wrap_log_message(False)
        .prettify_log_message(False)
        .enable_log_details(True)
        .sort_order(common.LogsSortOrder.DESCENDING)
        .dedup_strategy(common.LogsDedupStrategy.NONE)
        .enable_infinite_scrolling(True)
    )


def flame(title: str, description: str, query: pyroscope.Dataquery, *, width: int = style.FULL, height: int = 20):
    """The SDK has no builder for this panel: the generic one with the panel's type."""
    return _base(builders.Panel().type("flamegraph"), title, description, [query], PYROSCOPE, width, height)


def one_trace(title: str, description: str, query: str, *, width: int = style.FULL, height: int = 16):
    return _base(builders.Panel().type("traces"), title, description, [traceql(query)], TEMPO, width, height)


def service_map(title: str, description: str, *, width: int = style.HALF, height: int = style.TALL):
    query = tempo.Dataquery().query_type("serviceMap").service_map_query("")
    return _base(nodegraph.Panel(), title, description, [query], TEMPO, width, height)


def alert_list(title: str, description: str, *, width: int = style.HALF, height: int = style.GRAPH_HEIGHT):
    """All rules of Mimir's ruler by state, the quiet ones too. The SDK has no builder for it."""
    options = {
        "alertInstanceLabelFilter": "",
        "alertName": "",
        "dashboardAlerts": False,
        "datasource": "Mimir",
        "groupBy": [],
        "groupMode": "default",
        "maxItems": 50,
        "showInactiveAlerts": True,
        "sortOrder": 3,
        "stateFilter": {"error": True, "firing": True, "noData": False, "normal": True, "pending": True, "recovering": True},
        "viewMode": "list",
    }
    return builders.Panel().type("alertlist").title(title).description(description).options(options).span(width).height(height)


def states(title: str, description: str, *targets, mappings: list, width: int = style.HALF, height: int = style.GRAPH_HEIGHT, thresholds=None):
    return (
        _base(statetimeline.Panel(), title, description, targets, MIMIR, width, height)
        .thresholds(scale(thresholds or style.UP))
        .color_scheme(color(model.FieldColorModeId.THRESHOLDS))
        .mappings(mappings)
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.85)
        .fill_opacity(75)
        .line_width(0)
        .legend(common_builders.VizLegendOptions().show_legend(False))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
    )
