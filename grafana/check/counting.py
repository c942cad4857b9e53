"""The panels named *Requests* must count exactly: their own query, run by promtool over requests whose number is known."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import queries

#: Samples every 15 s; the range is the last 15 of 30 minutes, so it begins at sample 60.
SERIES = {
    # ran before the range and through it: 600 of its 700 fall into the range
    'service_name="signalbox-api",http_route="/ping",instance="old"': "100x59 100 130+30x18 700x41",
    # started within the range, had counted 250 when it was first seen, was stopped at 400
    'service_name="signalbox-api",http_route="/demo/work",instance="new"': "_x80 250x10 400x10 stale _x20",
    # stopped before the range, one with and one without a farewell
    'service_name="signalbox-api",http_route="/ping",instance="gone"': "0+5x40 stale _x80",
    'service_name="signalbox-api",http_route="/ping",instance="killed"': "0+5x52 _x70",
    # not asked for: a probe, and the other service
    'service_name="signalbox-api",http_route="/healthz",instance="old"': "0+1x130",
    'service_name="signalbox-worker",http_route="/jobs",instance="w"': "0+1x130",
}
EXPECTED = 1000


def problems() -> Iterator[str]:
    for name in ("overview", "load-test"):
        board = queries.dashboards()[name]
        known = queries.values(board) | {"__range": "15m"}
        panel = next(panel for panel in queries.panels(board) if panel["title"] == "Requests" and panel["type"] == "stat")
        test = {
            "evaluation_interval": "15s",
            "tests": [
                {
                    "interval": "15s",
                    "input_series": [
                        {"series": f"http_server_request_duration_seconds_count{{{labels}}}", "values": values} for labels, values in SERIES.items()
                    ],
                    "promql_expr_test": [
                        {
                            "expr": queries.filled(panel["targets"][0]["expr"], known),
                            "eval_time": "30m",
                            "exp_samples": [{"labels": "{}", "value": EXPECTED}],
                        }
                    ],
                }
            ],
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "counting.yaml"
            path.write_text(json.dumps(test), encoding="utf-8")
            result = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False)
            if result.returncode != 0:
                yield f"{name} / Requests: does not count {EXPECTED} requests as {EXPECTED}: {result.stderr.strip() or result.stdout.strip()}"
