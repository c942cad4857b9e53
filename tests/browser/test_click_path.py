"""From a click in the console through the four signals of that very request, as a user goes."""

import json
import re
import threading
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from helpers import eventually, fetch
from playwright.sync_api import expect

# What one `/demo/work` does, whether or not the cache knows the product. The job itself is a trace of its own.
WORK = {
    ("signalbox-api", "GET /demo/work"),
    ("signalbox-api", "cache get"),
    ("signalbox-api", "GET /quotes/{sku}"),
    ("signalbox-worker", "GET /quotes/{sku}"),
    ("signalbox-worker", "choose carrier"),
    ("signalbox-api", "BEGIN"),
    ("signalbox-api", "UPDATE products"),
    ("signalbox-api", "INSERT orders"),
    ("signalbox-api", "INSERT order_items"),
    ("signalbox-api", "COMMIT"),
    ("signalbox-api", "send signalbox.jobs"),
    ("signalbox-api", "POST /jobs"),
    ("signalbox-worker", "POST /jobs"),
}


def send(page, demo, path, **parameters):
    """Sends one request from the console; returns its card."""
    page.goto(f"{demo.service}/")
    form = page.locator(f'form.offer[action="{path}"]')
    for name, value in parameters.items():
        form.locator(f'input[name="{name}"]').fill(str(value))
    form.get_by_role("button").click()
    card = page.locator("#answers article").first
    expect(card.locator(".status")).to_have_text(re.compile(r"^\d{3}$"))
    return card


def trace_id_of(card):
    text = card.locator("code").first.inner_text()
    assert re.fullmatch("[0-9a-f]{32}", text), text
    return text


def spans_of(demo, trace_id):
    """Spans that the viewer has of a trace, each with its service."""
    body = fetch(f"{demo.viewer}/api/traces/{trace_id}")
    found = []
    for resource in json.loads(body)["resourceSpans"] if body else []:
        attributes = {a["key"]: a["value"].get("stringValue") for a in resource["resource"]["attributes"]}
        for scope in resource["scopeSpans"]:
            found += [{**span, "service": attributes["service.name"]} for span in scope["spans"]]
    return found


def when_complete(demo, trace_id, expected):
    """Waits until the viewer has all those spans: the two processes send theirs on their own."""

    def complete():
        found = spans_of(demo, trace_id)
        missing = expected - {(span["service"], span["name"]) for span in found}
        assert not missing, missing
        return found

    return eventually(complete)


