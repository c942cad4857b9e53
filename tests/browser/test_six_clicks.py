"""The six clicks of docs/story.md, from a dot in a chart to a line of code. `make screenshots` makes the README's recording of them."""

import os
from urllib.request import urlopen

import pytest
from film import Film
from helpers import eventually
from playwright.sync_api import expect
from test_click_path import query


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_six_clicks_lead_from_a_dot_to_the_line_of_code(demo, page, scheme):
    page.emulate_media(color_scheme=scheme)
    film = Film(page, os.environ.get("SCREENSHOTS") == "1")

    # 1. The metric: a dot of a request whose span has samples. The profiler starts after the service.
    metric = f"{demo.viewer}/metrics?service=signalbox-api&name=http.server.request.duration&only=http.route%3D%2Fdemo%2Fcpu"

    def burnt():
        with urlopen(f"{demo.service}/demo/cpu?ms=2500", timeout=60) as answer:
            trace_id = answer.headers["traceresponse"].split("-")[1]
            sampled = "x-profile-id" in answer.headers
        if not sampled:
            return None
        page.goto(metric)
        dot = page.locator(f'a[data-testid="exemplar"][href*="{trace_id}"]').first
        expect(dot).to_be_attached(timeout=20_000)
        return dot, trace_id

    dot, trace_id = eventually(burnt, 120)
    film.show("1  The metric: each dot is one request", dot)
    dot.dispatch_event("click")

    # 2. Its trace
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)
    burnt = page.locator('[data-testid="span"][data-name="burn cpu"]')
    expect(burnt).to_be_visible()
    trace = page.url.partition("#")[0]
    page.goto(trace)
    logs = page.get_by_test_id("trace-logs-link")
    film.show("2  Its trace: where the time went", logs)
    logs.click()

    # 3. Its logs
    record = page.get_by_test_id("log-row").filter(has_text="GET /demo/cpu 200")
    expect(record).to_have_count(1)
    record.locator("summary").first.click()
    back = record.get_by_test_id("log-trace-link")
    film.show("3  Its logs, and back", back)
    back.click()
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)

    # 4. The flame graph of its span alone
    page.goto(trace)
    burnt.locator("summary").first.click()
    profile = burnt.get_by_test_id("span-profile-link")
    film.show("4  A span's own flame graph …", profile)
    profile.click()
    frame = page.locator('[data-testid="frame"][data-name*="count_primes"]').first
    expect(frame).to_be_visible(timeout=60_000)
    flame = page.url
    lead_back = page.get_by_test_id("profile-trace-link")
    expect(lead_back).to_be_visible()
    film.show("4  … says which functions", None)

    # 5. The metrics of its route
    lead_back.click()
    expect(page.get_by_test_id("trace-id")).to_have_text(trace_id)
    page.get_by_test_id("trace-metrics-link").click()
    expect(page.get_by_test_id("metric-name")).to_have_text("http.server.request.duration")
    assert query(page.url)["only"] == "http.route=/demo/cpu"
    expect(page.get_by_test_id("exemplar").first).to_be_attached()
    film.show("5  Its route: the rule or the exception?", None)

    # 6. The line
    page.goto(flame)
    expect(frame).to_be_visible()
    film.show("6  And the line of code", frame)
    frame.click()
    expect(page.get_by_test_id("source-file")).to_have_text("src/routes/demo/cpu.rs")
    hot = page.locator('[data-testid="source-line"].hot')
    expect(hot.first).to_contain_text("%")
    assert any("composite" in text for text in hot.all_inner_texts()), hot.all_inner_texts()
    hot.filter(has_text="composite").first.evaluate("element => element.scrollIntoView({ block: 'center' })")
    film.show("6  … src/routes/demo/cpu.rs, line by line", None)
    film.write(f"six-clicks-{scheme}")
