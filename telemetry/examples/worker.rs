//! A program without HTTP and with all its signals: a loop that takes jobs from a queue. Each job is a trace of its own,
//! linked to the one that asked for it. `cargo run --example worker -- 10` does ten jobs.
use std::collections::HashMap;
use std::error::Error;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global};
use signalbox_telemetry::metrics::Histogram;
use signalbox_telemetry::{Identity, Settings, context, init, profiles};

#[cfg(target_os = "linux")] // elsewhere the system's allocator, and no heap profiles
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A job and the context of whoever asked for it, as any queue can carry it.
struct Job {
    below: u32,
    headers: HashMap<String, String>,
}

fn count_primes(below: u32) -> usize {
    let is_prime = |n: &u32| {
        (2..*n)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    (2..below).filter(is_prime).count()
}

fn work(job: Job, duration: &Histogram) {
    let started = Instant::now();
    let span = context::new_trace(|| tracing::info_span!("process primes", otel.kind = "consumer"));
    context::link(&span, &job.headers);
    let _entered = span.enter();
    let (count, _) = profiles::span_scope("primes", || count_primes(job.below));
    tracing::info!(example.count = count, "primes counted");
    let attributes = [KeyValue::new("example.job.kind", "primes")];
    duration.record(started.elapsed().as_secs_f64(), &attributes);
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_env(Identity {
        service_name: "worker-example",
        service_namespace: "examples",
        service_version: env!("CARGO_PKG_VERSION"),
        metric_prefix: "example",
        request_id_attribute: "request.id",
    })?;
    let guard = init(&settings)?;
    let meter = global::meter("worker-example");
    let duration = Histogram::new(&meter, "example.job.duration", "s", "Duration of jobs.");
    let jobs: u32 = std::env::args()
        .nth(1)
        .map_or(Ok(10), |jobs| jobs.parse())?;
    let (queue, waiting) = mpsc::channel();
    for job in 1..=jobs {
        let span = tracing::info_span!("send primes", otel.kind = "producer");
        let headers = span.in_scope(context::inject);
        let below = job * 10_000;
        queue.send(Job { below, headers })?;
    }
    drop(queue); // no more will come
    waiting.into_iter().for_each(|job| work(job, &duration));
    guard.shutdown(Duration::from_secs(3))?;
    Ok(())
}
