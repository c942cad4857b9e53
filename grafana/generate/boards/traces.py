"""Traces: where is the time spent between the services?"""

from .. import names as n, style
from ..board import board, choice, query_variable
from ..panels import buckets, graph, heatmap, prom, read_me, row, service_map, stat, table, trace_table
from ..promql import quantile, rate, selector, zero_while

SCOPE = (f'{n.SPAN_SERVICE}=~"$service"', f'{n.SPAN_NAME}=~"$operation"', f'{n.SPAN_STATUS}=~"(?i)STATUS_CODE_($status)"', n.NOT_PROBE_SPANS)
CALLS = selector(n.SPAN_CALLS, *SCOPE)
FAILED = selector(n.SPAN_CALLS, *SCOPE, f'{n.SPAN_STATUS}="STATUS_CODE_ERROR"')
#: TraceQL compares a status with a keyword only; the chosen words are matched against each keyword's name instead.
STATUS = " || ".join(f'(status = {word} && "{word}" =~ "$status")' for word in ("error", "unset", "ok"))
SPANS = f'{{ resource.service.name =~ "$service" && name =~ "$operation" && duration >= $duration && ({STATUS}) && name !~ "{n.PROBE_SPANS}" }}'


def share_failed(group: str = "") -> str:
    return f"{zero_while(rate(FAILED, group), rate(CALLS, group))} / {rate(CALLS, group)}"


def edge(metric: str) -> str:
    return f'sum by (edge) (label_join(rate({metric}[$__rate_interval]), "edge", " → ", "client", "server"))'


def dashboard():
    question = "Where is the time spent between the services?"
    return board(
        "traces",
        "Signalbox · Traces",
        f"{question} Rate, errors and duration of every operation, made of all spans, and the graph of who calls whom.",
        variables=(
            query_variable("service", "Service", f"label_values({n.SPAN_CALLS}, {n.SPAN_SERVICE})", default=[n.API, n.WORKER]),
            query_variable("operation", "Operation", f'label_values({n.SPAN_CALLS}{{{n.SPAN_SERVICE}=~"$service"}}, {n.SPAN_NAME})', description="Name of the span."),
            choice("status", "Status", ("unset", "ok", "error"), all_value=".+", description="Status of the span; `unset` is the normal end of one that did not fail."),
            choice("duration", "Longer than", ("0ms", "10ms", "100ms", "500ms", "1s", "5s"), description="For the lists of spans: leaves out shorter ones."),
        ),
        next_board=("profiles", "Profiles"),
        content=[
            read_me(
                question,
                "Circles are services, arrows calls; a red rim is the share that failed. The lists below are spans: a click opens the trace at that span.",
                "a span that burns CPU carries its own flame graph: *Profiles*.",
            ),
            stat("Spans", "Spans per second that pass the filters.", prom(rate(CALLS)), unit="cps", thresholds=style.plain(style.TRACES)),
            stat("Failed spans", "Share of spans with status error.", prom(share_failed()), unit="percentunit", decimals=2, thresholds=style.ERROR_RATIO),
            stat("p50", "Half of the spans were shorter.", prom(quantile(0.5, n.SPAN_LATENCY, *SCOPE)), unit="s", thresholds=style.plain(style.TRACES)),
            stat("p95", "Nineteen of twenty spans were shorter.", prom(quantile(0.95, n.SPAN_LATENCY, *SCOPE)), unit="s", thresholds=style.LATENCY),
            stat("Operations", "Different names of spans.", prom(f"count(count by ({n.SPAN_NAME}) ({CALLS}))"), unit="none", decimals=0, thresholds=style.plain(style.TRACES), sparkline=False),
            stat("Edges", "Different pairs of caller and called.", prom(f"count(count by (client, server) ({n.EDGE_REQUESTS}))"), unit="none", decimals=0, thresholds=style.plain(style.TRACES), sparkline=False),
            row("Who calls whom"),
            service_map("Service graph", "Made by Tempo of pairs of client and server spans. Numbers: mean duration and calls per second. A click offers its metrics and traces."),
            graph("Calls by edge", "Calls per second from one service to another.", prom(edge(n.EDGE_REQUESTS), "{{edge}}"), unit="reqps", height=6, legend_table=True),
            graph(
                "Duration by edge, p95",
                "As the caller waited: network and queue included.",
                prom(
                    f'histogram_quantile(0.95, sum by (le, edge) (label_join(rate({n.EDGE_SECONDS}_bucket[$__rate_interval]), "edge", " → ", "client", "server")))',
                    "{{edge}}",
                    exemplars=True,
                ),
                unit="s", height=6, legend_table=True,
            ),
            row("Operations"),
            graph(
                "Span duration",
                "Quantiles of the chosen spans. Dots are spans of real traces: a click opens one.",
                *(prom(quantile(q, n.SPAN_LATENCY, *SCOPE), name, exemplars=(name == "p95")) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))),
                unit="s", colors=style.QUANTILES,
            ),
            heatmap(
                "Span duration, every span",
                "Brightness is the number of spans per second in that bucket of duration.",
                buckets(f"sum by (le) (rate({selector(n.SPAN_LATENCY + '_bucket', *SCOPE)}[$__rate_interval]))"),
                scheme="Purples",
            ),
            table(
                "Operations",
                "One line per span name: rate, errors, duration.",
                {
                    "Rate": (rate(CALLS, n.SPAN_NAME), "cps"),
                    "Errors": (share_failed(n.SPAN_NAME), "percentunit"),
                    "p50": (quantile(0.5, n.SPAN_LATENCY, *SCOPE, group=n.SPAN_NAME), "s"),
                    "p95": (quantile(0.95, n.SPAN_LATENCY, *SCOPE, group=n.SPAN_NAME), "s"),
                    "p99": (quantile(0.99, n.SPAN_LATENCY, *SCOPE, group=n.SPAN_NAME), "s"),
                },
                join=n.SPAN_NAME, join_title="Operation", sort="p95", thresholds={"Errors": style.ERROR_RATIO, "p95": style.LATENCY}, gauges=("Rate",), height=10,
            ),
            row("Spans"),
            trace_table("Spans", "The newest spans that pass all four filters.", SPANS, spans=True, height=10),
            trace_table("Failed", "The newest traces with a failed span of the chosen operations.", '{ resource.service.name =~ "$service" && name =~ "$operation" && status = error }', height=10),
        ],
    )
