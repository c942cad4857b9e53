"""Logs & traces: what happened, and in which request?"""

from .. import names as n, style
from ..board import board, choice, service_variable, text_variable
from ..panels import LOKI, graph, log_lines, logql, one_trace, read_me, row, stat, trace_table

STREAM = f'{{{n.SERVICE}=~"$service"}}'
#: Filters on structured metadata; an empty box matches every record, those without the field too. Probes would fill the page.
REQUEST = " or ".join(f'{name}=~"$request_id.*"' for name in n.REQUEST_IDS)
ASKED = f'| {n.LEVEL}=~"$level" | {n.TRACE_ID}=~"$trace_id.*" | {REQUEST} | {n.NOT_PROBES} |~ "(?i)$search"'
RECORDS = f"{STREAM} {ASKED}"
TRACED = f'{RECORDS} | {n.TRACE_ID}!=""'
TRACES = '{ resource.service.name =~ "$service" && (trace:id = "$trace_id" || "$trace_id" = "") && trace:rootName !~ "' + n.PROBE_SPANS + '" }'


def counted(query: str) -> str:
    return f"sum (count_over_time({query} [$__range]))"


def dashboard():
    question = "What happened, and in which request?"
    return board(
        "logs-traces",
        "Signalbox · Logs & traces",
        f"{question} Records and traces side by side, narrowed by service, level, request or words.",
        variables=(
            service_variable(LOKI, default=[n.API, n.WORKER]),
            choice("level", "Level", ("trace", "debug", "info", "warn", "error"), all_value=".+", description="Severity as Loki understood it."),
            text_variable("request_id", "Request id", "The x-request-id of a response: all its records."),
            text_variable("trace_id", "Trace id", "32 hex digits, or the first few: all records of that trace."),
            text_variable("search", "Search", "A regular expression looked for in the text of the record, upper or lower case."),
        ),
        next_board=("traces", "Traces"),
        content=[
            read_me(
                question,
                "Open a record: its fields hold the trace, span and request id. **View trace** goes to the trace; a request id in the box above keeps that one request.",
                "one trace is understood, many are compared on *Traces*.",
            ),
            stat(
                "Records",
                "Log records within the range that pass the filters, without those of probes and scrapes.",
                logql(counted(RECORDS), instant=True),
                unit="none", decimals=0, thresholds=style.plain(style.LOGS), sparkline=False, datasource=LOKI, width=6,
            ),
            stat(
                "Errors",
                "Records of level error, whatever level is chosen above.",
                logql(counted(RECORDS.replace('"$level"', '"error|fatal"')), instant=True),
                unit="none", decimals=0, thresholds=style.plain(style.BAD), sparkline=False, datasource=LOKI, width=6, nothing="0",
            ),
            stat(
                "With a trace",
                "Share of the records that carry a trace id: all those written inside a request. Start and stop of a process have none.",
                logql(f"{counted(TRACED)} / {counted(RECORDS)}", instant=True),
                unit="percentunit", decimals=1, thresholds=style.plain(style.TRACES), sparkline=False, datasource=LOKI, width=6,
            ),
            stat(
                "Volume",
                "Text received per second, as Loki counts it.",
                logql(f"sum (bytes_rate({RECORDS} [$__auto]))"),
                unit="Bps", thresholds=style.plain(style.LOGS), datasource=LOKI, width=6,
            ),
            graph(
                "Records by level",
                "Records per second. Drag across a peak to narrow the range to it.",
                logql(f"sum by ({n.LEVEL}) (rate({RECORDS} [$__auto]))", f"{{{{{n.LEVEL}}}}}"),
                unit="cps", width=style.FULL, height=7, stacked=True, bars=True, colors=style.LEVELS, datasource=LOKI,
            ),
            row("Records"),
            log_lines("Records", "Newest first; scroll down for older ones. A click shows the fields and the links.", RECORDS, height=16),
            row("Traces"),
            trace_table("Traces", "The newest traces of the chosen services, or the one whose whole id stands above. A click on an id opens the trace.", TRACES, width=style.HALF, height=10),
            trace_table(
                "Failed traces",
                "Traces with at least one failed span: start here after an alert.",
                '{ resource.service.name =~ "$service" && status = error }',
                width=style.HALF, height=10,
            ),
            row("The trace of the id above (fill in Trace id, then open)", collapsed=True),
            one_trace("Trace", "Every span of the trace whose whole id stands in the box above.", "$trace_id"),
        ],
    )
