"""Whose data a write is."""

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
        push.ask(port, "/push", "POST", "data", {"X-Scope-OrgID": named} if named else {})
        [request] = push.take()
        seen.append((port, named, request.headers.get("x-scope-orgid")))
    assert seen == TENANTS
