"""What rate of requests the stack that runs carries with nothing lost: `make held-stack ARGS="--mix /ping=1 --rate 100 200 400"`.

For each rate the load generator sends for --duration at fixed times, whatever becomes of the requests. Then the stores are asked how many requests they
counted (Mimir), have an access record of (Loki) and have a server span of (Tempo), and that is held against what was answered. `make doctor`
reads the counters of all parts meanwhile. With --away NAME that part is stopped for the whole time, and started before the stores are asked.

Send nothing else meanwhile: requests of the same routes would be counted too.
"""

import argparse
import os
import re
import subprocess
import sys
import time

from chaos import ROOT, ask, compose, doctor, url, wait

# The load generator's default, without the health checks, which leave neither a record nor a span.
MIX = "ping=20,work=30,logs=10,api=15,api-404=3,api-503=2,cpu=10,memory=4,work-error=3,cpu-error=1,memory-error=1"
UNCOUNTED = "/metrics|/healthz|/readyz|/links|/go/.*"
ARRIVES_WITHIN_SECONDS = 300
NOTHING_NEW_SECONDS = 90


def value(base, path, query):
    result = ask(url(base), path, query=query)["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def spans(began):
    """Not by span metrics: series of routes that nobody asks for any more leave their sum."""
    query = f'{{ kind = server && resource.service.name = "signalbox-api" && span.http.route !~ "{UNCOUNTED}" }} | count_over_time()'
    answer = ask(url("QUERY_TEMPO_PORT"), "/api/metrics/query_range", q=query, start=int(began), end=int(time.time()) + 1, step="10s")
    return int(sum(sample.get("value", 0) for each in answer["series"] for sample in each["samples"]))


def stored(began):
    """How many requests each store knows of: counters since the service's start, records and spans since `began`."""
    routes = f'http_route!~"{UNCOUNTED}"'
    mimir = ("QUERY_MIMIR_PORT", "/prometheus/api/v1/query")
    seconds = int(time.time() - began) + 5
    return {
        "metrics": value(*mimir, f'sum(last_over_time(http_server_request_duration_seconds_count{{service_name="signalbox-api",{routes}}}[1d]))'),
        "logs": value("QUERY_LOKI_PORT", "/loki/api/v1/query",
                      f'sum(count_over_time({{service_name="signalbox-api"}} | scope_name="access" | {routes} [{seconds}s]))'),
        "traces": spans(began),
    }


def lost(before, began, answered):
    """Of the answered requests those that each store does not know of, once all are there or nothing new has come for a while."""
    until, last, changed = time.monotonic() + ARRIVES_WITHIN_SECONDS, None, time.monotonic()
    while True:
        after = stored(began)
        missing = {signal: answered - (after[signal] - before[signal]) for signal in after}
        if missing != last:
            last, changed = missing, time.monotonic()
        if not any(missing.values()) or time.monotonic() > min(until, changed + NOTHING_NEW_SECONDS):
            return missing
        time.sleep(5)


def load(mix, rate, duration, concurrency):
    arguments = f"ARGS=--mix {mix} --rate {rate:g} --duration {duration}s --concurrency {concurrency}"
    return subprocess.Popen(["make", "--no-print-directory", "generate-load", arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def run(mix, rate, duration, concurrency, away):
    if away:
        compose("stop", away)
    began = time.time()
    before = stored(began)
    sending = load(mix, rate, duration, concurrency)
    try:
        said = doctor(max(5, duration - 20))
        text, _ = sending.communicate(timeout=duration + 120)
    finally:
        if away:
            compose("start", away)
    if away:
        wait()
    sent, failed = (int(number) for number in re.search(r"^all\s+(\d+)\s+(\d+)", text, re.MULTILINE).groups())
    unanswered = sum(int(count) for count in re.findall(r"^no answer:.* × (\d+)$", text, re.MULTILINE))
    kept = float(re.search(r"\(([\d.]+)/s,", text)[1])
    missing = lost(before, began, sent - unanswered)
    print(text.partition("\n\n")[0], file=sys.stderr)
    for line in said:
        print("   " + line, file=sys.stderr)
    row = [f"{rate:g}", f"{kept:g}", str(sent), str(failed), str(unanswered), *(str(missing[signal]) for signal in ("logs", "traces", "metrics")),
           next((line for line in said if line.startswith("LOSS")), said[0] if said else "–").removeprefix("LOSS ").partition(";")[0][:120].replace("|", "/")]
    return row, any(missing.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mix", default=MIX, help="as of the load generator; its own without health checks, if not said")
    parser.add_argument("--rate", type=float, nargs="+", default=[20], help="requests a second, one after the other")
    parser.add_argument("--duration", type=int, default=60, help="seconds at each rate")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at once, at most")
    parser.add_argument("--away", help="a part that is stopped meanwhile")
    arguments = parser.parse_args()
    print(f"{arguments.mix}, {arguments.duration} s each" + (f", {arguments.away} away" if arguments.away else "") + f"; load of the machine {os.getloadavg()[0]:.0f}")
    print("| asked for a second | sent a second | sent | errors | unanswered | records lost | spans lost | not counted | `make doctor` meanwhile |\n" + "| --- " * 9 + "|")
    lossless = True
    for rate in arguments.rate:
        row, some = run(arguments.mix, rate, arguments.duration, arguments.concurrency, arguments.away)
        print("| " + " | ".join(row) + " |", flush=True)
        lossless &= not some
    return 0 if lossless else 1


if __name__ == "__main__":
    sys.exit(main())
