//! What the page of metrics costs when it is full: `cargo bench … -- page`.
use opentelemetry::KeyValue;
use signalbox_telemetry::metrics::Histogram;

use crate::{processor_time, server};

/// Series of the histogram, and a value for each of its buckets: 20,010 exemplars.
const SERIES: i64 = 1334;
const VALUES: [f64; 15] = [
    0.001, 0.007, 0.02, 0.03, 0.06, 0.08, 0.2, 0.3, 0.6, 0.8, 2.0, 3.0, 6.0, 8.0, 20.0,
];
/// Times that the page is read.
const READ: u64 = 20;

/// Fills a histogram, reads the page, and prints what that took.
pub fn run() {
    let guard = server::init();
    let meter = opentelemetry::global::meter("overhead");
    let histogram = Histogram::new(&meter, "bench.step.duration", "s", "Duration of a step.");
    tracing::info_span!("step").in_scope(|| {
        for series in 0..SERIES {
            let attributes = [KeyValue::new("bench.step", series)];
            for value in VALUES {
                histogram.record(value, &attributes);
            }
        }
    });
    let before = processor_time(std::process::id());
    let mut page = String::new();
    for _ in 0..READ {
        page = guard.pull().openmetrics().expect("the page");
    }
    let milliseconds = (processor_time(std::process::id()) - before) as f64 / 1e6 / READ as f64;
    let exemplars = page.matches(" # {trace_id").count();
    println!(
        "a page with {exemplars} exemplars and {} bytes takes {milliseconds:.1} ms of processor time",
        page.len()
    );
}
