"""The Grafana of the stack that runs, and one request whose signals are looked for."""

import json
import os
import re
import secrets
import subprocess
import time
from base64 import b64encode
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from helpers import IMAGES, ROOT

HOST = f"http://{os.environ.get('BIND', '127.0.0.1')}"
SERVICE = f"{HOST}:{os.environ.get('API_PORT', '18080')}"
OTLP = f"{HOST}:{os.environ.get('OTLP_HTTP_PORT', '4318')}"
GRAFANA = f"{HOST}:{os.environ.get('GRAFANA_PORT', '13000')}"
USER = f"{os.environ.get('GRAFANA_USER', 'admin')}:{os.environ.get('GRAFANA_PASSWORD', 'admin')}"
AUTHORIZATION = {"Authorization": "Basic " + b64encode(USER.encode()).decode()}
PATIENCE_MS = 60_000
COUNTED = 1_000


def ask(path):
    """What Grafana's API answers."""
    with urlopen(Request(GRAFANA + path, headers=AUTHORIZATION), timeout=30) as answer:
        return json.load(answer)


class Seen:
    """One request, by the ids that its answer carried, and the service's own link templates filled in for it."""

    def __init__(self, path, headers=None):
        sent = time.time()
        with urlopen(Request(SERVICE + path, headers=headers or {}), timeout=30) as answer:
            self.trace_id = answer.headers["traceresponse"].split("-")[1]
            self.request_id = answer.headers["x-request-id"]
        with urlopen(f"{SERVICE}/links", timeout=30) as answer:
            self.templates = json.load(answer)
        self.values = {
            "trace_id": self.trace_id,
            "request_id": self.request_id,
            "service": "signalbox-api",
            "route": path.partition("?")[0],
            "from_ms": int((sent - 300) * 1000),
            "to_ms": int((sent + 60) * 1000),
        }

    def link(self, kind):
        return re.sub(r"\{(\w+)\}", lambda name: quote(str(self.values[name[1]]), safe="") if name[1] in self.values else name[0], self.templates[kind])


@pytest.fixture(scope="session")
def burnt():
    """A request that burns CPU for a second, after some like it: a rate needs more than one."""
    for _ in range(3):
        Seen("/demo/cpu?ms=300")
        time.sleep(4)
    seen = Seen("/demo/cpu?ms=1000")
    # Metrics leave the service every 5 s, profiles every 10 s.
    time.sleep(20)
    return seen


@pytest.fixture(scope="session")
def loaded():
    """After a minute of mixed load and 1,000 requests of one status, which is the value: one that neither load nor `verify` asks for."""
    subprocess.run(["make", "generate-load"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    status = 310 + secrets.randbelow(69)
    for _ in range(COUNTED):
        with pytest.raises(HTTPError, match=str(status)):
            urlopen(f"{SERVICE}/api?sc={status}&delay_ms=0", timeout=30)
    time.sleep(20)
    return status


@pytest.fixture
def page(browser):
    context = browser.new_context(
        viewport={"width": 1600, "height": 1000},
        locale="en-US",
        extra_http_headers=AUTHORIZATION,
    )
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def picture(page):
    """`picture(name)` takes one for the documentation, when that is asked for."""

    def take(name):
        if os.environ.get("SCREENSHOTS") == "1":
            page.wait_for_timeout(1_500)
            page.screenshot(path=IMAGES / f"grafana-{name}.png")

    return take
