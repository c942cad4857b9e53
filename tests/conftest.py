"""Debian's Chromium, and the programs under test: a real `signalboxctl demo` on free ports, started once for all tests and stopped at their end."""

import os
import re
import signal
import subprocess
from dataclasses import dataclass

import pytest
from helpers import BIN, eventually
from playwright.sync_api import sync_playwright

# The addresses are taken from these names wherever they are set; the tests must not meet a demo that runs already.
OWN_SETTINGS = ("SIGNALBOX_LISTEN", "SIGNALBOX_WORKER_LISTEN", "LENS_LISTEN", "LENS_DATA_DIR", "DATABASE_URL", "REDIS_URL")
READY_SECONDS = 90
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


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=120_000)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Demo:
    service: str
    worker: str
    viewer: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    data = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if name not in OWN_SETTINGS}
    environment["SIGNALBOX_WORKER_TIMEOUT_MS"] = "8000"  # a busy machine must not look like a worker that is away
    any_port = "127.0.0.1:0"
    command = [str(BIN / "signalboxctl"), "demo", "--listen", any_port, "--worker", any_port, "--lens", any_port]
    with (data / "said").open("w+") as said:
        process = subprocess.Popen([*command, "--data-dir", str(data)], env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield addresses(process, data / "said")
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=60)
        assert code == 0, (data / "said").read_text()


def addresses(process, said):
    """What the demo prints once all is ready."""

    def printed():
        if process.poll() is not None:
            pytest.fail(said.read_text())
        text = said.read_text()
        return text if "Ctrl-C stops all" in text else None

    text = eventually(printed, READY_SECONDS)
    found = {name: re.search(rf"{name}\b.*?(http://\S+) +ready in", text) for name in ("service", "worker", "viewer")}
    return Demo(**{name: match.group(1) for name, match in found.items()})
