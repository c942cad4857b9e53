"""Database: what does PostgreSQL itself say of the statements, and who waits for whom?"""

from .. import names as n, style
from ..board import board, text_variable
from ..panels import LOKI, graph, log_lines, logql, prom, read_me, row, scraped, stat, table
from ..promql import quantile

WINDOW = "$__rate_interval"


def per_second(counter: str, group: str) -> str:
    return f"sum by ({group}) (rate({counter}[{WINDOW}]))"


# Alloy's own queries are another question (alloy/database.alloy calls their role so).
SECONDS = f'{n.PG_STATEMENT_SECONDS}{{user!="observer"}}'
WATCHING = f'{n.PG_STATEMENT_SECONDS}{{user="observer"}}'
COUNT = f'{n.PG_STATEMENT_CALLS}{{user!="observer"}}'
TIME = per_second(SECONDS, "queryid")
CALLS = per_second(COUNT, "queryid")
SESSIONS = f'{n.PG_ACTIVITY}{{datname!=""}}'


def lines(op: str, *filters: str) -> str:
    """Records of Alloy's database_observability; their fields are in the line."""
    return " ".join((f'{{job="postgres", op="{op}"}}', *filters))


OF_SESSION = '|~ "(pid|blocked_by_pids)=\\"\\\\[?$pid"'


def dashboard():
    question = "What does the database itself say?"
    return board(
        "database",
        "Signalbox · Database",
        f"{question} Statements by time, sessions by what they wait for, samples that lead to their traces.",
        variables=(text_variable("pid", "Process id", "Of one session: all its samples and waits, and those of the sessions that it blocks."),),
        next_board=("pipeline", "Pipeline"),
        content=[
            read_me(
                question,
                "Statements are told apart by their queryid; the table of texts below says which is which. A sample is a statement that ran when Alloy looked, once a second: short ones are missed. Open a sample, and *Open the trace* leads to the request that sent it; *Sessions that block* to the one it waits for.",
                "is what you see complete? *Pipeline*.",
            ),
            stat("Time in statements", "Sessions that are busy at once, on average: seconds of statements per second.", scraped(f"sum(rate({SECONDS}[{WINDOW}]))"), unit="none", decimals=3, thresholds=style.plain(), width=5),
            stat("Watching", "The same of Alloy's own queries: what this page costs the database. It samples once a second, for the demo.", scraped(f"sum(rate({WATCHING}[{WINDOW}]))"), unit="none", decimals=3, thresholds=style.plain(), width=5),
            stat("Statements", "Per second.", scraped(f"sum(rate({COUNT}[{WINDOW}]))"), unit="cps", thresholds=style.plain(), width=5),
            stat("Sessions", "Open sessions, idle ones too.", scraped(f"sum({SESSIONS})"), unit="none", decimals=0, thresholds=style.plain(), width=4),
            stat("Waits seen", "Waits of statements that Alloy saw within the range.", logql(f"sum (count_over_time({lines('wait_event')} [$__range]))", instant=True), unit="none", decimals=0, thresholds=style.plain(style.WARN), sparkline=False, datasource=LOKI, width=5, nothing="0"),
            row("Statements"),
            graph("Time by statement", "Seconds of all sessions per second, the ten that take most.", scraped(f"topk(10, {TIME})", "{{queryid}}"), unit="none", decimals=3, stacked=True),
            graph("Sessions by what they wait for", "`ClientRead` is idle: the database waits for the service. `Lock` waits for another session.", scraped(f"sum by (state, wait_event_type, wait_event) ({SESSIONS}) > 0", "{{state}} {{wait_event_type}} {{wait_event}}"), unit="none", decimals=0, stacked=True),
            table(
                "Statements",
                "One line a statement: time in all, calls, time of one call.",
                {
                    "Time": (TIME, "none"),
                    "Calls": (CALLS, "cps"),
                    "Mean": (f"{TIME} / {CALLS}", "s"),
                },
                join="queryid", join_title="Statement", sort="Time", gauges=("Time",), height=10,
            ),
            graph("As the service feels them, p95", "Round trip and the wait for a connection included.", prom(quantile(0.95, n.DB, f'{n.DB_SYSTEM}="postgresql"', group=n.DB_OPERATION), f"{{{{{n.DB_OPERATION}}}}}", exemplars=True), unit="s", height=10),
            log_lines("Texts of the statements", "Which queryid is which statement. Values and comments are left out. Written once a minute.", lines("query_association", "| logfmt", '| line_format "{{.queryid}}  {{.querytext}}"'), height=8),
            row("Waits, samples and plans (there are some when statements are slow enough to be seen)", collapsed=True),
            log_lines("Waits", "What a statement waited for, how long, and the sessions that kept it waiting.", lines("wait_event", OF_SESSION), height=10),
            log_lines("Samples", "Statements that ran when Alloy looked. The trace is a click away.", lines("query_sample", OF_SESSION), height=10),
            log_lines("Plans", "How the statements are planned, as JSON. Compare two of one digest: a scan where there was an index is a lost index.", lines("explain_plan_output", "| logfmt", '| line_format "{{.digest}} {{.explain_plan_output | b64dec}}"'), height=10),
        ],
    )
