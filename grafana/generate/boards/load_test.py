"""Load test: what did the load do, and how far is the limit?"""

from .. import names as n, style
from ..board import board, query_variable, service_variable
from ..panels import graph, now, prom, read_me, row, stat
from ..promql import counted, quantile, rate, selector, zero_while

SERVICE = f'{n.SERVICE}=~"$service"'
SCOPE = (SERVICE, f'{n.ROUTE}=~"$route"', n.NOT_PROBES)
REQUESTS = selector(n.HTTP_SERVER_COUNT, *SCOPE)
FAILED = selector(n.HTTP_SERVER_COUNT, *SCOPE, f'{n.STATUS}=~"5.."')
USED = f'{n.POOL_STATE}="used"'
CPU = selector(n.CPU_TIME, SERVICE)


def dashboard():
    question = "What did the load do, and how far is the limit?"
    return board(
        "load-test",
        "Signalbox · Load test",
        f"{question} Choose the range of a run: exact counts, latency under load, and what filled up.",
        variables=(
            service_variable(default=[n.API]),
            query_variable("route", "Route", f'label_values({n.HTTP_SERVER_COUNT}{{{n.SERVICE}=~"$service",{n.NOT_PROBES}}}, {n.ROUTE})'),
        ),
        next_board=("slo", "SLO"),
        span="now-5m",
        refresh="5s",
        content=[
            read_me(
                question,
                "Set the range to the run. *Requests* must equal what `make generate-load` says it sent. When rate stops rising while latency climbs, the first full resource below is the limit.",
                "what it cost our promises: *SLO*.",
            ),
            stat("Requests", "Answered within the range: counted, not estimated (last value less the value before the range, for each series).", now(counted(REQUESTS)), unit="none", decimals=0, thresholds=style.plain(), sparkline=False),
            stat("Failed", "Answered with 5xx within the range, counted the same way.", now(zero_while(counted(FAILED), counted(REQUESTS))), unit="none", decimals=0, thresholds=style.NEVER, sparkline=False),
            stat("Highest rate", "The best moment of the range.", prom(rate(REQUESTS)), unit="reqps", thresholds=style.plain(), calc="max"),
            stat("Worst p95", "The worst moment of the range.", prom(quantile(0.95, n.HTTP_SERVER, *SCOPE)), unit="s", thresholds=style.LATENCY, calc="max"),
            stat("CPU per request", "Processor time of the service divided by its requests within the range.", now(f"{counted(CPU)} / {counted(selector(n.HTTP_SERVER_COUNT, SERVICE))}"), unit="s", thresholds=style.plain(style.PROFILES), sparkline=False),
            stat("Turned away", "Requests refused within the range because they were beyond a limit.", now(zero_while(counted(selector(n.REJECTED, SERVICE)), counted(REQUESTS))), unit="none", decimals=0, thresholds=style.NEVER, sparkline=False),
            row("Load and answer"),
            graph("Rate", "Requests per second by route.", prom(rate(REQUESTS, n.ROUTE), f"{{{{{n.ROUTE}}}}}"), unit="reqps", stacked=True),
            graph("Latency", "Quantiles. Dots are real requests.", *(prom(quantile(q, n.HTTP_SERVER, *SCOPE), name, exemplars=(name == "p99")) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))), unit="s", colors=style.QUANTILES),
            row("What fills up"),
            graph("In flight", "Requests being answered. By Little's law: rate times mean latency.", prom(f"sum by ({n.SERVICE}) ({selector(n.HTTP_ACTIVE, SERVICE)})", f"{{{{{n.SERVICE}}}}}"), unit="none", decimals=0, width=style.THIRD),
            graph("CPU", "Cores in use.", prom(rate(CPU, n.SERVICE), f"{{{{{n.SERVICE}}}}}"), unit="none", decimals=1, width=style.THIRD),
            graph("Memory", "Resident.", prom(f"sum by ({n.SERVICE}) ({selector(n.MEMORY, SERVICE)})", f"{{{{{n.SERVICE}}}}}"), unit="bytes", width=style.THIRD),
            graph("Database connections", "In use, and asked for in vain so far.", prom(f'sum({selector(n.POOL_COUNT, SERVICE, USED)})', "used"), prom(f"sum({selector(n.POOL_MAX, SERVICE)})", "max"), unit="none", decimals=0, width=style.THIRD, colors={"used": "orange", "max": style.QUIET}),
            graph("Jobs waiting", "p95 of the time until the worker takes a job.", prom(quantile(0.95, n.QUEUE_WAIT), "p95", exemplars=True), unit="s", width=style.THIRD, colors=style.QUANTILES),
            graph("Telemetry waiting", "Spans and records in the service's own queues: full at 2,048.", *(prom(f"sum({selector(n.SDK_QUEUE[signal], SERVICE)})", signal) for signal in n.SDK_QUEUE), unit="none", decimals=0, width=style.THIRD, colors=style.SIGNALS),
        ],
    )
