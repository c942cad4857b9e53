"""SLO: do we keep what we promised, and how fast are we using up what we may fail?"""

from .. import slo, style
from ..board import board
from ..panels import alert_list, graph, now, prom, read_me, row, stat
from ..promql import counted, zero_while

WINDOWS = {"5m": "light-orange", "1h": "orange", "6h": "blue", "3d": "purple"}
#: Burn rate 1 uses the budget up exactly at the end of the period.
BURN = style.steps((None, style.GOOD), (1, style.WARN), (6, "dark-orange"), (14.4, style.BAD))


def good_share(objective: slo.Objective) -> str:
    total = counted(objective.requests)
    if objective.bad:
        return f"1 - {zero_while(counted(objective.bad), total)} / {total}"
    return f"{counted(objective.good)} / {total}"


def budget_left(objective: slo.Objective) -> str:
    return f"1 - (1 - ({good_share(objective)})) / {objective.budget}"


def burn(objective: slo.Objective, window: str) -> str:
    return f'max({slo.RATIO}{window}{{slo="{objective.name}"}}) / {objective.budget}'


def section(objective: slo.Objective):
    met = style.steps((None, style.BAD), (objective.target, style.GOOD))
    return [
        row(f"{objective.title}: {objective.promise}"),
        stat("Kept", f"Share of good requests within the range. Promised: {objective.target:.1%}.", now(good_share(objective)), unit="percentunit", decimals=3, thresholds=met, sparkline=False, width=5, height=5),
        stat("Budget left", "Of what may fail in the range, this share has not. Below nought the promise is broken.", now(budget_left(objective)), unit="percentunit", decimals=1, thresholds=style.BUDGET, sparkline=False, width=5, height=5),
        stat("Burning now", "Burn rate of the last five minutes: 1 uses the budget up exactly at the end of 30 days, 14.4 in two.", prom(burn(objective, "5m")), unit="none", decimals=1, thresholds=BURN, width=5, height=5),
        graph(
            "Burn rate",
            "How many times faster than allowed the budget is used. A page needs the long and the short window of a pair above its line: 1h and 5m above 14.4, 6h and 30m above 6.",
            *(prom(burn(objective, window), window) for window in WINDOWS),
            unit="none", decimals=1, width=9, height=10, fill=0, colors=WINDOWS,
            limit=style.steps((None, "transparent"), (1, style.WARN), (14.4, style.BAD)),
        ),
        graph(
            "Bad requests",
            "Share of bad requests in the last two minutes and in the last one: what the drill alert watches. It fires above 14.4 times the budget.",
            prom(f'max({slo.RATIO}2m{{slo="{objective.name}"}})', "2m"),
            prom(f'max({slo.RATIO}1m{{slo="{objective.name}"}})', "1m"),
            unit="percentunit", width=15, height=5, colors={"2m": "light-orange", "1m": style.QUIET},
        ),
    ]


def dashboard():
    question = "Do we keep what we promised?"
    return board(
        "slo",
        "Signalbox · SLO",
        f"{question} Two objectives over {slo.PERIOD}, the error budget of each, and how fast it burns.",
        next_board=("overview", "Overview"),
        span="now-1h",
        content=[
            read_me(
                question,
                "The budget is what may fail. *Kept* and *Budget left* are of the range above; burn rates are of their own windows. Counted is what the service decides: no probes, no lessons that must fail, no `/api` whose status the caller asked for.",
                "burning? The route that burns stands on *Overview*.",
            ),
            *section(slo.AVAILABILITY),
            *section(slo.LATENCY),
            row("Alerts"),
            alert_list("Alert rules", "All rules of Mimir's ruler: firing first, then pending, then at rest.", width=style.FULL, height=12),
        ],
    )