def query(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_from_request_to_trace_to_logs_and_back_to_the_span_and_on_to_metrics(demo, page, picture):
    card = send(page, demo, "/demo/work")
    expect(card.locator(".status")).to_have_text("200")
    trace_id = trace_id_of(card)
    spans = when_complete(demo, trace_id, WORK)
    picture("console")

    # request → trace
    card.locator('a[data-signal="trace"]').click()
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)
    expect(page.get_by_test_id("trace-spans")).to_have_text(str(len(spans)))
    expect(page.get_by_test_id("trace-errors")).to_have_text("0")
    assert sorted(page.get_by_test_id("span").evaluate_all("all => all.map(one => one.dataset.name)")) == sorted(
        span["name"] for span in spans
    )
    server = next(span for span in spans if span["name"] == "GET /demo/work")
    assert "parentSpanId" not in server or not server["parentSpanId"]
    remote = next(span for span in spans if span["name"] == "GET /quotes/{sku}" and span["service"] == "signalbox-worker")
    call = next(span for span in spans if span["spanId"] == remote["parentSpanId"])
    assert (call["name"], call["service"]) == ("GET /quotes/{sku}", "signalbox-api")

    # trace → its logs
    page.goto(f"{demo.viewer}/traces/{trace_id}")  # the same without a span opened, for the picture
    picture("viewer-trace")
    page.get_by_test_id("trace-logs-link").click()
    expect(page.get_by_test_id("log-list")).to_be_visible()
    assert query(page.url) == {"trace_id": trace_id}
    rows = page.get_by_test_id("log-row")

    def all_records():  # records leave by a timer of their own; the page asks for what is new by itself
        messages = rows.locator(".message").all_inner_texts()
        assert len([m for m in messages if m.startswith("order accepted")]) == 1, messages
        for access_record in ("GET /demo/work 200", "GET /quotes/{sku} 200", "POST /jobs 202"):
            assert messages.count(access_record) == 1, messages
        return True

    eventually(all_records)
    assert set(rows.evaluate_all("all => all.map(one => one.dataset.traceId)")) == {trace_id}
    picture("viewer-logs")

    # a record → back to its span
    accepted = rows.filter(has_text="order accepted")
    accepted.locator("summary").first.click()
    accepted.get_by_test_id("log-trace-link").click()
    page.wait_for_url(f"**/traces/{trace_id}#span-{server['spanId']}")
    span = page.locator(f'[data-testid="span"][data-span-id="{server["spanId"]}"]')
    expect(span).to_have_attribute("open", "")
    expect(span.locator('tr[data-key="http.response.status_code"] td').first).to_have_text("200")

    # the job that it caused is a trace of its own, linked both ways
    back = page.get_by_test_id("link-back")
    expect(back).to_have_count(1)
    back.click()
    expect(page.get_by_test_id("trace-id")).not_to_have_text(trace_id)
    page.get_by_test_id("link-out").first.click()
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)

    # trace → metrics of its route, and an exemplar there → the same trace
    page.get_by_test_id("trace-metrics-link").click()
    expect(page.get_by_test_id("metric-name")).to_have_text("http.server.request.duration")
    assert query(page.url)["only"] == "http.route=/demo/work"
    dot = page.locator(f'a[data-testid="exemplar"][href*="{trace_id}"]').first
    expect(dot).to_be_attached()  # points are sent every two seconds; the page asks by itself
    picture("viewer-metrics")
    dot.dispatch_event("click")
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)


def test_each_request_is_counted_once_in_the_metrics(demo, page):
    for _ in range(7):
        assert urlopen(f"{demo.service}/ping", timeout=60).status == 200
    page.goto(f"{demo.viewer}/metrics?service=signalbox-api&name=http.server.request.duration&only=http.route%3D/ping")
    row = page.get_by_test_id("series-row").filter(has_text="http.response.status_code=200")
    expect(row.get_by_test_id("series-value")).to_contain_text(re.compile(r"\b7\b"))


def test_a_span_has_a_flame_graph_of_its_own_and_leads_back(demo, page, picture):
    card, trace_id, span_id = eventually(lambda: burnt(page, demo), 120)

    # the console's own link leads there at once
    assert query(card.locator('a[data-signal="profile"]').get_attribute("href"))["profile"] == span_id

    page.goto(f"{demo.viewer}/traces/{trace_id}")
    span = page.locator(f'[data-testid="span"][data-span-id="{span_id}"]')
    span.locator("summary").first.click()
    # Profiles are pushed every few seconds: until then the page has none, and shows it by itself when it comes.
    span.get_by_test_id("span-profile-link").click()
    assert query(page.url)["profile_id"] == span_id
    frames = page.get_by_test_id("frame")
    own = page.locator('[data-testid="frame"][data-name*="signalbox::routes::demo::cpu"]')
    expect(own.first).to_be_visible(timeout=60_000)
    names = frames.evaluate_all("all => all.map(one => one.dataset.name)")
    assert not [name for name in names if "routes::demo::memory" in name or "routes::demo::work" in name]
    picture("viewer-flame-span", around=own.last)

    page.get_by_test_id("profile-trace-link").click()
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)

    # all CPU time of the service, by type and service
    page.goto(f"{demo.viewer}/profiles?type=cpu&service=signalbox-api")
    expect(own.first).to_be_attached()
    picture("viewer-flame", around=own.first)


