"""Who reads what, and what needs more than a request and an answer: live tail, MinIO's console, streamed searches."""

import socket
import threading

import grpc_upstream
import pytest
from balancer import resolves
from conftest import only

ALL_OF_MIMIR = "anonymous|11111|22222|33333"
ALL_OF_LOKI = "fake|11111|22222|33333"
# Port, path, the tenant that the client names, the one that the store is told.
TENANTS = [
    (19009, "/prometheus/api/v1/query", None, ALL_OF_MIMIR),
    (19009, "/prometheus/api/v1/query_exemplars", None, ALL_OF_MIMIR),
    (19009, "/prometheus/api/v1/rules", None, "anonymous"),
    (19009, "/prometheus/api/v1/alerts", None, "anonymous"),
    (19009, "/prometheus/config/v1/rules", None, "anonymous"),
    (19009, "/alertmanager/api/v2/alerts", None, "anonymous"),
    (19009, "/alertmanager/api/v2/alerts", "fake", "anonymous"),
    (19009, "/prometheus/api/v1/query", "11111", "11111"),
    (13100, "/loki/api/v1/query_range", None, ALL_OF_LOKI),
    (13100, "/loki/api/v1/labels", None, ALL_OF_LOKI),
    (13100, "/loki/api/v1/rules", None, "fake"),
    (13100, "/prometheus/api/v1/alerts", None, "fake"),
    (13100, "/loki/api/v1/tail", None, "fake"),
    (13100, "/loki/api/v1/tail", "22222", "22222"),
    (13100, "/loki/api/v1/drilldown-limits", None, "fake"),
    (13100, "/loki/api/v1/query", "11111|22222", "11111|22222"),
    (13200, "/api/search", None, None),
    (13200, "/api/search", "33333", "33333"),
    (14040, "/pyroscope/render", None, None),
]


