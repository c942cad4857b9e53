"""What both balancers do: every port leads to its part, three Mimirs share the work, and one that is missing is not noticed."""

import collections
import json
import re
import subprocess
import time

import pytest
from balancer import HEALTH, MIMIRS, Balancer, counts, resolves
from conftest import only
from helpers import eventually
from upstream import hang_up, refuse, say_who

MIMIR = 19009
LIMIT = 32 * 2**20  # client_max_body_size

needs_resolve = only(resolves)
needs_counters = only(counts)


@pytest.mark.parametrize("role", ["push", "query"])
def test_nginx_finds_nothing_wrong(program, role):
    balancer = Balancer(program, role)
    checked = subprocess.run([*balancer.command, "-t"], capture_output=True, text=True, check=False)
    with balancer:  # and it starts
        pass
    assert checked.returncode == 0, checked.stderr
    assert re.findall(r"\[(\w+)\]", checked.stderr) == []
    assert "test is successful" in checked.stderr


def test_each_port_leads_to_its_part_unchanged(either):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for port, (part, _) in either.routes.items():
        headers = {"Content-Type": "application/x-protobuf", "Host": f"balancer:{port}", "traceparent": traceparent}
        method, path = either.open[port][0], f"{either.open[port][1]}?a=1&b=%20%2F"
        answer = either.ask(port, path, method, f"for {part}", headers)

        [request] = either.take()
        assert answer.status == 200
        assert json.loads(answer.text) == {"upstream": request.upstream}
        assert request.upstream in (MIMIRS if part == "mimir" else [part])
        assert (request.method, request.path) == (method, path)
        assert request.body == f"for {part}".encode()
        assert {header: request.headers.get(header.lower()) for header in headers} == headers
        assert "connection" not in request.headers  # kept open


def test_the_log_has_a_line_for_each_request(either):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    either.ask(13100, None, "POST", "twelve bytes", {"traceparent": traceparent})

    [line] = eventually(lambda: either.lines(traceparent))
    loki = either.parts["loki"]
    assert (line["port"], line["method"], line["path"], line["status"]) == ("13100", *either.open[13100], 200)
    assert (line["upstream"], line["upstream_status"]) == (f"{loki.address}:{loki.port}", "200")
    assert line["response_bytes"] == len(json.dumps({"upstream": "loki"}))


