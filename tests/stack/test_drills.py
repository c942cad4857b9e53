"""Every drill on the stack that runs, as a learner plays it: `make verify-drills-stack`, DRILL="17 18" for some of them.

Each is begun by `make`; its cause is found by what the queries of its walk-through (drills/*.toml) return, and by nothing else; an answer with one wrong part is
refused, the right one accepted, and afterwards the stack is as before. A finder returns the answer once the signals show it, and None until then.
"""

import json
import os
import re
import statistics
import subprocess
import time
import tomllib
from collections import Counter, defaultdict
from functools import cache
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from chaos import ask, compose, url
from helpers import ROOT

on_request = pytest.mark.skipif(os.environ.get("DRILLS") != "1", reason="takes an hour and breaks the stack meanwhile: make verify-drills-stack")

# A pool that is used up one by one, or ten thousand requests in a queue, take minutes.
SEEN_WITHIN_SECONDS = 420
HEALED_WITHIN_SECONDS = 180
PAUSE_SECONDS = 5
NANOS = 1_000_000_000
MIMIR, LOKI, TEMPO, PYROSCOPE = "QUERY_MIMIR_PORT", "QUERY_LOKI_PORT", "QUERY_TEMPO_PORT", "QUERY_PYROSCOPE_PORT"


@cache
def drills():
    """Every drill that is played on the stack, by its number."""
    files = sorted((ROOT / "drills").glob("*.toml"))
    read = {int(file.name[:2]): tomllib.loads(file.read_text(encoding="utf-8")) for file in files}
    return {number: drill for number, drill in read.items() if "stack" in drill["modes"]}


def fill(text, values):
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def make(*arguments, seconds=600):
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, check=False, capture_output=True, text=True, timeout=seconds)


class Span:
    """One of a trace, with what its resource says."""

    def __init__(self, resource, span):
        self.name, self.id, self.parent = span["name"], span["spanId"], span.get("parentSpanId", "")
        self.start, self.end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        self.seconds = (self.end - self.start) / NANOS
        self.attributes = attributes(span)
        self.resource = resource


def attributes(item):
    return {each["key"]: str(next(iter(each["value"].values()), "")) for each in item.get("attributes", [])}


@cache
def spans_of(trace_id):
    answer = ask(url(TEMPO), f"/api/v2/traces/{trace_id}")
    batches = answer.get("trace", {}).get("resourceSpans", [])
    return [Span(attributes(batch["resource"]), span) for batch in batches for scope in batch["scopeSpans"] for span in scope["spans"]]


