"""The viewer's pages as people work in them: the range of time, the keyboard, lines of source, and what assistive programs need."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import eventually, fetch
from playwright.sync_api import expect
from test_click_path import WORK, send, trace_id_of, when_complete

PAGES = (
    "/",
    "/traces",
    "/traces?q=no-such-thing",
    "/logs",
    "/logs?level=warn%2B&q=order",
    "/metrics?name=http.server.request.duration",
    "/profiles?type=cpu",
    "/profiles?type=heap",
    "/services",
    "/there-is-no-such-page",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_axe_finds_nothing_on_any_page(demo, page, scheme, width):
    failed = trace_id_of(send(page, demo, "/demo/work-error"))
    when_complete(demo, failed, {("signalbox-api", "GET /demo/work-error")})
    linked = trace_id_of(send(page, demo, "/demo/work"))
    when_complete(demo, linked, WORK)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    for path in (*PAGES, f"/traces/{failed}", f"/traces/{linked}"):
        if path == "/there-is-no-such-page":
            page.route("**" + path, lambda route: route.fulfill(response=route.fetch(), status=200))  # Chromium logs a 404 as an error
        page.goto(demo.viewer + path)
        expect(page.locator("main h1").first).to_be_visible()
        if path == f"/traces/{linked}":
            expect(page.get_by_test_id("link-back")).to_be_visible()  # the job's trace links here once it has come
        # What opens is looked at open: the first rows are as all others are.
        page.evaluate("[...document.querySelectorAll('main details')].slice(0, 4).forEach((row) => (row.open = true))")
        found = Axe().run(page).response["violations"]
        assert found == [], [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_dragging_zooms_in_and_a_button_goes_back(demo, page):
    page.goto(f"{demo.viewer}/logs")
    volume = page.get_by_test_id("log-volume").locator("svg")
    box = volume.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from_ms=\d+&to_ms=\d+"))
    page.get_by_test_id("nav-traces").click()
    expect(page).to_have_url(re.compile(r"/traces\?from_ms=\d+&to_ms=\d+"))
    earlier = page.url
    page.keyboard.press("[")
    page.wait_for_url(lambda url: url != earlier)
    page.get_by_test_id("range-back").click()
    page.wait_for_url(lambda url: "from_ms" not in url or url == earlier)


def test_the_keyboard_reaches_everything(demo, page):
    page.goto(f"{demo.viewer}/logs")
    page.keyboard.press("/")
    expect(page.get_by_test_id("log-search")).to_be_focused()
    page.keyboard.type("order")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("log-search")).to_have_value("")
    expect(page.get_by_test_id("log-search")).to_be_focused()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement !== document.body")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()

    fetch(f"{demo.service}/ping")
    page.goto(f"{demo.viewer}/metrics?name=http.server.request.duration")
    expect(page.get_by_test_id("exemplar").first).to_be_attached()
    for presses in range(1, 11):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Skip to the charts":
            page.keyboard.press("Enter")
        if page.evaluate("document.activeElement.classList.contains('exemplar')"):
            break
    assert presses <= 10 and page.evaluate("document.activeElement.classList.contains('exemplar')")


def test_a_long_unit_has_room_beside_the_axis(demo, page):
    def width(metric):
        page.goto(f"{demo.viewer}/metrics?name={metric}")
        return page.locator(".u-axis").nth(1).bounding_box()["width"]

    fetch(f"{demo.service}/ping")
    assert width("otel.sdk.exporter.metric_data_point.exported") > width("http.server.request.duration")


def test_a_frame_leads_to_the_line_of_code(demo, page, picture):
    def burnt():
        fetch(f"{demo.service}/demo/cpu?ms=2000")
        page.goto(f"{demo.viewer}/profiles?type=cpu&service=signalbox-api")
        return page.locator('[data-testid="function-row"][data-name*="count_primes"]').count() > 0

    eventually(burnt, 120)
    page.locator('[data-testid="frame"][data-name*="count_primes"]').first.click()
    expect(page.get_by_test_id("source-file")).to_have_text("src/routes/demo/cpu.rs")
    hot = page.locator('[data-testid="source-line"].hot')
    expect(hot.first).to_contain_text("%")
    shares = [float(text) for text in re.findall(r"([\d.]+) %", " ".join(hot.all_inner_texts()))]
    assert shares and max(shares) > 1
    picture("viewer-source", around=page.get_by_test_id("source"))