def test_three_mimirs_share_the_requests_evenly(either):
    for _ in range(30):
        assert either.ask(MIMIR).status == 200
    assert {mimir: len(either.arrived(mimir)) for mimir in MIMIRS} == dict.fromkeys(MIMIRS, 10)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_mimir_is_killed_and_comes_back(either, method):
    answers, killed = [], None
    for i in range(30):
        if i == 10:
            either.parts["mimir-2"].stop()
            killed = time.monotonic()
        answers.append(either.ask(MIMIR, None, method, f"sample {i}" if method == "POST" else None, {"traceparent": f"request {i}"}).status)

    took = time.monotonic() - killed

    assert answers == [200] * 30
    assert sorted(request.headers["traceparent"] for request in either.arrived()) == sorted(f"request {i}" for i in range(30))  # each once
    tried = [line["upstream"].count(",") + 1 for i in range(10, 30) for line in eventually(lambda i=i: either.lines(f"request {i}"))]
    # Then it is left alone for five seconds, by either worker of nginx; an address has two: one for each path.
    assert 1 <= tried.count(2) <= 4 * (1 + took // 5)

    either.take()
    either.parts["mimir-2"].start()
    eventually(lambda: either.ask(MIMIR).status == 200 and either.arrived("mimir-2"))


@pytest.mark.parametrize("failing", [refuse(503), refuse(502), refuse(504), hang_up])
def test_what_a_mimir_fails_to_take_goes_to_the_next(either, failing):
    either.parts["mimir-1"].answer = failing
    statuses = [either.ask(MIMIR, None, "POST", f"sample {i}").status for i in range(6)]

    assert statuses == [200] * 6
    taken = collections.Counter(request.body.decode() for request in either.arrived("mimir-2", "mimir-3"))
    assert taken == {f"sample {i}": 1 for i in range(6)}
    assert either.arrived("mimir-1")


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_answer_that_is_meant_for_the_client_is_not_retried(either, status):
    for mimir in MIMIRS:
        either.parts[mimir].answer = refuse(status)
    answer = either.ask(MIMIR, method="POST", body="sample")

    [request] = either.arrived()
    assert (answer.status, answer.text) == (status, f"{request.upstream} refuses")


def test_without_any_mimir_the_client_is_told_until_they_are_back(either):
    for mimir in MIMIRS:
        either.parts[mimir].stop()
    assert either.ask(MIMIR, method="POST", body="sample").status == 502

    for mimir in MIMIRS:
        either.parts[mimir].start()
    eventually(lambda: either.ask(MIMIR, method="POST", body="sample").status == 200)


def test_a_store_that_is_one_process_is_asked_once_and_again_as_soon_as_it_is_back(either):
    loki = either.parts["loki"]
    loki.answer = refuse(503)
    answer = either.ask(13100, method="POST", body="record")
    assert (answer.status, answer.text, len(loki.arrived)) == (503, "loki refuses", 1)

    loki.answer = say_who
    loki.stop()
    assert [either.ask(13100).status for _ in range(5)] == [502] * 5
    loki.start()
    assert either.ask(13100).status == 200


def test_a_body_may_be_32_mib_and_no_more(either):
    for port, (part, _) in either.routes.items():
        body = bytes([port % 251]) * LIMIT
        method, path = either.open[port]
        assert either.ask(port, path, method, body).status == 200
        [request] = either.take()
        assert request.upstream.startswith(part)
        assert request.body == body

        connection = either.connect(port)
        connection.putrequest(method, path)
        connection.putheader("Content-Length", str(LIMIT + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()
    assert either.arrived() == []


@needs_counters
def test_it_says_that_it_is_well_and_what_it_does(either):
    assert either.ask(HEALTH, "/healthz").text == "ok\n"

    def samples():
        metrics = either.ask(HEALTH, "/metrics")
        assert metrics.getheader("Content-Type") == "text/plain; version=0.0.4"
        return dict(line.rsplit(" ", 1) for line in metrics.text.splitlines() if not line.startswith("#"))

    first = samples()
    assert {f'nginx_connections{{state="{state}"}}' for state in ("active", "reading", "writing", "waiting")} < set(first)
    assert int(first["nginx_connections_opened_total"]) > len(either.routes)
    # The one that asks. Those before it count until nginx has seen their end.
    eventually(lambda: samples()['nginx_connections{state="active"}'] == "1")


@needs_resolve
def test_a_store_is_found_under_its_new_address(either):
    loki = either.parts["loki"]
    loki.stop()
    either.names.remove("loki", loki.address)
    assert either.ask(13100).status == 502

    loki.address = next(either.addresses)
    loki.start()
    either.names.add("loki", loki.address)
    eventually(lambda: either.ask(13100).status == 200)
    assert loki.arrived


@needs_resolve
def test_replicas_may_go_and_come_while_requests_pass(either):
    """As `docker compose stop mimir-3`, then `up`: the name loses an address and gets it back. Down to one, as in the light shape."""
    gone = [either.parts[mimir] for mimir in ("mimir-2", "mimir-3")]
    statuses = []

    def passes_to(*mimirs):
        """Whether the last six requests came to these and no other."""
        statuses.extend(either.ask(MIMIR, method="POST", body="sample").status for _ in range(6))
        return {request.upstream for request in either.take()} == set(mimirs)

    for mimir in gone:
        either.names.remove("mimir", mimir.address)
    eventually(lambda: passes_to("mimir-1"))
    for mimir in gone:
        either.names.add("mimir", mimir.address)
    eventually(lambda: passes_to(*MIMIRS))
    assert set(statuses) == {200}


@needs_resolve
@pytest.mark.parametrize("role", ["push", "query"])
def test_a_name_that_is_unknown_at_start_stops_nothing(program, role):
    with Balancer(program, role, unknown=["tempo"]) as balancer:
        port = next(port for port, (part, _) in balancer.routes.items() if part == "tempo")
        assert (balancer.ask(port).status, balancer.ask(13100).status) == (502, 200)

        balancer.names.add("tempo", balancer.parts["tempo"].address)
        eventually(lambda: balancer.ask(port).status == 200)
