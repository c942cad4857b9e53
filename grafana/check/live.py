"""Asks a running stack every query of the dashboards, as a browser would just after the load, and names those without an answer."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

from . import queries
from .queries import Query

SPAN_SECONDS = 900


def get(url: str, **parameters: str) -> dict:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=60) as answer:
        return json.load(answer)


def answered(query: Query, bases: dict[str, str]) -> bool | None:
    """Whether there was any; None where this check cannot ask."""
    end = time.time()
    window = {"start": str(end - SPAN_SECONDS), "end": str(end), "step": "15"}
    match query.language:
        case "promql":
            return bool(get(f"{bases['mimir']}/api/v1/query_range", query=query.text, **window)["data"]["result"])
        case "logql":
            return bool(get(f"{bases['loki']}/loki/api/v1/query_range", query=query.text, **window)["data"]["result"])
        case "traceql":
            start, stop = str(int(end - SPAN_SECONDS)), str(int(end) + 1)
            return bool(get(f"{bases['tempo']}/api/search", q=query.text, start=start, end=stop).get("traces"))
        case "profile" if "pyroscope" in bases:
            answer = get(f"{bases['pyroscope']}/pyroscope/render", query=query.text, **{"from": f"now-{SPAN_SECONDS}s", "until": "now", "format": "json"})
            return answer["flamebearer"]["numTicks"] > 0
    return None


def empty(bases: dict[str, str]) -> Iterator[str]:
    # Those of a system have data only while it runs.
    for name, board in queries.dashboards("grafana/dashboards").items():
        for query in queries.of_dashboard(name, board):
            if "annotation" in query.where:
                continue
            try:
                if answered(query, bases) is False:
                    yield f"{query.where}: no data\n    {query.text}"
            except urllib.error.HTTPError as error:
                yield f"{query.where}: {error.code} {error.read().decode()[:300]}\n    {query.text}"