class Play:
    """One run of a drill."""

    def __init__(self, number):
        self.number, self.drill, self.began = number, drills()[number], time.time()

    def query(self, step, **values):
        """Language and text of one step of the walk-through."""
        ((language, text),) = self.drill["walk"][step]["stack"].items()
        return language, fill(text, values)

    def see(self, step, **values):
        """What the query of that step returns."""
        language, text = self.query(step, **values)
        return {"promql": self.numbers, "logql": self.lines, "traceql": self.traces, "profile": self.functions}[language](text)

    def numbers(self, text):
        """Labels and value of each series now."""
        return numbers(ask(url(MIMIR), "/prometheus/api/v1/query", query=text))

    def over_time(self, step, **values):
        """Labels of each series of a step, with its points since the beginning."""
        _, text = self.query(step, **values)
        answer = ask(url(MIMIR), "/prometheus/api/v1/query_range", query=text, start=self.began, end=time.time(), step=5)
        return [(series["metric"], [(at, float(value)) for at, value in series["values"]]) for series in answer["data"]["result"]]

    def exemplars(self, step, **values):
        """How many exemplars of the last minute the graph of a step shows."""
        _, text = self.query(step, **values)
        now = time.time()
        answer = ask(url(MIMIR), "/prometheus/api/v1/query_exemplars", query=text, start=max(self.began, now - 60), end=now)
        return sum(len(series["exemplars"]) for series in answer["data"])

    def lines(self, text):
        """Time, labels with structured metadata, and line of each record; of what counts records, its numbers."""
        window = {"start": int(self.began * NANOS), "end": int(time.time() * NANOS), "limit": 5000}
        if "_over_time(" in text:
            return numbers(ask(url(LOKI), "/loki/api/v1/query", query=text))
        found = ask(url(LOKI), "/loki/api/v1/query_range", query=text, **window)["data"]["result"]
        return sorted(((int(at) / NANOS, stream["stream"], line) for stream in found for at, line, *_ in stream["values"]), key=lambda record: record[0])

    def traces(self, text, limit=1000):
        window = {"start": int(self.began), "end": int(time.time()) + 1, "limit": limit, "spss": 100}
        return ask(url(TEMPO), "/api/search", q=text, **window).get("traces", [])

    def functions(self, text):
        """Every place of the flame graph: its functions from the root to itself, and its share of the whole."""
        window = {"from": int(self.began * 1000), "until": int(time.time() * 1000)}
        answer = ask(url(PYROSCOPE), "/pyroscope/render", query=text, **window, format="json", **{"max-nodes": 65536})
        graph = answer["flamebearer"]
        places, above = [], [(0, graph["numTicks"], ())]
        for level in graph["levels"]:
            here, offset = [], 0
            for skipped, total, _, name in zip(*[iter(level)] * 4, strict=True):
                offset += skipped
                path = next(path for begin, width, path in above if begin <= offset < begin + max(width, 1))
                here.append((offset, total, (*path, graph["names"][name])))
                offset += total
            places += [(path, total / max(graph["numTicks"], 1)) for _, total, path in here]
            above = here
        return places


def numbers(answer):
    rows = [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]
    return [(labels, value) for labels, value in rows if value == value]


def whole(traces, most=40):
    """The spans of the first of them, trace by trace."""
    return [spans for spans in (spans_of(trace["traceID"].zfill(32)) for trace in traces[:most]) if spans]


def highest(rows, label):
    """The value of a label by its number, the highest first."""
    return sorted(((value, labels[label]) for labels, value in rows if labels.get(label)), reverse=True)


def gaps(moments):
    return [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]


def groups(moments, apart):
    """The first of each group of moments; between two groups lies more than `apart`."""
    moments = sorted(moments)
    return [moment for index, moment in enumerate(moments) if index == 0 or moment - moments[index - 1] > apart]


# ── the finders ──


def held_row(play):
    routes = highest(play.see(0), "http_route")
    if len(routes) < 3 or routes[0][0] < 1:
        return None
    waits = []
    for spans in whole(play.see(1), 200):
        parents = {span.parent for span in spans}
        waits.append(max((span for span in spans if span.id not in parents), key=lambda span: span.seconds))
    # All who wait go on when the holder lets go.
    released = groups([wait.end / NANOS for wait in waits], 4)
    if len(released) < 4:
        return None
    statement = Counter(wait.name for wait in waits).most_common(1)[0][0]
    longest = [max(wait.seconds for wait in waits if 0 <= wait.end / NANOS - moment <= 4) for moment in released]
    return {"route": routes[0][1], "statement": statement, "wait_ms": f"{1000 * statistics.median(longest):.0f}",
            "every_s": f"{statistics.median(gaps(released)):.1f}"}


def retries(play):
    failed = [(labels, value) for labels, value in play.see(0) if labels.get("http_response_status_code", "").startswith("5")]
    client = highest(failed, "signalbox_client_id")
    tries = Counter(labels["signalbox_request_id"] for _, labels, _ in play.see(2) if labels.get("signalbox_client_id") == (client or [(0, "")])[0][1])
    if len(tries) < 6:
        return None
    status = next(labels["http_response_status_code"] for labels, _ in failed if labels["signalbox_client_id"] == client[0][1])
    return {"client": client[0][1], "status": status, "attempts": str(Counter(tries.values()).most_common(1)[0][0])}


