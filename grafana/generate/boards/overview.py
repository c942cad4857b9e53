"""Overview: is the service healthy right now? The four golden signals, by route."""

from .. import names as n, style
from ..board import board, faults_annotation, query_variable, service_variable
from ..panels import bars, buckets, graph, heatmap, link, now, prom, read_me, row, stat, table
from ..promql import counted, quantile, rate, selector, zero_while

SCOPE = (f'{n.SERVICE}=~"$service"', f'{n.ROUTE}=~"$route"', f'{n.METHOD}=~"$method"', f'{n.STATUS}=~"$status"', n.NOT_PROBES)
REQUESTS = selector(n.HTTP_SERVER_COUNT, *SCOPE)
ERRORS = f'{n.ERROR}!=""'
FAILED = selector(n.HTTP_SERVER_COUNT, *SCOPE, f'{n.STATUS}=~"5.."')
ROUTE_LINKS = (
    link("Traces of this route", "/d/signalbox-traces?var-operation=.*${__data.fields.http_route}&${__url_time_range}"),
    link("Logs of this route", "/d/signalbox-logs-traces?var-search=${__data.fields.http_route}&${__url_time_range}"),
    link("Only this route", "/d/signalbox-overview?var-route=${__data.fields.http_route}&${__url_time_range}"),
)
SERIES_LINKS = (link("Traces behind this", "/d/signalbox-traces?${__url_time_range}&${service:queryparam}"),)


def share_failed(group: str = "") -> str:
    return f"{zero_while(rate(FAILED, group), rate(REQUESTS, group))} / {rate(REQUESTS, group)}"


