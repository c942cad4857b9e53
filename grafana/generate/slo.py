"""The service level objectives, as data: the burn-rate rules and the SLO dashboard are both made from them.

The indicator counts only what the service itself decides. Left out: probes and `/metrics`; `/api`, whose status and delay
the caller chooses; the `-error` lessons, which must fail; for latency also the routes whose duration the caller chooses.
"""

from dataclasses import dataclass

from . import names as n


@dataclass(frozen=True)
class Objective:
    name: str
    title: str
    #: Share of requests that must be good, over PERIOD.
    target: float
    promise: str
    requests: str
    #: Selector of the counter of bad requests, or None where bad = requests − good.
    bad: str | None
    good: str | None

    @property
    def budget(self) -> float:
        return round(1 - self.target, 6)


PERIOD = "30d"
LIMIT_SECONDS = "0.5"
_API = f'{n.SERVICE}="{n.API}"'
_DECIDED = f'{_API},{n.ROUTE}=~"/ping|/demo/(logs|work|cpu|memory)"'
_TIMED = f'{_API},{n.ROUTE}=~"/ping|/demo/(logs|work)"'

AVAILABILITY = Objective(
    "availability",
    "Availability",
    0.995,
    "99.5 % of requests are answered without a 5xx",
    f"{n.HTTP_SERVER_COUNT}{{{_DECIDED}}}",
    f'{n.HTTP_SERVER_COUNT}{{{_DECIDED},{n.STATUS}=~"5.."}}',
    None,
)
LATENCY = Objective(
    "latency",
    "Latency",
    0.99,
    "99 % of requests are answered within 0.5 s",
    f"{n.HTTP_SERVER_COUNT}{{{_TIMED}}}",
    None,
    f'{n.HTTP_SERVER}_bucket{{{_TIMED},le="{LIMIT_SECONDS}"}}',
)
OBJECTIVES = (AVAILABILITY, LATENCY)

#: Windows that the rules record, with how often: nobody needs the three-day window every 15 seconds.
SHORT_WINDOWS = ("1m", "2m", "5m", "30m", "1h")
LONG_WINDOWS = ("2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Burn:
    factor: float
    long: str
    short: str


#: Google SRE workbook, chapter 5: 2 % of the budget in an hour or 5 % in six hours is worth waking someone …
FAST = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
#: … 10 % in one or three days is worth a ticket.
SLOW = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))
#: The same arithmetic at the scale of a lesson: fires within a minute or two of a fault and resolves as fast. Demo only:
#: in production it would page for every hiccup.
DRILL = (Burn(14.4, "2m", "1m"),)
#: Requests per second below which a ratio means nothing: one failure among three is no outage.
ENOUGH_TRAFFIC = 0.1

RATIO = "signalbox:slo_bad_ratio:rate"
TRAFFIC = "signalbox:slo_requests:rate5m"


def ratio_rule(objective: Objective, window: str) -> str:
    """Share of bad requests; 0 only while requests are there at all, nothing without them."""
    total = f"sum by ({n.SERVICE}) (rate({objective.requests}[{window}]))"
    if objective.bad:
        bad = f"sum by ({n.SERVICE}) (rate({objective.bad}[{window}]))"
        return f"({bad} or {total} * 0) / {total}"
    return f"1 - sum by ({n.SERVICE}) (rate({objective.good}[{window}])) / {total}"


def burning(objective: Objective, burns: tuple[Burn, ...], guard: bool) -> str:
    def recorded(window: str) -> str:
        return f'{RATIO}{window}{{slo="{objective.name}"}}'

    pairs = [
        f"({recorded(b.long)} > {b.factor} * {objective.budget} and {recorded(b.short)} > {b.factor} * {objective.budget})"
        for b in burns
    ]
    expression = " or ".join(pairs)
    return f'({expression}) and {TRAFFIC}{{slo="{objective.name}"}} > {ENOUGH_TRAFFIC}' if guard else expression


def rules_yaml() -> str:
    lines = [
        "# Service level objectives: what was promised, how fast the error budget burns, and who is told.",
        "# Generated from grafana/generate/slo.py, as the SLO dashboard is: change it there, then `make dashboards`.",
        "# Method: https://sre.google/workbook/alerting-on-slos/ (multi-window, multi-burn-rate).",
        "groups:",
    ]

    def group(name: str, interval: str) -> None:
        lines.extend([f"  - name: {name}", f"    interval: {interval}", "    rules:"])

    def record(name: str, expression: str, objective: Objective) -> None:
        lines.extend([f"      - record: {name}", "        expr: |-", f"          {expression}", f"        labels: {{ slo: {objective.name} }}"])

    for title, interval, windows in (("signalbox-slo-short", "15s", SHORT_WINDOWS), ("signalbox-slo-long", "1m", LONG_WINDOWS)):
        group(title, interval)
        for objective in OBJECTIVES:
            if windows is SHORT_WINDOWS:
                record(TRAFFIC, f"sum by ({n.SERVICE}) (rate({objective.requests}[5m]))", objective)
            for window in windows:
                record(f"{RATIO}{window}", ratio_rule(objective, window), objective)

    group("signalbox-slo-alerts", "15s")
    for objective in OBJECTIVES:
        for suffix, burns, severity, guard, summary, impact in (
            ("BudgetBurnsFast", FAST, "page", True, "burns its error budget fast", "At this pace the month's budget is gone within days."),
            ("BudgetBurnsSlow", SLOW, "ticket", False, "burns its error budget slowly", "At this pace the month's budget will not last the month."),
            ("Drill", DRILL, "page", True, "fails right now", "Two-minute window of the drills, demo scale only."),
        ):
            lines.extend(
                [
                    f"      - alert: Signalbox{objective.title}{suffix}",
                    "        expr: |-",
                    f"          {burning(objective, burns, guard)}",
                    f"        labels: {{ severity: {severity}, slo: {objective.name} }}",
                    "        annotations:",
                    f'          summary: "{{{{ $labels.{n.SERVICE} }}}} {summary}: {objective.promise}"',
                    f'          description: "{{{{ $value | humanizePercentage }}}} of the requests are bad, {objective.budget:.1%} are allowed. {impact}"',
                    "          dashboard: /d/signalbox-slo",
                    "          __dashboardUid__: signalbox-slo",
                ]
            )
    return "\n".join(lines) + "\n"