def lost_index(play):
    statements = highest(play.see(0), "db_query_summary")
    if len(statements) < 4 or statements[0][0] < 2 * statements[1][0]:
        return None
    for table in (each["table"] for each in play.drill["one_of"]):
        for spans in whole(play.see(1, table=table), 5):
            for span in spans:
                if span.name == statements[0][1]:
                    column = re.search(r"(\w+) = ?[?$]", span.attributes["db.query.text"])[1]
                    return {"table": span.attributes["db.collection.name"], "column": column}
    return None


def kept_connections(play):
    if sum(value for _, value in play.see(1)) < 1:
        return None
    used = next((points for labels, points in play.over_time(0) if labels["db_client_connection_state"] == "used"), [])
    most = max((value for _, value in used), default=0)
    # As many of that kind as connections are used: at each moment until the last one is.
    filling = used[: next((index for index, (_, value) in enumerate(used) if value == most), 0) + 1]
    if most < 2 or not filling:
        return None

    def differs(kind):
        moments = [at for at, _, _ in play.see(2, words=kind["words"])]
        return sum((value - sum(moment <= at for moment in moments)) ** 2 for at, value in filling)

    kinds = sorted(play.drill["one_of"], key=differs)
    of_kind = play.see(2, words=kinds[0]["words"])
    routes = Counter(labels.get("http_route") for _, labels, _ in of_kind if labels.get("http_route"))
    statuses = Counter(labels.get("http_response_status_code") for _, labels, _ in of_kind if labels.get("http_response_status_code"))
    if not routes or not statuses:
        # The record belongs to a request of the shop, whose trace has both; it has another route where the shop asked for the payment.
        spans = [span for _, labels, _ in of_kind[:5] for span in spans_of(labels["trace_id"])]
        roots = [span for span in spans if "http.route" in span.attributes and span.resource["service.name"] == "shop"]
        routes = Counter(span.attributes["http.route"] for span in roots)
        statuses = Counter(span.attributes["http.response.status_code"] for span in roots)
    return {"route": routes.most_common(1)[0][0], "status": statuses.most_common(1)[0][0], "connections": f"{most:.0f}"}


def stampede(play):
    routes = play.see(0)
    found = play.see(1)
    starts = sorted(int(span["startTimeUnixNano"]) / NANOS for trace in found for each in trace["spanSets"] for span in each["spans"])
    begins = []
    for start in starts:
        # Four lists within three seconds, and none a moment before.
        if sum(start <= other < start + 3 for other in starts) >= 4 and (not begins or start - begins[-1] > 6):
            begins.append(start)
    # The first lists are made when the drill begins, at any moment of a period.
    periods = gaps(begins[1:])
    if len(periods) < 2 or not routes:
        return None
    spans = whole(found, 1)[0]
    route = next(span.attributes["http.route"] for span in spans if "http.route" in span.attributes)
    statement = next(span.name for span in spans if span.name.startswith("SELECT order_lines"))
    return {"route": route, "statement": statement, "every_s": f"{statistics.mean(periods):.1f}"}


def quadratic(play):
    def longest(kind):
        return sorted((trace["durationMs"] for trace in play.see(0, **kind)), reverse=True)[:5]

    kinds = sorted(((statistics.median(longest(kind) or [0]), len(longest(kind)), kind) for kind in play.drill["one_of"]), key=lambda each: -each[0])
    (slow, seen, kind), (other, _, _) = kinds
    if seen < 3 or slow < 3 * other:
        return None
    spans = whole(play.see(0, **kind), 1)[0]
    route = next(span.attributes["http.route"] for span in spans if "http.route" in span.attributes)
    own = [(share, last_part(path[-1])) for path, share in play.see(1) if "shop::" in path[-1] and "pairwise" in path[-1]]
    return {"route": route, "function": max(own)[1]} if own else None


def last_part(name):
    """Of a function's name, without closures and generic arguments."""
    parts = [part for part in re.sub(r"<[^<>]*>", "", name).split("::") if part and not part.startswith("{")]
    return parts[-1].split(" ")[0]


