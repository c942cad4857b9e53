"""The other systems, where a browser has something to see of them. Each is skipped where its profile is off: `make up PROFILE="faro mysql tenants"`."""

import json
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from conftest import GRAFANA, PATIENCE_MS, SERVICE, Seen, ask
from helpers import eventually, fetch
from playwright.sync_api import expect

EVENTUALLY = {"timeout": PATIENCE_MS}


def needs(system, there):
    if not there:
        pytest.skip(f"make up PROFILE={system}")


def explore(uid, kind, expression):
    query = {"refId": "A", "datasource": {"type": kind, "uid": uid}, "expr": expression, "instant": True, "range": False, "format": "table"}
    pane = {"datasource": uid, "queries": [query], "range": {"from": "now-15m", "to": "now"}}
    return f"{GRAFANA}/explore?schemaVersion=1&orgId=1&panes={quote(json.dumps({'a': pane}))}"


def test_the_browser_is_the_parent_of_the_server(browser):
    """Faro: a click in the console begins the trace, and an error of the page is a record."""
    needs("faro", b"faro/start.js" in fetch(SERVICE))
    # As Grafana's `page`, but without its password, which Faro's receiver would refuse as a header that it does not know.
    page = browser.new_page()
    page.goto(SERVICE)
    page.locator('form.offer[action="/ping"]').get_by_role("button").click()
    trace_id = page.locator("#answers article code").first
    expect(page.locator("#answers article .status").first).to_have_text("200")
    page.get_by_role("button", name="Throw").click()

    spans = eventually(lambda: both_ends(trace_id.inner_text()), 60)
    browser, server = spans["signalbox-console"], spans["signalbox-api"]
    assert server["parentSpanId"] == browser["spanId"]

    query = quote('{service_name="signalbox-console", kind="exception"} |= "thrown by a click in the console"')
    found = eventually(lambda: ask(f"/api/datasources/proxy/uid/loki/loki/api/v1/query_range?since=5m&query={query}")["data"]["result"], 60)
    assert found[0]["stream"]["service_name"] == "signalbox-console"


def both_ends(trace_id):
    """Of a trace the browser's span and the server's root, once both are there."""
    found = {}
    try:
        trace = ask(f"/api/datasources/proxy/uid/tempo/api/traces/{trace_id}")
    except HTTPError:
        return None  # not there yet
    for resource in trace.get("batches", trace.get("resourceSpans", [])):
        names = {one["key"]: one["value"].get("stringValue") for one in resource["resource"]["attributes"]}
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            if span["kind"] in ("SPAN_KIND_CLIENT", "SPAN_KIND_SERVER"):
                found[names["service.name"]] = span
    return found if len(found) == 2 else None


def test_a_client_sees_itself_and_nobody_else(page):
    needs("tenants", any(source["uid"] == "mimir-11111" for source in ask("/api/datasources")))
    for client in ("11111", "22222"):
        for _ in range(3):
            Seen("/api?sc=200&delay_ms=0", {"Client-ID": client})
    page.wait_for_timeout(15_000)
    page.goto(explore("mimir-11111", "prometheus", "count by (signalbox_client_id) (http_server_request_duration_seconds_count)"))
    expect(page.get_by_text("11111", exact=True).first).to_be_visible(**EVENTUALLY)
    assert page.get_by_text("22222", exact=True).count() == 0


def test_the_database_can_be_chosen(page):
    needs("mysql", ask(f"/api/datasources/proxy/uid/mimir/api/v1/query?query={quote('mysql_up')}")["data"]["result"])
    page.goto(f"{GRAFANA}/d/signalbox-infrastructure?from=now-15m&to=now&refresh=")
    page.get_by_test_id("data-testid Dashboard template variables submenu Label Database").locator("..").get_by_role("combobox").click()
    for database in ("postgres:5432", "mysql:3306"):
        expect(page.get_by_role("option", name=database)).to_be_visible(**EVENTUALLY)
