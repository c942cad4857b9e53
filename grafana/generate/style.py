"""How every dashboard looks: colours, sizes, thresholds, legends.

One signal has one colour, one quantile has one colour, on every board, so that a reader learns them once.
Colours are Grafana's named palette: they follow the light and the dark theme.
"""

from grafana_foundation_sdk.models import dashboard as model

# -- colours -----------------------------------------------------------------------------------------------------------
METRICS, LOGS, TRACES, PROFILES = "blue", "yellow", "purple", "orange"
GOOD, WARN, BAD, QUIET = "green", "orange", "red", "#8e8e8e"
P50, P95, P99 = "super-light-blue", "blue", "dark-orange"

QUANTILES = {"p50": P50, "p95": P95, "p99": P99}
SIGNALS = {"metrics": METRICS, "logs": LOGS, "traces": TRACES, "profiles": PROFILES}
LEVELS = {"error": BAD, "warn": WARN, "info": "green", "debug": "blue", "trace": QUIET, "fatal": "dark-red", "unknown": QUIET}
STATUS_CLASSES = {"1xx": QUIET, "2xx": GOOD, "3xx": "blue", "4xx": WARN, "5xx": BAD}

# -- the grid: 24 columns ----------------------------------------------------------------------------------------------
FULL, HALF, THIRD, SIXTH = 24, 12, 8, 4
READ_HEIGHT, STAT_HEIGHT, GRAPH_HEIGHT, TALL = 3, 4, 8, 12


def steps(*pairs: tuple[float | None, str]) -> list[model.Threshold]:
    """Threshold steps, lowest first; `None` stands for minus infinity."""
    return [model.Threshold(value=value, color=color) for value, color in pairs]


#: Nothing to judge: one calm colour.
def plain(color: str = METRICS) -> list[model.Threshold]:
    return steps((None, color))


#: Share of failed requests: the availability objective is 99.5 %, a page is due at 14.4 times its budget.
ERROR_RATIO = steps((None, GOOD), (0.005, WARN), (0.072, BAD))
#: Seconds of latency at the 95th percentile: the latency objective's own limit is half a second.
LATENCY = steps((None, GOOD), (0.25, WARN), (0.5, BAD))
#: Share of a bounded resource in use.
SATURATION = steps((None, GOOD), (0.7, WARN), (0.9, BAD))
#: Something that must not happen at all.
NEVER = steps((None, GOOD), (1e-9, BAD))
#: 1 is up, 0 is down.
UP = steps((None, BAD), (1, GOOD))
#: Share of the error budget that is left.
BUDGET = steps((None, BAD), (0, WARN), (0.25, GOOD))
