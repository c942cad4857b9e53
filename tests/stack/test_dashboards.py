"""Every dashboard opened in Grafana after a load: no panel may be empty or in error. `make test-stack`, while the stack is up."""

import json
import subprocess

import pytest
from conftest import GRAFANA, PATIENCE_MS, ask
from helpers import ROOT, eventually
from playwright.sync_api import expect

BOARDS = [*sorted((ROOT / "grafana" / "dashboards").glob("*.json")), *sorted((ROOT / "systems").glob("*/dashboards/*.json"))]
# Text with which Grafana's panels say that they have nothing to show.
NOTHING = ("No data", "No logs found", "Data is missing", "No trace found", "No alerts matching filters")
# What a panel has while its query is not answered, and when it failed.
UNFINISHED = "[aria-label='Panel loading bar'], [data-testid='data-testid Panel status error']"
ROW_PIXELS = 38
ABOVE_PANELS = 160
# Shown in README.md and docs/story.md.
PICTURED = "overview"


@pytest.fixture(scope="session")
def known():
    """What the Grafana that runs has: the base's dashboards, and those of the systems that run with it."""
    return {found["uid"] for found in ask("/api/search?type=dash-db&limit=1000")}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_something(page, path, known, loaded, picture):
    board = json.loads(path.read_text())
    if board["uid"] not in known and path.is_relative_to(ROOT / "systems"):
        pytest.skip(f"not with this stack: make up PROFILE={path.stem}")
    if path.stem == "k6":
        # Whether its thresholds are kept is another question.
        subprocess.run(["make", "k6"], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    panels = [panel for panel in board["panels"] if panel["type"] not in ("row", "text")]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    # As tall as the dashboard: panels load when they come into view.
    page.set_viewport_size({"width": 1600, "height": rows * ROW_PIXELS + ABOVE_PANELS})
    page.goto(f"{GRAFANA}/d/{board['uid']}?from=now-15m&to=now&refresh=&kiosk", wait_until="networkidle")
    shown = page.locator("section[data-testid^='data-testid Panel header']")
    expect(shown).to_have_count(len([panel for panel in board["panels"] if panel["type"] != "row"]), timeout=PATIENCE_MS)

    def filled():
        """A panel says `No data` also before its query is answered, and the dashboard asks anew every ten seconds."""
        empty = {}
        for panel in shown.all():
            text = panel.inner_text()
            if any(word in text for word in NOTHING) or panel.locator(UNFINISHED).count():
                empty[panel.get_attribute("data-testid").removeprefix("data-testid Panel header ")] = text[-120:]
        assert empty == {}, empty
        return True

    eventually(filled, PATIENCE_MS / 1000)
    if path.stem == PICTURED:
        picture(path.stem)
    assert len(panels) > 5


def test_a_thousand_requests_are_shown_as_a_thousand(page, loaded):
    page.goto(f"{GRAFANA}/d/signalbox-overview?from=now-15m&to=now&refresh=&var-status={loaded}&viewPanel=panel-2")
    expect(page.get_by_text("1000", exact=True).or_(page.get_by_text("1 K", exact=True)).first).to_be_visible(timeout=PATIENCE_MS)