def growing(play):
    memory = play.over_time(0)
    held = defaultdict(float)
    for path, share in play.see(1):
        if "::remember_" in path[-1] and not any(path[-1] == above for above in path[:-1]):
            held[last_part(path[-1])] += share
    # What is forgotten in time levels off within seconds, and most of the heap is the profiler's own: compared are the two, after a while.
    if time.time() - play.began < 120 or not held or memory[0][1][-1][1] <= memory[0][1][0][1]:
        return None
    function = max(held, key=held.get)
    if any(1.5 * share > held[function] for other, share in held.items() if other != function):
        return None
    return {"function": function, "route": next(each["route"] for each in play.drill["one_of"] if each["function"] == function)}


def flood(play):
    clients = highest(play.see(1), "shop_client_id")
    if len(clients) < 2 or clients[0][0] < 2 * clients[1][0] or not play.see(0):
        return None
    return {"client": clients[0][1], "route": highest(play.see(2, client=clients[0][1]), "http_route")[0][1]}


def blocking(play):
    if len(play.see(0)) < 4:
        return None
    wrong, right = Counter(), Counter()
    for path, share in play.see(1):
        found = re.search(r"print_(receipt|invoice)", path[-1])
        if found and not any(found[0] in above for above in path[:-1]):
            # What is run by the scheduler is polled; what runs in the blocking pool has no scheduler above it.
            (wrong if any("scheduler" in above for above in path) else right)[found[0]] += share
    if len(wrong) != 1 or not right or set(wrong) & set(right):
        return None
    (function,) = wrong
    return {"route": next(each["route"] for each in play.drill["one_of"] if each["function"] == function), "function": function}


def half_traces(play):
    began = play.see(0)
    if len(began) < 3:
        return None
    replicas = {span.resource["service.instance.id"] for spans in whole(began, 20) for span in spans}
    assert len(replicas) == 1, replicas
    (replica,) = replicas
    assert len(play.see(1, replica=replica)) >= 3
    # The shop's own half ends with the call, which is named as what it calls.
    name = Counter(trace["rootTraceName"] for trace in began).most_common(1)[0][0]
    return {"service": "payment", "replica": replica, "span": name}


def many_queries(play):
    for kind in play.drill["one_of"]:
        found = play.see(1, **kind)
        if len(found) >= 3 and play.see(0):
            spans = whole(found, 1)[0]
            times = Counter(span.name for span in spans if span.name.startswith("SELECT")).most_common(1)[0]
            route = next(span.attributes["http.route"] for span in spans if "http.route" in span.attributes)
            return {"route": route, "statement": times[0], "times": str(times[1])}
    return None


def new_version(play):
    failed = [span for spans in whole(play.see(0)) for span in spans if span.resource["service.name"] == "payment" and span.attributes.get("http.response.status_code") == "500"]
    if len(failed) < 3 or not play.see(1):
        return None
    versions = {span.resource["service.version"] for span in failed}
    brands = {span.attributes["url.path"].split("/")[2] for span in failed}
    assert len(versions) == len(brands) == 1, (versions, brands)
    (version,), (brand,) = versions, brands
    assert play.see(2, version=version)
    return {"version": version, "brand": brand, "status": "500"}


def deltas(play):
    counted = {labels["service_name"] for labels, value in play.see(0) if value > 0}
    refused = sum(value for _, value in play.see(1))
    # Both were there before a metric of one of them could be missed.
    if len(counted) != 1 or not refused or time.time() - play.began < 90:
        return None
    return {"service": ({"shop", "payment"} - counted).pop(), "temporality": "delta"}


def no_exemplars(play):
    dots = {service: play.exemplars(0, service=service) for service in ("shop", "payment")}
    if not all(play.see(0, service=service) and len(play.see(1, service=service)) >= 20 for service in dots):
        return None
    without = [service for service, count in dots.items() if not count]
    return {"service": without[0], "variable": "OTEL_METRICS_EXEMPLAR_FILTER"} if len(without) == 1 else None


def sampled(play):
    (few, replica), (every, _) = sorted((len(play.see(0, replica=replica)), replica) for replica in ("payment-1", "payment-2"))
    rates = [value for _, value in play.see(1)]
    if every < 200 or len(rates) != 2 or 2 * few > every:
        return None
    assert min(rates) > 0.7 * max(rates), rates
    return {"replica": replica, "share": f"{100 * few / every:.0f}"}


