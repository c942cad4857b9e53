"""Push and pull: do both ways of the same metric agree? Shown with `make up PROFILE=prometheus`."""

from .. import names as n, style
from ..board import board
from ..panels import graph, now, prom, read_me, row, stat
from ..promql import rate, selector

PUSHED = (f'{n.SERVICE}="{n.API}"', n.NOT_PROBES)
PULLED = ('job="signalbox-pull"', f'pulled="{n.API}"', n.NOT_PROBES)
COUNT = n.HTTP_SERVER_COUNT


def both(expression) -> tuple:
    """The same expression over the series that the service pushed and over those that Prometheus pulled."""
    return tuple(prom(expression(matchers), name) for name, matchers in (("push", PUSHED), ("pull", PULLED)))


def native(q: float, *matchers: str) -> str:
    return f"histogram_quantile({q}, sum(rate({selector(n.HTTP_SERVER, *matchers)}[$__rate_interval])))"


def classic(q: float, *matchers: str) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({selector(n.HTTP_SERVER + '_bucket', *matchers)}[$__rate_interval])))"


def dashboard():
    question = "Do push and pull agree?"
    total = lambda matchers: f"sum({selector(COUNT, *matchers)})"  # noqa: E731
    return board(
        "prometheus",
        "Signalbox · Push and pull",
        f"{question} The same metrics of one process, pushed by OTLP through Alloy and pulled from /metrics by Prometheus.",
        next_board=("overview", "Overview"),
        span="now-15m",
        refresh="5s",
        content=[
            read_me(
                question,
                "Both are read from the same instruments, each every five seconds but not at the same moment: under load the lines run a few seconds apart, and when it stops they meet on the same number.",
                "one process, two ways: *Overview* is made of the pushed one.",
            ),
            stat("Requests, pushed", "Answered since the process started, as pushed.", now(total(PUSHED)), unit="none", decimals=0, thresholds=style.plain(), sparkline=False),
            stat("Requests, pulled", "The same, as pulled.", now(total(PULLED)), unit="none", decimals=0, thresholds=style.plain(), sparkline=False),
            stat("Difference", "0 at rest.", now(f"{total(PUSHED)} - {total(PULLED)}"), unit="none", decimals=0, thresholds=style.plain(), sparkline=False),
            row("The same metric, both ways"),
            graph("Requests", "One counter.", *both(total), unit="none", decimals=0),
            graph("Rate", "Requests per second.", *both(lambda matchers: rate(selector(COUNT, *matchers))), unit="reqps"),
            graph("Latency, p95", "Dots are exemplars of the push. Prometheus keeps those of a converted histogram with the native series: they are in the next panel.", prom(classic(0.95, *PUSHED), "push", exemplars=True), prom(classic(0.95, *PULLED), "pull"), unit="s"),
            graph("Latency, p95, native", "The pulled histogram as one series instead of one for each boundary: the same boundaries, the same answer. Dots are its exemplars.", prom(native(0.95, *PULLED), "pull, native", exemplars=True), prom(classic(0.95, *PULLED), "pull, classic"), unit="s"),
        ],
    )
