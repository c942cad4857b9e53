"""Ten thousand requests that try to make series and streams of what a caller may choose: paths, headers, user agents, methods, queries, baggage.

Every attribute of a metric and every label of a stream is from a closed set, so the stores hold as many of them afterwards as before.
"""

import json
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from time import sleep, time
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
from conftest import HOST, SERVICE
from helpers import eventually

REQUESTS = 10_000
THREADS = 4
MIMIR = f"{HOST}:{os.environ.get('QUERY_MIMIR_PORT', '19009')}/prometheus/api/v1"
LOKI = f"{HOST}:{os.environ.get('QUERY_LOKI_PORT', '13100')}/loki/api/v1"
# A series of a request more than before would be 10,000.
MOST_NEW_SERIES = 40


def ask(url, **parameters):
    with urlopen(f"{url}?{urlencode(parameters)}", timeout=60) as answer:
        return json.load(answer)["data"]


def found(base, matcher):
    """The label sets that a store knows of the last five minutes."""
    sets = ask(f"{base}/series", **{"match[]": matcher, "start": int(time()) - 300})
    return {json.dumps(labels, sort_keys=True) for labels in sets}


def series():
    """Those of our services, and those that Tempo makes of their spans."""
    return found(MIMIR, '{service_name=~"signalbox-.*"}') | found(MIMIR, '{__name__=~"traces_.*"}')


def streams():
    """Those that labels make. Loki cuts a stream that is written fast into shards, by its rate alone, and says so in a label."""
    sets = [json.loads(labels) for labels in found(LOKI, '{service_name=~"signalbox-.*"}')]
    return {json.dumps({name: value for name, value in labels.items() if name != "__stream_shard__"}, sort_keys=True) for labels in sets}


def asked_for(run, number):
    """One request in which everything that a caller may choose is new."""
    own = f"{run}{number:05}"
    kinds = [
        ("GET", f"/{own}", {}),
        ("GET", f"/demo/{own}/{own}", {}),
        ("GET", f"/ping?{own}={own}", {"User-Agent": f"attack/{own}"}),
        ("GET", "/ping", {"Client-ID": own, "Referer": f"http://{own}.example/", "X-Forwarded-For": f"10.{number % 250}.{number // 250 % 250}.7"}),
        ("GET", "/ping", {"Host": f"{own}.example"}),
        ("GET", "/ping", {"baggage": f"{own}={own}", "tracestate": f"{own}=1"}),
        ("GET", "/ping", {"x-request-id": own, f"X-{own}": own}),
        (own.upper(), "/ping", {}),
        ("POST", "/ping", {"Content-Type": f"application/{own}", "Content-Length": "0"}),
        ("GET", f"/api?sc=200&delay_ms=0&who={own}", {"Accept-Language": own}),
    ]
    return kinds[number % len(kinds)]


def send(run, numbers):
    """The statuses, as often as each came."""
    statuses, connection = {}, None
    for number in numbers:
        method, path, headers = asked_for(run, number)
        try:
            connection = connection or HTTPConnection(urlsplit(SERVICE).netloc, timeout=30)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
        except (HTTPException, OSError):
            connection.close()
            connection = None
    return statuses


def attack(run, count):
    with ThreadPoolExecutor(THREADS) as threads:
        parts = list(threads.map(lambda part: send(run, range(part, count, THREADS)), range(THREADS)))
    return {status: sum(part.get(status, 0) for part in parts) for status in {status for part in parts for status in part}}


@pytest.fixture(scope="module")
def counted():
    """Series and streams before and after. Each kind of request was sent before too, so that what is new is new by its values."""
    run = secrets.token_hex(4)

    def settled():
        """Their number, once three exports of the service have not changed it."""
        seen = series()
        sleep(15)
        return seen if seen == series() else None

    attack(f"{run}a", 400)
    arrived(f"{run}a", 400)
    before = eventually(settled, 180), streams()
    statuses = attack(f"{run}b", REQUESTS)
    arrived(f"{run}b", REQUESTS)
    after = eventually(settled, 180), streams()
    print(f"\n{statuses}; series {len(before[0])} → {len(after[0])}, streams {len(before[1])} → {len(after[1])}")
    return statuses, before, after


def arrived(run, count):
    """The access record of one of the last requests is in Loki."""
    last = f"{run}{count - 4:05}"
    query = f'{{service_name="signalbox-api"}} | signalbox_request_id="{last}"'
    eventually(lambda: ask(f"{LOKI}/query_range", query=query, start=int(time() - 900) * 10**9)["result"], 120)


def test_every_request_was_answered(counted):
    statuses, _, _ = counted
    assert sum(statuses.values()) > REQUESTS * 0.99
    assert not [status for status in statuses if status >= 500], statuses


def test_series_stay_bounded(counted):
    _, (before, _), (after, _) = counted
    assert len(before) > 100
    new = sorted(after - before)
    assert len(new) <= MOST_NEW_SERIES, new[:10]


def test_streams_stay_bounded(counted):
    _, (_, before), (_, after) = counted
    assert before
    assert after - before == set()
