"""The few PromQL idioms that the dashboards share, each with its reason.

None of them writes `or vector(0)`: a panel that shows 0 where nothing was measured hides a broken pipeline.
Where a counter is only born with its first failure, `zero_while` says 0 for as long as a *witness* is alive.
"""

RATE = "$__rate_interval"


def selector(metric: str, *matchers: str) -> str:
    body = ",".join(m for m in matchers if m)
    return f"{metric}{{{body}}}" if body else metric


def by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def rate(series: str, group: str = "", window: str = RATE) -> str:
    return f"sum{by(group)} (rate({series}[{window}]))"


def quantile(q: float, histogram: str, *matchers: str, group: str = "", window: str = RATE) -> str:
    """From classic buckets; the estimate is only as fine as the bucket it falls into."""
    labels = ", ".join(part for part in ("le", group) if part)
    return f"histogram_quantile({q}, sum by ({labels}) (rate({selector(histogram + '_bucket', *matchers)}[{window}])))"


def mean(histogram: str, *matchers: str, group: str = "", window: str = RATE) -> str:
    return f"{rate(selector(histogram + '_sum', *matchers), group, window)} / {rate(selector(histogram + '_count', *matchers), group, window)}"


def zero_while(expression: str, witness: str) -> str:
    """`expression`, or 0 for as long as `witness` has a value: absence of failure, not absence of data."""
    return f"({expression} or {witness} * 0)"


def counted(series: str, group: str = "") -> str:
    """How much a counter grew within the dashboard's range, exactly.

    `increase()` answers another question: it extrapolates to the edges of the range, and it cannot see what a counter had
    already counted when its first sample arrived. Here each series gives its last value in the range less its last value
    before the range; a series that is younger than the range began at zero, so its last value is all of its growth. A process
    that restarts gets a new service.instance.id and so new series: no counter ever falls within one series.
    """
    last = f"last_over_time({series}[$__range])"
    before = f"last_over_time({series}[1h] offset $__range)"
    return f"sum{by(group)} (({last} - {before}) or {last})"