def dashboard():
    question = "Is the service healthy right now?"
    return board(
        "overview",
        "Signalbox · Overview",
        f"{question} The four golden signals: traffic, errors, latency, saturation.",
        variables=(
            service_variable(default=[n.API]),
            query_variable("route", "Route", f'label_values({n.HTTP_SERVER_COUNT}{{{n.SERVICE}=~"$service",{n.NOT_PROBES}}}, {n.ROUTE})'),
            query_variable("method", "Method", f'label_values({n.HTTP_SERVER_COUNT}{{{n.SERVICE}=~"$service"}}, {n.METHOD})'),
            query_variable("status", "Status", f'label_values({n.HTTP_SERVER_COUNT}{{{n.SERVICE}=~"$service"}}, {n.STATUS})'),
        ),
        next_board=("traces", "Traces"),
        annotations=[faults_annotation()],
        content=[
            read_me(
                question,
                "Left to right: how much, how fast, how wrong, how full. Orange dots are exemplars: real requests, a click opens the trace. Marks along the time are pages (red) and injected faults (purple).",
                "a red number here, then its route in the table below, then *Traces*.",
            ),
            stat(
                "Requests",
                "Requests answered within the range, counted, not estimated: last value less the value before the range, for each series. "
                "`increase()` would extrapolate and miss what a counter had already counted when it was first seen. "
                "Probes and scrapes are left out. The newest requests appear with the next export of the service.",
                now(counted(REQUESTS)),
                unit="none",
                decimals=0,
                thresholds=style.plain(),
                sparkline=False,
            ),
            stat("Rate", "Requests per second.", prom(rate(REQUESTS)), unit="reqps", thresholds=style.plain()),
            stat(
                "Errors",
                "Share of requests answered with 5xx. Orange above the availability objective's budget (0.5 %), red where it pages (7.2 %).",
                prom(share_failed()),
                unit="percentunit",
                decimals=2,
                thresholds=style.ERROR_RATIO,
            ),
            stat(
                "p95 latency",
                "Nineteen of twenty requests were answered faster.",
                prom(quantile(0.95, n.HTTP_SERVER, *SCOPE)),
                unit="s",
                thresholds=style.LATENCY,
            ),
            stat(
                "In flight",
                "Requests being answered at this moment.",
                prom(f"sum({selector(n.HTTP_ACTIVE, SCOPE[0])})"),
                unit="none",
                decimals=0,
                thresholds=style.plain(),
            ),
            stat(
                "CPU",
                "Processor cores in use by the chosen services.",
                prom(rate(selector(n.CPU_TIME, SCOPE[0]))),
                unit="none",
                decimals=2,
                thresholds=style.plain(style.PROFILES),
            ),
            row("Traffic and errors"),
            graph(
                "Requests by route",
                "Requests per second, stacked: the upper edge is the whole.",
                prom(rate(REQUESTS, n.ROUTE), f"{{{{{n.ROUTE}}}}}"),
                unit="reqps",
                stacked=True,
                links=SERIES_LINKS,
            ),
            graph(
                "Responses by status",
                "Requests per second by status class.",
                prom(
                    f'sum by (class) (label_replace(rate({REQUESTS}[$__rate_interval]), "class", "${{1}}xx", "{n.STATUS}", "(.).."))',
                    "{{class}}",
                ),
                unit="reqps",
                stacked=True,
                colors=style.STATUS_CLASSES,
            ),
            row("Latency"),
            graph(
                "Latency",
                "Quantiles of all chosen requests. Each dot is one real request: click it, then *View trace*.",
                *(
                    prom(quantile(q, n.HTTP_SERVER, *SCOPE), name, exemplars=(name == "p95"))
                    for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ),
                unit="s",
                colors=style.QUANTILES,
                links=SERIES_LINKS,
            ),
            heatmap(
                "Latency, every request",
                "Each column is a moment, each row a bucket of latency, brightness the requests per second in it. Two bands mean two kinds of requests.",
                buckets(f"sum by (le) (rate({selector(n.HTTP_SERVER + '_bucket', *SCOPE)}[$__rate_interval]))"),
            ),
            row("By route"),
            table(
                "Routes",
                "One line per route. Click a route for its traces, its logs, or this page narrowed to it.",
                {
                    "Requests": (counted(REQUESTS, n.ROUTE), "none"),
                    "Rate": (rate(REQUESTS, n.ROUTE), "reqps"),
                    "Errors": (share_failed(n.ROUTE), "percentunit"),
                    "p50": (quantile(0.5, n.HTTP_SERVER, *SCOPE, group=n.ROUTE), "s"),
                    "p95": (quantile(0.95, n.HTTP_SERVER, *SCOPE, group=n.ROUTE), "s"),
                    "p99": (quantile(0.99, n.HTTP_SERVER, *SCOPE, group=n.ROUTE), "s"),
                },
                join=n.ROUTE,
                join_title="Route",
                sort="Requests",
                thresholds={"Errors": style.ERROR_RATIO, "p95": style.LATENCY},
                gauges=("Requests",),
                links=ROUTE_LINKS,
                width=17,
                height=10,
            ),
            bars(
                "Failures by kind",
                "Requests within the range that ended in an error, counted, by route and error.type.",
                now(f"sort_desc({counted(selector(n.HTTP_SERVER_COUNT, *SCOPE, ERRORS), f'{n.ROUTE}, {n.ERROR}')})", f"{{{{{n.ROUTE}}}}} · {{{{{n.ERROR}}}}}"),
                unit="none",
                thresholds=style.plain(style.BAD),
                width=7,
                height=10,
            ),
            row("What it waits for"),
            graph(
                "Database and cache, p95",
                "Time of one operation as the service sees it, by system.",
                prom(quantile(0.95, n.DB, SCOPE[0], group=n.DB_SYSTEM), f"{{{{{n.DB_SYSTEM}}}}}", exemplars=True),
                unit="s",
                width=6,
            ),
            graph(
                "Calls to the worker, p95",
                "Time of one outgoing HTTP call, network included.",
                prom(quantile(0.95, n.HTTP_CLIENT, SCOPE[0], group=n.SERVICE), f"{{{{{n.SERVICE}}}}}", exemplars=True),
                unit="s",
                width=6,
            ),
            graph(
                "Jobs, p95",
                "Time the worker took for one job, from taking it to having done it.",
                prom(quantile(0.95, n.MESSAGE_PROCESS, group=n.SERVICE), f"{{{{{n.SERVICE}}}}}", exemplars=True),
                unit="s",
                width=6,
            ),
            graph(
                "Orders",
                "What all this is for: orders written per minute, by category.",
                prom(f"{rate(selector(n.ORDERS, SCOPE[0]), n.CATEGORY)} * 60", f"{{{{{n.CATEGORY}}}}}"),
                unit="opm",
                width=6,
                stacked=True,
            ),
        ],
    )
