"""Debian's Chromium, and a page that fails its test for any error it shows or any request off this machine."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# Without these Chromium asks its maker for updates, and as root it needs the first one.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 30_000
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


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
    """`picture(name)` takes one for the documentation, when that is asked for."""

    def take(name):
        if os.environ.get("SCREENSHOTS") == "1":
            IMAGES.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=IMAGES / f"{name}.png")

    return take
