"""The clicks of docs/story.md that Grafana has, all but the last: as one walk, and as the links that the load generator prints. `make test-stack`."""

import re
import subprocess

import pytest
from conftest import PATIENCE_MS
from helpers import ROOT
from playwright.sync_api import expect
from test_links import alone, open_span

EVENTUALLY = {"timeout": PATIENCE_MS}
BURNT = "signalbox::routes::demo::cpu::burn_cpu"
RECORD = "GET /demo/cpu 200"


@pytest.fixture(scope="module")
def printed():
    """What a load generator that has just ended says of its slowest request on CPU: the link of each click."""
    command = ["make", "--no-print-directory", "generate-load", "ARGS=--duration 20s"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    story = text.partition("six clicks, for GET /demo/cpu")[2]
    clicks = re.findall(r"^  \d (\w+) .*\n    (\S+)$", story, re.MULTILINE)
    assert [name for name, _ in clicks] == ["metrics", "trace", "logs", "profile", "metrics", "profile"], text
    return [url for _, url in clicks]


def test_one_request_from_its_dot_through_all_signals(page, printed):
    # 1. the metric: its highest dot
    page.goto(printed[0])
    dots = page.get_by_test_id("data-testid Exemplar marker")
    expect(dots.first).to_be_attached(**EVENTUALLY)
    page.wait_for_timeout(2_000)
    highest = min(dots.all(), key=lambda dot: dot.bounding_box()["y"])
    highest.click(force=True)
    trace_id = page.get_by_text(re.compile("^[0-9a-f]{32}$")).first.inner_text()

    # 2. its trace
    page.get_by_text("Open the trace").first.click()
    expect(page.get_by_text("signalbox-api: GET /demo/cpu")).to_be_visible(**EVENTUALLY)
    alone(page, trace_id)
    trace = page.url

    # 3. its logs
    open_span(page, "burn cpu")
    page.get_by_text(re.compile("^(Logs for this span|Related logs)$")).first.click()
    alone(page, "this_span")
    expect(page.get_by_text(RECORD).first).to_be_visible(**EVENTUALLY)
    assert page.get_by_text(RECORD).count() == 1

    # 4. its flame graph
    page.goto(trace)
    open_span(page, "burn cpu")
    page.get_by_text("Profiles for this span").first.click()
    alone(page, "spanSelector")
    expect(page.get_by_text(BURNT).first).to_be_visible(**EVENTUALLY)

    # 5. the metrics of its route
    page.goto(trace)
    open_span(page, "burn cpu")
    page.get_by_text("Rate of requests").first.click()
    alone(page, "http_server_request_duration_seconds_count")
    expect(page.locator(".u-over").first).to_be_visible(**EVENTUALLY)


def test_the_printed_links_lead_to_that_request(page, printed):
    metrics, trace, logs, profile, *again = printed
    page.goto(trace)
    expect(page.get_by_text("burn cpu", exact=True).first).to_be_visible(**EVENTUALLY)
    page.goto(logs)
    expect(page.get_by_text(RECORD).first).to_be_visible(**EVENTUALLY)
    assert page.get_by_text(RECORD).count() == 1
    page.goto(profile)
    expect(page.get_by_text(BURNT).first).to_be_visible(**EVENTUALLY)
    assert page.get_by_text("signalbox::routes::demo::memory").count() == 0
    assert again == [metrics, profile]
