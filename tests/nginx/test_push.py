"""Whose data a write is, and that nothing but writing passes."""

# Port, the tenant that the client names, the one that the store is told.
TENANTS = [
    (13100, None, "fake"),
    (13100, "anonymous", "fake"),
    (13100, "fake", "fake"),
    (13100, "11111", "11111"),
    (19009, None, "anonymous"),
    (19009, "fake", "anonymous"),
    (19009, "anonymous", "anonymous"),
    (19009, "22222", "22222"),
    (14318, None, None),
    (14318, "33333", "33333"),
    (14040, None, None),
    (14040, "fake", None),
]


def test_a_write_without_a_tenant_is_the_default_tenants(push):
    seen = []
    for port, named, _ in TENANTS:
        push.ask(port, None, "POST", "data", {"X-Scope-OrgID": named} if named else {})
        [request] = push.take()
        seen.append((port, named, request.headers.get("x-scope-orgid")))
    assert seen == TENANTS


# Method, port, path.
PASSES = [
    ("POST", 13100, "/otlp/v1/logs"),
    ("POST", 13100, "/loki/api/v1/push"),
    ("POST", 19009, "/otlp/v1/metrics"),
    ("POST", 19009, "/api/v1/push"),
    ("POST", 14318, "/v1/traces"),
    ("POST", 14040, "/ingest?name=a"),
    ("POST", 14040, "/push.v1.PusherService/Push"),
    ("GET", 13100, "/ready"),
    ("GET", 19009, "/ready"),
    ("GET", 14318, "/ready"),
    ("GET", 14040, "/ready"),
]
REFUSED = [
    ("GET", 13100, "/loki/api/v1/query_range?query=%7Ba%3D%22b%22%7D"),
    ("POST", 13100, "/loki/api/v1/delete?query=%7Ba%3D%22b%22%7D"),
    ("POST", 13100, "/otlp/v1/logs/../../../loki/api/v1/delete"),
    ("POST", 13100, "/flush"),
    ("POST", 13100, "/ingester/shutdown"),
    ("POST", 13100, "/loki/api/v1/rules/n"),
    ("GET", 13100, "/config"),
    ("GET", 13100, "/metrics"),
    ("GET", 19009, "/prometheus/api/v1/query?query=up"),
    ("POST", 19009, "/prometheus/api/v1/query"),
    ("POST", 19009, "/prometheus/config/v1/rules/n"),
    ("POST", 19009, "/api/v1/alerts"),
    ("DELETE", 19009, "/api/v1/alerts"),
    ("POST", 19009, "/compactor/delete_tenant"),
    ("POST", 19009, "/ingester/flush"),
    ("GET", 19009, "/ingester/shutdown"),
    ("POST", 19009, "/%69ngester/shutdown"),
    ("POST", 19009, "//ingester/shutdown"),
    ("POST", 19009, "/api/v1/push/../../../ingester/shutdown"),
    ("POST", 19009, "/ingester/ring"),
    ("GET", 14318, "/api/search"),
    ("GET", 14318, "/v1/traces"),
    ("POST", 14318, "/flush"),
    ("POST", 14040, "/querier.v1.QuerierService/LabelNames"),
    ("GET", 14040, "/pyroscope/render"),
    ("GET", 14040, "/"),
    ("DELETE", 14040, "/api/apps/delete"),
]


def test_writing_passes(push):
    answers = {(method, port, path): push.ask(port, path, method, "data" if method == "POST" else None).status for method, port, path in PASSES}
    assert answers == dict.fromkeys(PASSES, 200)
    assert sorted((request.method, request.path) for request in push.take()) == sorted((method, path) for method, _, path in PASSES)


def test_nothing_else_passes(push):
    answers = {(method, port, path): push.ask(port, path, method).status for method, port, path in REFUSED}
    assert answers == dict.fromkeys(REFUSED, 403)
    assert push.take() == []


def test_who_is_refused_is_told_where_it_stands(push):
    answer = push.ask(13100, "/loki/api/v1/labels")
    assert answer.text.startswith("This balancer does not pass on GET /loki/api/v1/labels.")
    assert "nginx/push.conf" in answer.text