# Method, port, path. What Grafana, its drilldown pages, our own programs and the rulers ask, and the links of the documentation.
PASSES = [
    ("GET", 13100, "/loki/api/v1/query_range?query=%7Ba%3D%22b%22%7D"),
    ("POST", 13100, "/loki/api/v1/query"),
    ("GET", 13100, "/loki/api/v1/label/service_name/values"),
    ("GET", 13100, "/loki/api/v1/index/volume"),
    ("GET", 13100, "/loki/api/v1/patterns"),
    ("GET", 13100, "/loki/api/v1/detected_field/level/values"),
    ("GET", 13100, "/loki/api/v1/status/buildinfo"),
    ("GET", 13100, "/loki/api/v1/drilldown-limits"),
    ("GET", 13100, "/loki/api/v1/rules"),
    ("GET", 13100, "/prometheus/api/v1/rules"),
    ("GET", 13100, "/ready"),
    ("POST", 19009, "/prometheus/api/v1/query_range"),
    ("GET", 19009, "/prometheus/api/v1/query_exemplars"),
    ("GET", 19009, "/prometheus/api/v1/label/__name__/values"),
    ("POST", 19009, "/prometheus/api/v1/series"),
    ("GET", 19009, "/prometheus/api/v1/status/buildinfo"),
    ("GET", 19009, "/prometheus/api/v1/rules"),
    ("GET", 19009, "/prometheus/config/v1/rules/pipeline/hops"),
    ("GET", 19009, "/ingester/ring"),
    ("GET", 19009, "/api/v1/alerts"),
    ("GET", 19009, "/alertmanager/"),
    ("GET", 19009, "/alertmanager/api/v2/silences"),
    ("POST", 19009, "/alertmanager/api/v2/silences"),
    ("POST", 19009, "/alertmanager/api/v2/alerts"),
    ("DELETE", 19009, "/alertmanager/api/v2/silence/0c6e8d4b-8c4f-4d5a-9a53-3f0a1c9a6b11"),
    ("GET", 13200, "/api/search?q=%7B%7D"),
    ("GET", 13200, "/api/v2/traces/0af7651916cd43dd8448eb211c80319c"),
    ("GET", 13200, "/api/metrics/query_range"),
    ("GET", 13200, "/api/v2/search/tag/resource.service.name/values"),
    ("POST", 14040, "/querier.v1.QuerierService/SelectMergeStacktraces"),
    ("POST", 14040, "/vcs.v1.VCSService/GetFile"),
    ("GET", 14040, "/pyroscope/render?query=a"),
    ("POST", 19001, "/api/v1/login"),
]
REFUSED = [
    ("POST", 13100, "/loki/api/v1/push"),
    ("POST", 13100, "/otlp/v1/logs"),
    ("POST", 13100, "/loki/api/v1/delete?query=%7Ba%3D%22b%22%7D"),
    ("PUT", 13100, "/loki/api/v1/delete"),
    ("GET", 13100, "/loki/api/v1/delete"),
    ("DELETE", 13100, "/loki/api/v1/delete"),
    ("POST", 13100, "/loki/api/v1/query/../delete"),
    ("POST", 13100, "/loki/api/v1/%64elete"),
    ("POST", 13100, "/loki/api/v1//delete"),
    ("POST", 13100, "/loki/api/v1/cache/generation_numbers"),
    ("POST", 13100, "/loki/api/v1/rules/n"),
    ("DELETE", 13100, "/loki/api/v1/rules/n"),
    ("POST", 13100, "/flush"),
    ("GET", 13100, "/ingester/shutdown"),
    ("POST", 13100, "/ingester/prepare_shutdown"),
    ("GET", 13100, "/config"),
    ("GET", 13100, "/debug/pprof/heap"),
    ("POST", 13100, "/log_level"),
    ("POST", 19009, "/api/v1/push"),
    ("POST", 19009, "/otlp/v1/metrics"),
    ("POST", 19009, "/prometheus/config/v1/rules/n"),
    ("DELETE", 19009, "/prometheus/config/v1/rules/n/g"),
    ("POST", 19009, "/api/v1/alerts"),
    ("DELETE", 19009, "/api/v1/alerts"),
    ("POST", 19009, "/alertmanager/-/reload"),
    ("DELETE", 19009, "/alertmanager/api/v2/alerts"),
    ("POST", 19009, "/compactor/delete_tenant"),
    ("POST", 19009, "/api/v1/upload/block/b/start"),
    ("POST", 19009, "/ingester/ring"),
    ("GET", 19009, "/ingester/flush"),
    ("GET", 19009, "/ingester/shutdown"),
    ("POST", 19009, "/ingester/prepare-shutdown"),
    ("GET", 19009, "/prometheus/api/v1/query/../../../../ingester/flush"),
    ("POST", 19009, "/distributor/ring"),
    ("GET", 19009, "/config"),
    ("POST", 13200, "/flush"),
    ("GET", 13200, "/shutdown"),
    ("POST", 13200, "/api/overrides"),
    ("DELETE", 13200, "/api/overrides"),
    ("POST", 13200, "/v1/traces"),
    ("GET", 13200, "/status/config"),
    ("POST", 14040, "/ingest"),
    ("POST", 14040, "/push.v1.PusherService/Push"),
    ("POST", 14040, "/settings.v1.SettingsService/Set"),
    ("POST", 14040, "/settings.v1.RecordingRulesService/UpsertRecordingRule"),
    ("POST", 14040, "/adhocprofiles.v1.AdHocProfileService/Upload"),
    ("GET", 14040, "/config"),
    ("GET", 14040, "/debug/pprof/heap"),
]


def test_reading_and_the_writes_that_it_needs_pass(query):
    answers = {(method, port, path): query.ask(port, path, method, "data" if method == "POST" else None).status for method, port, path in PASSES}
    assert answers == dict.fromkeys(PASSES, 200)
    assert sorted((request.method, request.path) for request in query.take()) == sorted((method, path) for method, _, path in PASSES)


