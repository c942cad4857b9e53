"""A service of another language, of any namespace or none, on the viewer: every signal arrives, and what each link needs is in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import eventually, fetch

SHOP = Path(__file__).with_name("shop.py")


def attributes(holder):
    return {attribute["key"]: next(iter(attribute["value"].values())) for attribute in holder.get("attributes", [])}


@pytest.fixture(scope="module", params=["acme", None], ids=["of a namespace", "of none"])
def shop(request, demo):
    """The viewer, the service's name, its namespace, and the trace id of its last purchase."""
    name = f"shop-{request.param or 'alone'}"
    resource = "service.instance.id=one" + (f",service.namespace={request.param}" if request.param else "")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_SERVICE_NAME": name,
        "OTEL_RESOURCE_ATTRIBUTES": resource,
        "OTEL_EXPORTER_OTLP_ENDPOINT": demo.viewer,
        "NO_PROXY": "127.0.0.1",
    }
    said = subprocess.run([sys.executable, SHOP], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert said.stderr == ""
    return demo.viewer, name, request.param, said.stdout.strip()


def ask(url):
    return eventually(lambda: (body := fetch(url)) and json.loads(body))


def test_its_trace_has_both_spans_and_its_name(shop):
    viewer, name, namespace, trace_id = shop
    (of,) = ask(f"{viewer}/api/traces/{trace_id}")["resourceSpans"]
    resource = attributes(of["resource"])
    assert (resource["service.name"], resource.get("service.namespace")) == (name, namespace)
    spans = {span["name"]: span for scope in of["scopeSpans"] for span in scope["spans"]}
    assert set(spans) == {"POST /purchases/{sku}", "INSERT purchases"}
    assert spans["INSERT purchases"]["parentSpanId"] == spans["POST /purchases/{sku}"]["spanId"]
    assert attributes(spans["POST /purchases/{sku}"])["http.route"] == "/purchases/{sku}"


def test_its_records_lead_to_the_trace_and_are_found_from_it(shop):
    viewer, name, _, trace_id = shop
    of = ask(f"{viewer}/api/logs?trace_id={trace_id}")["resourceLogs"]
    records = [(attributes(each["resource"])["service.name"], record) for each in of for scope in each["scopeLogs"] for record in scope["logRecords"]]
    ((service, record),) = records
    assert (service, record["traceId"], record["body"]["stringValue"]) == (name, trace_id, "sold")
    assert attributes(record)["request_id"] == "order-9"


def test_its_metric_counts_and_names_a_trace(shop):
    viewer, name, _, trace_id = shop
    (of,) = ask(f"{viewer}/api/metrics?name=http.server.request.duration&service={name}")["resourceMetrics"]
    (metric,) = [metric for scope in of["scopeMetrics"] for metric in scope["metrics"]]
    (point,) = metric["histogram"]["dataPoints"]
    assert (int(point["count"]), attributes(point)["http.route"]) == (10, "/purchases/{sku}")
    exemplars = {exemplar["traceId"] for exemplar in point["exemplars"]}
    assert trace_id in exemplars


def test_the_viewer_lists_it(shop):
    viewer, name, _, trace_id = shop
    for page in ("traces", "logs", "metrics", "services"):
        assert name.encode() in fetch(f"{viewer}/{page}"), page
    assert b"POST /purchases/{sku}" in fetch(f"{viewer}/traces/{trace_id}")