def burnt(page, demo):
    """One burn's card, its trace, and the span in it that has samples; None if it came before the profiler ran."""
    card = send(page, demo, "/demo/cpu", ms=3000)
    trace_id = trace_id_of(card)
    for span in when_complete(demo, trace_id, {("signalbox-api", "GET /demo/cpu")}):
        if any(attribute["key"] == "pyroscope.profile.id" for attribute in span["attributes"]):
            return card, trace_id, span["spanId"]
    return None


@pytest.fixture
def memory_held(demo):
    """64 MiB held by the service, one request after the other, for as long as the test runs."""
    done = threading.Event()

    def hold():
        while not done.is_set():
            fetch(f"{demo.service}/demo/memory?mb=64&hold_ms=3000")

    holder = threading.Thread(target=hold)
    holder.start()
    yield
    done.set()
    holder.join()


@pytest.mark.usefixtures("memory_held")
def test_memory_stands_in_the_heap_graph_while_it_is_held(demo, page, picture):
    def pushed():
        listing = json.loads(fetch(f"{demo.viewer}/api/profiles"))["profiles"]
        return any(one["type"] == "heap" and one["service"] == "signalbox-api" for one in listing)

    eventually(pushed, 60)
    page.goto(f"{demo.viewer}/profiles?type=heap&service=signalbox-api")
    held = page.locator('[data-testid="frame"][data-name*="signalbox::routes::demo::memory"]').first
    expect(held).to_be_visible(timeout=60_000)

    def all_of_it():  # the first profile may be of less; the page shows the fullest by itself
        title = held.get_attribute("title")
        size = re.search(r"([\d.]+) MiB", title)
        assert size and float(size.group(1)) >= 48, title  # sampled, so not exactly 64
        return True

    eventually(all_of_it, 60)
    picture("viewer-heap", around=held)


def test_a_failure_is_found_from_its_error_record(demo, page, picture):
    card = send(page, demo, "/demo/work-error")
    expect(card.locator(".status")).to_have_text("500")
    trace_id = trace_id_of(card)
    when_complete(demo, trace_id, {("signalbox-api", "GET /demo/work-error")})

    page.goto(f"{demo.viewer}/logs?level=error&q=request+failed")
    row = page.locator(f'[data-testid="log-row"][data-trace-id="{trace_id}"]')
    expect(row).to_have_count(1)
    assert row.get_attribute("data-level") == "error"
    row.locator("summary").first.click()
    row.get_by_test_id("log-trace-link").click()
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)
    failed = page.locator('[data-testid="span"][data-name="GET /demo/work-error"]')
    event = failed.get_by_test_id("event").first
    expect(event).to_contain_text("exception")
    expect(failed.locator('tr[data-key="http.response.status_code"] td').first).to_have_text("500")
    picture("viewer-error")


def test_new_traces_appear_without_reloading(demo, page, picture):
    page.goto(f"{demo.viewer}/traces")
    answer = urlopen(f"{demo.service}/ping", timeout=60)
    trace_id = answer.headers["traceresponse"].split("-")[1]
    row = page.locator(f'[data-testid="trace-row"][data-trace-id="{trace_id}"]')
    expect(row).to_be_visible()
    picture("viewer-traces")
    page.get_by_test_id("nav-services").click()
    edge = page.get_by_test_id("edge").filter(has_text="signalbox-worker")
    expect(edge.first).to_contain_text("signalbox-api")
    picture("viewer-services")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_shows_without_error_on_a_phone_and_in_both_themes(demo, page, picture, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 800})
    for path in ("/", "/traces", "/logs", "/metrics?name=http.server.request.duration", "/profiles?type=cpu", "/services"):
        page.goto(demo.viewer + path)
        expect(page.locator("main h1, main h2").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{demo.viewer}/")
    picture(f"viewer-overview-{scheme}")