def slow_clock(play):
    early = {}
    for replica in ("payment-1", "payment-2"):
        early[replica] = []
        for spans in whole(play.see(0, replica=replica), 15):
            starts = {span.id: span.start for span in spans}
            early[replica] += [(starts[span.parent] - span.start) / NANOS for span in spans if span.resource.get("service.instance.id") == replica and span.parent in starts
                               and span.attributes.get("http.route")]
    if any(len(seconds) < 5 for seconds in early.values()):
        return None
    off = [(statistics.median(seconds), replica) for replica, seconds in early.items() if min(seconds) > 5]
    assert len(off) == 1, early
    if not play.see(1, replica=off[0][1]):
        return None  # its records lie before the drill's beginning until it has lasted as long as the clock is slow
    return {"replica": off[0][1], "seconds": f"{off[0][0]:.0f}"}


def one_away(play):
    away = [labels for labels, value in play.see(0) if value == 0]
    if not away or not all(value > 0 for _, value in play.see(1)):
        return None
    assert len(away) == 1, away
    refused = play.numbers("sum(increase(otelcol_exporter_send_failed_metric_points_total[2m]))")
    return {"part": re.search(r"mimir-\d", json.dumps(away[0]))[0], "lost": f"{sum(value for _, value in refused):.0f}"}


def dots_gone(play):
    # Values of both, and none is left from before the part that was changed began anew.
    if time.time() - play.began < 120 or not play.see(0) or not play.see(1):
        return None
    api, worker = play.exemplars(0), play.exemplars(1)
    if api and worker:
        return None
    return {"part": {(False, False): "mimir", (False, True): "signalbox-api", (True, False): "signalbox-worker"}[bool(api), bool(worker)]}


def full_queue(play):
    shares = highest([({**labels, "of": json.dumps(labels)}, value) for labels, value in play.see(0)], "of")
    if not shares or shares[0][0] < 1 or sum(value for _, value in play.see(1)) <= 0:
        return None
    # Alloy's page Live debugging shows what comes in.
    passed = Counter()
    end = time.monotonic() + 10
    with urlopen(f"{url('ALLOY_PORT')}/api/v0/web/debug/receive.otlp.service/otelcol.receiver.otlp.service", timeout=30) as stream:
        while time.monotonic() < end and (line := stream.readline()):
            passed.update(re.findall(r"service\.name: Str\(([\w-]+)\)", line.decode(errors="replace")))
    store = re.search(r"loki|mimir|tempo|pyroscope", shares[0][1])
    return {"store": store[0], "service": passed.most_common(1)[0][0]} if passed and store else None


def foreign_tenant(play):
    counted = {labels["service_name"] for labels, value in play.see(0) if value > 0}
    tenants = [user for value, user in highest(play.see(1), "user") if value > 0 and user != "anonymous"]
    if len(counted) != 1 or not tenants:
        return None
    return {"service": ({"signalbox-api", "signalbox-worker"} - counted).pop(), "tenant": tenants[0]}


def many_streams(play):
    reasons = [reason for value, reason in highest(play.see(0), "reason") if value > 0]
    if "stream_limit" not in reasons:
        return None
    counts = {service: sum(value for _, value in play.see(1, service=service)) for service in play.drill["choose"]["service"]}
    service = max(counts, key=counts.get)
    window = {"start": int(play.began * NANOS), "end": int(time.time() * NANOS)}
    series = ask(url(LOKI), "/loki/api/v1/series", **{"match[]": f'{{service_name="{service}"}}'}, **window)["data"]
    values = Counter(label for label, _ in {pair for labels in series for pair in labels.items()})
    return {"service": service, "label": values.most_common(1)[0][0]}


FINDERS = {1: held_row, 2: retries, 3: lost_index, 4: kept_connections, 5: stampede, 6: quadratic, 7: growing, 8: flood, 9: blocking, 10: half_traces,
           11: many_queries, 12: new_version, 13: deltas, 14: no_exemplars, 15: sampled, 16: slow_clock, 17: one_away, 18: dots_gone, 19: full_queue,
           20: foreign_tenant, 21: many_streams}


