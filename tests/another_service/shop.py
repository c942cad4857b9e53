"""A program that has nothing to do with this project: OpenTelemetry's own SDK for Python, set by the variables of the specification.

`python shop.py` serves ten purchases, each a server span around a call of a database, with a log record and a measured duration, and
says the trace id of the last one; `python shop.py 60` goes on for that many seconds. docs/your-service.md tells what to set; every link of the stack but
those to profiles works from what this sends.
"""

import logging
import sys
import time

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

ROUTE = "/purchases/{sku}"
SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

traces, meters, records = TracerProvider(), MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]), LoggerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
records.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
trace.set_tracer_provider(traces)
metrics.set_meter_provider(meters)
set_logger_provider(records)
logging.getLogger().addHandler(LoggingHandler(logger_provider=records))
logging.getLogger("shop").setLevel(logging.INFO)

tracer, log = trace.get_tracer("shop"), logging.getLogger("shop")
duration = metrics.get_meter("shop").create_histogram("http.server.request.duration", "s", explicit_bucket_boundaries_advisory=SECONDS)


def purchase(number: int) -> str:
    started = time.monotonic()
    attributes = {"http.request.method": "POST", "http.route": ROUTE, "http.response.status_code": 201}
    with tracer.start_as_current_span(f"POST {ROUTE}", kind=SpanKind.SERVER, attributes=attributes) as span:
        with tracer.start_as_current_span("INSERT purchases", kind=SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}):
            time.sleep(0.001)
        log.info("sold", extra={"request_id": f"order-{number}"})
        duration.record(time.monotonic() - started, attributes)
        return format(span.get_span_context().trace_id, "032x")


until = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 0)
number = 0
while number < 10 or time.monotonic() < until:
    last = purchase(number)
    number += 1
    if number >= 10:
        time.sleep(0.2)
for provider in (traces, records, meters):
    provider.shutdown()
print(last)
