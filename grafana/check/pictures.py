"""Opens every dashboard in a real browser, takes its picture and names the panels that show no data or an error."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from . import queries

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
WIDTH, ROW_PIXELS, ABOVE_PANELS = 1600, 38, 160
#: Text with which Grafana's panels say that they have nothing to show.
NOTHING = ("No data", "No logs found", "Data is missing", "No trace found")


def take(url: str, folder: Path, user: str = "admin:admin", span: str = "now-15m", theme: str = "dark") -> Iterator[str]:
    """Problems found; one PNG a dashboard in `folder`."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        context = browser.new_context(
            viewport={"width": WIDTH, "height": 1000},
            locale="en-US",
            extra_http_headers={"Authorization": "Basic " + b64encode(user.encode()).decode()},
        )
        for stem, board in queries.dashboards().items():
            rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
            page = context.new_page()
            # As tall as the dashboard: panels load when they come into view.
            page.set_viewport_size({"width": WIDTH, "height": rows * ROW_PIXELS + ABOVE_PANELS})
            page.goto(f"{url}/d/{board['uid']}?from={span}&to=now&theme={theme}&refresh=&kiosk", wait_until="domcontentloaded")
            page.wait_for_selector("[data-viz-panel-key], [data-testid^='data-testid Panel header']", timeout=60_000)
            page.wait_for_timeout(2_000)
            page.wait_for_function("!document.querySelector('[aria-label=\"Panel loading bar\"]')", timeout=90_000)
            page.wait_for_timeout(2_000)
            page.screenshot(path=str(folder / f"{stem}.png"))
            for panel in page.query_selector_all("section[data-testid^='data-testid Panel header']"):
                title = (panel.get_attribute("data-testid") or "").removeprefix("data-testid Panel header ")
                text = panel.inner_text()
                if any(word in text for word in NOTHING) or panel.query_selector("[data-testid='data-testid Panel status error']"):
                    yield f"{stem} / {title}: {text.strip()[-120:]!r}"
            page.close()
        browser.close()
