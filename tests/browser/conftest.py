"""A page that fails its test for any error it shows or any request off this machine."""

import os
import subprocess
from urllib.parse import urlsplit

import pytest
from helpers import BIN, IMAGES
from playwright.sync_api import expect

PATIENCE_MS = 60_000


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    wrong = []
    context.on("request", lambda request: wrong.append(f"asked for {request.url}") if leaves(request.url) else None)
    context.on("console", lambda message: wrong.append(f"console: {message.text}") if is_error(message) else None)
    context.on("weberror", lambda error: wrong.append(f"page error: {error.error}"))
    yield context.new_page()
    context.close()
    assert wrong == []


def leaves(url):
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"


def is_error(message):
    """Chromium complains of every 5xx; one that the test asked for is none of the page's."""
    return message.type == "error" and not urlsplit(message.location["url"]).path.endswith("-error")


@pytest.fixture
def picture(page):
    """`picture(name)` takes one for the documentation, when that is asked for: of the page's top, or around an element."""

    def take(name, around=None):
        if os.environ.get("SCREENSHOTS") != "1":
            return
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.mouse.move(0, 0)
        if around is None:
            page.evaluate("scrollTo(0, 0)")
        else:
            around.evaluate("element => element.scrollIntoView({ block: 'center' })")
        page.screenshot(path=IMAGES / f"{name}.png")

    return take


@pytest.fixture(scope="session", autouse=True)
def traffic_for_the_pictures(demo):
    """A picture of an idle service shows nothing. Leaves out what a test counts."""
    if os.environ.get("SCREENSHOTS") == "1":
        mix = "work=6,logs=1,api=3,api-503=1,cpu=1,work-error=1"
        subprocess.run([BIN / "signalboxctl", "load", "--url", demo.service, "--mix", mix, "--rate", "8"], check=True, stdout=subprocess.DEVNULL)
