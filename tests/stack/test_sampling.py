"""Tail sampling: what is kept, and that everything is counted all the same. Skipped where it is off: `make up PROFILE=sampling`."""

import secrets
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from conftest import SERVICE, ask
from helpers import eventually

REQUESTS = 200
FAILED = 20
# Of 180 traces a tenth is kept, each by a throw of its own: fewer than 4 or more than 40 come once in a hundred thousand runs.
FEWEST, MOST = 4, 40


@pytest.fixture(scope="module", autouse=True)
def switched_on():
    if not counted('source="alloy"'):
        pytest.skip("make up PROFILE=sampling")


def counted(labels):
    """Spans counted, by labels of the span metrics."""
    query = quote(f"sum(traces_spanmetrics_calls_total{{{labels}}})")
    found = ask(f"/api/datasources/proxy/uid/mimir/api/v1/query?query={query}")["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def send(status):
    """Asks for a status under a trace id of its own, which is the value."""
    trace_id = secrets.token_hex(16)
    request = Request(f"{SERVICE}/api?sc={status}&delay_ms=0", headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"})
    try:
        with urlopen(request, timeout=30) as answer:
            assert answer.status == status
    except HTTPError as error:
        assert error.code == status
    return trace_id


def kept(trace_id):
    try:
        return bool(ask(f"/api/datasources/proxy/uid/tempo/api/traces/{trace_id}"))
    except HTTPError as error:
        assert error.code == 404, f"Tempo answered {error.code}"
        return False


def test_no_failed_trace_is_dropped_and_every_request_is_counted():
    # A status that no load asks for.
    fine = 230 + secrets.randbelow(69)
    route = f'source="alloy",service="signalbox-api",span_name="GET /api",http_response_status_code="{fine}"'
    before = counted(route)
    sent = {"failed": [], "fine": []}
    for index in range(REQUESTS):
        failed = index % (REQUESTS // FAILED) == 0
        sent["failed" if failed else "fine"].append(send(500 if failed else fine))

    eventually(lambda: all(kept(trace_id) for trace_id in sent["failed"]), 60)
    # Its failed traces were decided last, so those that did not fail are decided too.
    assert FEWEST <= sum(kept(trace_id) for trace_id in sent["fine"]) <= MOST
    eventually(lambda: counted(route) - before == REQUESTS - FAILED, 60)
