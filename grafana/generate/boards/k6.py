"""k6: did the test pass, and what did its users feel? Shown with `make up PROFILE=k6`, after `make k6`."""

from .. import style
from ..board import board
from ..panels import graph, now, prom, read_me, row, stat
from ..promql import rate

REQUESTS, DURATION, CHECKS = "k6_http_reqs_total", "k6_http_req_duration_seconds", "k6_checks_rate"


def quantile(q: float, group: str = "") -> str:
    """k6 sends native histograms: no buckets to choose, any quantile."""
    return f"histogram_quantile({q}, sum{f' by ({group})' if group else ''} (rate({DURATION}[$__rate_interval])))"


def dashboard():
    question = "Did the test pass, and what did its users feel?"
    return board(
        "k6",
        "Signalbox · k6",
        f"{question} What k6 measured from outside, as it wrote it to Mimir.",
        next_board=("load-test", "Load test"),
        span="now-15m",
        refresh="5s",
        content=[
            read_me(
                question,
                "Set the range to a run of `make k6`. These are the caller's figures: they hold the network and the queue in front of the service, which the service's own do not.",
                "the same minutes seen from inside: *Load test*.",
            ),
            stat("Requests", "Sent within the range. One series for each route and status, which ends with the run.", now(f"sum(last_over_time({REQUESTS}[$__range]))"), unit="none", decimals=0, thresholds=style.plain(), sparkline=False),
            stat("Not 200", "Answered otherwise within the range.", now(f'sum(last_over_time({REQUESTS}{{status!="200"}}[$__range])) or sum(last_over_time({REQUESTS}[$__range])) * 0'), unit="none", decimals=0, thresholds=style.NEVER, sparkline=False),
            stat("Checks", "Share of passed checks: status 200, and the trace continued. The threshold is 99 %.", now(f"avg(last_over_time({CHECKS}[$__range]))"), unit="percentunit", decimals=2, thresholds=style.plain(), sparkline=False),
            stat("Not sent in time", "Requests that no virtual user was free to send: the load was less than asked for.", now(f"sum(last_over_time(k6_dropped_iterations_total[$__range])) or sum(last_over_time({REQUESTS}[$__range])) * 0"), unit="none", decimals=0, thresholds=style.NEVER, sparkline=False),
            row("From the caller's side"),
            graph("Rate", "Requests per second by route.", prom(rate(REQUESTS, "name"), "{{name}}"), unit="reqps", stacked=True),
            graph("Latency", "Quantiles of all routes.", *(prom(quantile(q), name) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))), unit="s", colors=style.QUANTILES),
            graph("Latency by route, p95", "The thresholds of the script: /ping 250 ms, /demo/work 1 s.", prom(quantile(0.95, "name"), "{{name}}"), unit="s"),
            graph("Virtual users", "Busy users: how many requests were under way.", prom("k6_vus", "busy"), prom("k6_vus_max", "there are"), unit="none", decimals=0),
        ],
    )