# ── what is well again afterwards ──


def programs():
    """What runs in the drills' container."""
    return compose("exec", "-T", "drill", "sh", "-c", "cat /proc/[0-9]*/comm").stdout.split()


def all_up(play):
    return [value for _, value in play.see(0)] == [1, 1, 1]


def dots_again(play):
    return play.exemplars(0) > 0 and play.exemplars(1) > 0


def queue_empty(play):
    return all(value < 0.01 for _, value in play.see(0))


def both_counted(play):
    foreign = [value for labels, value in play.see(1) if labels.get("user") != "anonymous"]
    return len({labels["service_name"] for labels, value in play.see(0) if value > 0}) == 2 and not any(foreign)


def few_streams(play):
    streams = play.numbers("sum(loki_ingester_memory_streams)")
    return not any(value for _, value in play.see(0)) and streams and streams[0][1] < 200


def no_more_of_it(play):
    """What the second step shows (slow orders, failed requests): none that began since."""
    return not play.see(1)


HEALED = {1: no_more_of_it, 2: no_more_of_it, 17: all_up, 18: dots_again, 19: queue_empty, 20: both_counted, 21: few_streams}


def eventually(what, look, seconds):
    end, failed = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if found := look():
                return found
            failed = None
        except (HTTPError, OSError, StopIteration, KeyError, IndexError) as error:
            # A store that the drill has taken away, or a signal of which a part is not there yet.
            failed = error
        time.sleep(PAUSE_SECONDS)
    raise AssertionError(f"never seen within {seconds} s: {what} ({failed!r})")


def told(answer):
    return " ".join(f"{field}={value}" for field, value in answer.items())


def values(drill, answer):
    """What the walk-through of this run is filled with: the answer, and of what is chosen together the table that has most of it."""
    known = {question["answer"][1:-1]: answer[question["field"]] for question in drill["question"] if re.fullmatch(r"\{\w+\}", question["answer"])}
    tables = sorted(drill.get("one_of", []), key=lambda table: -len(set(table.values()) & set(answer.values())))
    return {**(tables[0] if tables else {}), **known}


WANTED = [int(number) for number in os.environ.get("DRILL", "").split()]


def test_every_drill_of_the_stack_has_a_finder():
    assert list(FINDERS) == list(drills())


@on_request
@pytest.mark.parametrize("number", [number for number in FINDERS if not WANTED or number in WANTED])
def test_a_drill_is_found_graded_and_healed(number):
    make("drill-stop")
    play = Play(number)
    begun = make(f"drill-{number}")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    try:
        assert play.drill["question"][0]["ask"] in begun.stdout, begun.stdout
        answer = eventually("the cause", lambda: FINDERS[number](play), SEEN_WITHIN_SECONDS)
        seen_after = time.time() - play.began
        for step in range(len(play.drill["walk"])):
            assert eventually(f"step {step} of the walk-through", lambda step=step: play.see(step, **values(play.drill, answer)), 60)
        for field in answer:
            refused = make("answer", f"ANSWER={told({**answer, field: 'something-else'})}")
            not_right = re.findall(r"^ *(\w+) +(?:wrong|no number)", refused.stdout, re.MULTILINE)
            assert refused.returncode != 0 and not_right == [field], (answer, refused.stdout, refused.stderr)
        solved = make("answer", f"ANSWER={told(answer)}")
        assert solved.returncode == 0 and "The shortest way:" in solved.stdout, (answer, solved.stdout, solved.stderr)
    finally:
        stopped = make("drill-stop")
    assert "no drill is on" in stopped.stdout, stopped.stdout + stopped.stderr
    print(f"drill {number}: {answer}, seen after {seen_after:.0f} s")
    if "shop" in play.drill:
        assert not {"shop", "signalboxctl"} & set(programs()), programs()
    if number in HEALED:
        after = Play(number)
        eventually("that it is healed", lambda: HEALED[number](after), HEALED_WITHIN_SECONDS)
