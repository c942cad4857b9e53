"""Every link between the signals, clicked in Grafana; each must land on the very request. `make test-stack`, while the stack is up."""

import json
import re
import secrets
import time
from itertools import product
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen

from conftest import GRAFANA, OTLP, PATIENCE_MS
from playwright.sync_api import expect

EVENTUALLY = {"timeout": PATIENCE_MS}


def of_trace(page, trace_id):
    """Grafana's trace view shows this trace."""
    expect(page.get_by_text("Trace ID").first).to_be_visible(**EVENTUALLY)
    expect(page.get_by_text(trace_id).first).to_be_visible(**EVENTUALLY)


def open_span(page, name):
    """Unfolds a span of the trace and its list of links."""
    page.get_by_text(name, exact=True).first.click()
    page.get_by_role("button", name="Links").first.click()


def alone(page, word):
    """Gives the whole page to the half that a link opened, which is the one that asks for `word`."""
    expect(page).to_have_url(re.compile(word), **EVENTUALLY)
    panes = json.loads(parse_qs(urlsplit(page.url).query)["panes"][0])
    pane = next(pane for pane in panes.values() if word in json.dumps(pane["queries"]))
    page.goto(f"{GRAFANA}/explore?schemaVersion=1&orgId=1&panes={quote(json.dumps({'a': pane}))}")


def test_exemplar_leads_to_its_trace(page, burnt, picture):
    page.goto(burnt.link("metrics"))
    dots = page.get_by_test_id("data-testid Exemplar marker")
    expect(dots.first).to_be_attached(**EVENTUALLY)
    # A click keeps its tooltip open.
    dots.last.click(force=True)
    link = page.get_by_text("Open the trace").first
    expect(link).to_be_visible(**EVENTUALLY)
    picture("exemplar")
    link.click()
    expect(page.get_by_text("signalbox-api: GET /demo/cpu")).to_be_visible(**EVENTUALLY)


def test_trace_leads_to_its_logs(page, burnt, picture):
    page.goto(burnt.link("trace"))
    of_trace(page, burnt.trace_id)
    picture("trace")
    open_span(page, "burn cpu")
    page.get_by_text(re.compile("^(Logs for this span|Related logs)$")).first.click()
    expect(page.get_by_text("GET /demo/cpu 200").first).to_be_visible(**EVENTUALLY)


def test_trace_leads_to_its_metrics(page, burnt):
    page.goto(burnt.link("trace"))
    of_trace(page, burnt.trace_id)
    open_span(page, "burn cpu")
    page.get_by_text("Rate of requests").first.click()
    expect(page.get_by_text("http_server_request_duration_seconds_count").first).to_be_visible(**EVENTUALLY)
    expect(page.locator(".u-over").first).to_be_visible(**EVENTUALLY)


def test_span_leads_to_its_flame_graph(page, burnt, picture):
    page.goto(burnt.link("trace"))
    of_trace(page, burnt.trace_id)
    open_span(page, "burn cpu")
    page.get_by_text("Profiles for this span").first.click()
    # In half a page Grafana shows the flame graph alone, which is a drawing; with the whole page the table of its names too.
    alone(page, "spanSelector")
    expect(page.get_by_text("signalbox::routes::demo::cpu::count_primes").first).to_be_visible(**EVENTUALLY)
    picture("span-profile")


def test_record_leads_to_its_trace_and_request(page, burnt, picture):
    page.goto(burnt.link("logs"))
    record = page.get_by_text("GET /demo/cpu 200").first
    expect(record).to_be_visible(**EVENTUALLY)
    record.click()
    expect(page.get_by_text("All logs of this request")).to_have_count(1, **EVENTUALLY)
    picture("logs")
    page.get_by_text("Open the trace").first.click()
    of_trace(page, burnt.trace_id)