def test_nothing_else_passes(query):
    answers = {(method, port, path): query.ask(port, path, method).status for method, port, path in REFUSED}
    assert answers == dict.fromkeys(REFUSED, 403)
    assert query.take() == []


def test_who_names_no_tenant_reads_as_the_operator(query):
    seen = []
    for port, path, named, _ in TENANTS:
        query.ask(port, path, headers={"X-Scope-OrgID": named} if named else {})
        [request] = query.take()
        seen.append((port, request.path, named, request.headers.get("x-scope-orgid")))
    assert seen == TENANTS


@pytest.mark.parametrize(("port", "path"), [(13100, "/loki/api/v1/tail?query=%7Ba%3D%22b%22%7D"), (19001, "/ws/objectManager")])
def test_a_websocket_speaks_both_ways(query, port, path):
    part, _ = query.routes[port]
    query.parts[part].answer = switch_and_echo
    with socket.create_connection((query.address, port), timeout=30) as client:
        asked = f"GET {path} HTTP/1.1\r\nHost: here:1234\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: c2lnbmFsYm94\r\n\r\n"
        client.sendall(asked.encode())
        lines = client.makefile("rb")
        assert lines.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        while lines.readline() != b"\r\n":
            pass
        assert lines.readline() == b"hello from " + part.encode() + b"\n"
        client.sendall(b"one line\n")
        assert lines.readline() == b"heard: one line\n"

    [request] = query.arrived()
    assert (request.upstream, request.path) == (part, path)
    headers = {header: request.headers[header] for header in ("host", "connection", "upgrade", "sec-websocket-key")}
    assert headers == {"host": "here:1234", "connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "c2lnbmFsYm94"}


def switch_and_echo(handler, request):
    handler.send_response(101)
    handler.send_header("Connection", "upgrade")
    handler.send_header("Upgrade", "websocket")
    handler.end_headers()
    handler.wfile.write(b"hello from " + request.upstream.encode() + b"\n")
    handler.wfile.write(b"heard: " + handler.rfile.readline())
    handler.close_connection = True


@pytest.mark.parametrize(("port", "path"), [(13100, "/loki/api/v1/tail"), (19001, "/login")])
def test_without_an_upgrade_none_is_asked_for(query, port, path):
    assert query.ask(port, path).status == 200
    [request] = query.arrived()
    assert {"upgrade", "connection"} & set(request.headers) == set()


def test_what_tempo_streams_is_not_held_back(query):
    """Its second half is written only when the client has seen the first."""
    seen = threading.Event()
    was_seen = []

    def in_halves(handler, _request):
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"first")
        was_seen.append(seen.wait(timeout=20))
        handler.wfile.write(b"other")

    query.parts["tempo"].answer = in_halves
    connection = query.connect(13200)
    connection.request("GET", "/api/search")
    answer = connection.getresponse()
    first = answer.read(5)
    seen.set()
    assert (first, answer.read()) == (b"first", b"other")
    assert was_seen == [True]
    connection.close()


@only(resolves)
def test_a_streamed_search_reaches_tempo_by_grpc_without_tls(query):
    tempo = query.parts["tempo"]
    tempo.stop()
    with grpc_upstream.GrpcUpstream(tempo.address, tempo.port, answers=[b"first result", b"last result"]) as upstream:
        answer = grpc_upstream.call(query.address, 13200, "/tempopb.StreamingQuerier/Search", b"a question")
        # While that connection is open, other requests go over others: it can only speak HTTP/2.
        tempo.start()
        assert [query.ask(13200).status for _ in range(6)] == [200] * 6

    assert upstream.headers[":path"] == "/tempopb.StreamingQuerier/Search"
    assert (upstream.headers[":method"], upstream.headers["content-type"], upstream.headers["te"]) == ("POST", "application/grpc", "trailers")
    assert upstream.body == b"a question"
    assert (answer.headers[":status"], answer.body, answer.trailers["grpc-status"]) == ("200", b"first resultlast result", "0")