def test_request_id_leads_to_all_its_records(page, burnt):
    page.goto(burnt.link("logs"))
    record = page.get_by_text("GET /demo/cpu 200").first
    expect(record).to_be_visible(**EVENTUALLY)
    record.click()
    with page.expect_popup() as popup:
        page.get_by_text("All logs of this request").first.click()
    expect(popup.value).to_have_url(re.compile(burnt.request_id), **EVENTUALLY)
    expect(popup.value.get_by_text("GET /demo/cpu 200").first).to_be_visible(**EVENTUALLY)


def test_request_id_of_another_service_leads_to_its_records(page):
    request_id, now = f"r-{secrets.token_hex(4)}", time.time_ns()
    attributes = [{"key": "request_id", "value": {"stringValue": request_id}}]
    record = {"timeUnixNano": str(now), "severityNumber": 9, "body": {"stringValue": "sold to a stranger"}, "attributes": attributes}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "stranger"}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    urlopen(Request(f"{OTLP}/v1/logs", json.dumps(body).encode(), {"Content-Type": "application/json"}), timeout=30)
    pane = {
        "datasource": "loki",
        "queries": [{"refId": "A", "datasource": {"type": "loki", "uid": "loki"}, "queryType": "range", "editorMode": "code", "expr": '{service_name="stranger"}'}],
        "range": {"from": str(now // 1_000_000 - 60_000), "to": str(now // 1_000_000 + 60_000)},
    }
    page.goto(f"{GRAFANA}/explore?schemaVersion=1&orgId=1&panes={quote(json.dumps({'a': pane}))}")
    told = page.get_by_text("sold to a stranger").first
    expect(told).to_be_visible(**EVENTUALLY)
    told.click()
    with page.expect_popup() as popup:
        page.get_by_text("All logs of this request").click()
    expect(popup.value).to_have_url(re.compile(request_id), **EVENTUALLY)
    expect(popup.value.get_by_text("sold to a stranger").first).to_be_visible(**EVENTUALLY)


def test_profile_of_the_request_names_what_burnt(page, burnt):
    page.goto(burnt.link("profile"))
    expect(page.get_by_text("signalbox::routes::demo::cpu::count_primes").first).to_be_visible(**EVENTUALLY)


def test_cpu_of_a_route_leads_to_the_traces_that_burnt_it(page, burnt):
    # The whole time since the session began: the tests before this one may have taken minutes.
    page.goto(f"{GRAFANA}/d/signalbox-profiles?from=now-15m&to=now&refresh=")
    panel = page.get_by_test_id("data-testid Panel header CPU by route")
    panel.scroll_into_view_if_needed()
    plot = panel.locator(".u-over")
    expect(plot).to_be_visible(**EVENTUALLY)
    page.wait_for_timeout(5_000)
    # A click in the legend leaves the line of that route alone.
    panel.get_by_role("button", name="cpu /demo/cpu", exact=True).click()
    # A click near a line keeps its tooltip open, with the link of that line. Where the line is only the drawing knows: hundredths of its width, and of its height.
    box = plot.bounding_box()
    link = page.get_by_text("Traces that burnt this").first
    for across, down in product(range(95, 0, -5), (10, 25, 40, 55, 70, 85, 97)):
        page.mouse.click(box["x"] + box["width"] * across / 100, box["y"] + box["height"] * down / 100)
        page.wait_for_timeout(300)
        if link.is_visible():
            break
        page.keyboard.press("Escape")
    link.click()
    # Tempo leaves out leading zeros.
    expect(page.get_by_text(burnt.trace_id[:16].lstrip("0")).first).to_be_visible(**EVENTUALLY)


def test_service_graph_names_who_calls_whom(page, burnt, picture):
    page.goto(f"{GRAFANA}/d/signalbox-traces?from=now-15m&to=now&viewPanel=panel-9")
    graph = page.locator("svg")
    for service in ("signalbox-api", "signalbox-worker", "postgres", "redis"):
        expect(graph.get_by_text(service, exact=True).first).to_be_visible(**EVENTUALLY)
    picture("service-graph")
