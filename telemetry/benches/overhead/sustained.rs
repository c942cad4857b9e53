//! Requests at a rate, and what of their telemetry arrives: `cargo bench … -- sustained rate=10000 seconds=600`. With
//! `away=20..40` the collector says 503 between these seconds; `collector=Hangs`, `Slow` or `Refuses` never takes anything.
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::collector::{Collector, Manner};
use crate::load::{load, paced};
use crate::resident;
use crate::server::{Running, Served, own_program};

/// Seconds of the bare handler's run, whose times stand beside.
const BARE_SECONDS: u64 = 10;
const WARM_UP: usize = 2_000;

/// Reads what was asked for, and prints what came of it.
pub fn run(arguments: &[String]) {
    let value = |name: &str| {
        let mut values = arguments.iter().filter_map(|text| text.split_once('='));
        values
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let number = |name: &str, default: u64| {
        value(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (rate, seconds) = (number("rate", 10_000), number("seconds", 60));
    let away = value("away").map(|text| {
        let (from, to) = text.split_once("..").expect("away=FROM..TO");
        [from, to].map(|second| Duration::from_secs(second.parse().expect("seconds")))
    });
    let manners = [Manner::Takes, Manner::Hangs, Manner::Slow, Manner::Refuses];
    let manner = value("collector").map_or(Manner::Takes, |name| {
        let named = |manner: &Manner| format!("{manner:?}") == name;
        manners.into_iter().find(named).expect("a collector")
    });
    for served in [Served::Bare, Served::Wrapped] {
        let bare = served == Served::Bare;
        let time = if bare {
            BARE_SECONDS.min(seconds)
        } else {
            seconds
        };
        let (collector, port) = Collector::start(manner);
        let vars: &[_] = if bare {
            &[("OTEL_SDK_DISABLED", "true")]
        } else {
            &[]
        };
        let server = Running::start(own_program(), served, vars, port);
        load(server.port, WARM_UP);
        let memory = resident(server.id());
        let ended = AtomicBool::new(false);
        let (took, samples) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let start = Instant::now();
                let mut samples = vec![(0.0, memory)];
                while !ended.load(Relaxed) {
                    let now = start.elapsed();
                    let is_away = |[from, to]: [Duration; 2]| from <= now && now < to;
                    collector.away.store(away.is_some_and(is_away), Relaxed);
                    samples.push((now.as_secs_f64(), resident(server.id())));
                    std::thread::sleep(Duration::from_millis(200));
                }
                collector.away.store(false, Relaxed);
                samples
            });
            let took = paced(server.port, rate, Duration::from_secs(time));
            ended.store(true, Relaxed);
            (took, watch.join().expect("watches"))
        });
        let after = resident(server.id());
        let most = samples
            .iter()
            .map(|(_, memory)| *memory)
            .fold(after, f64::max);
        let said = server.end();
        let p = |share: usize| took[(took.len() - 1) * share / 1000].as_secs_f64() * 1e3;
        println!(
            "{served:?}: {} requests at {rate}/s: p50 {:.2} ms, p99 {:.2} ms, longest {:.0} ms; resident {memory:.1} MB \
             after {WARM_UP} requests, {most:.1} at most, {after:.1} at the end, {:+.2} a minute in the last two thirds",
            took.len(),
            p(500),
            p(990),
            p(1000),
            slope(&samples[samples.len() / 3..]),
        );
        if !bare {
            let sent = (took.len() + WARM_UP) as u64;
            let counts = [&collector.spans, &collector.records, &collector.requests];
            let [spans, records, requests] = counts.map(|count| count.load(Relaxed));
            println!(
                "arrived of {sent}: {spans} spans, {records} records, {requests} requests by the metrics; lost {}, {} and {}",
                sent as i64 - spans as i64,
                sent as i64 - records as i64,
                sent as i64 - requests as i64,
            );
            if !said.trim().is_empty() {
                println!("the server said:\n{said}");
            }
        }
    }
}

/// MB a minute, by least squares, of seconds and MB.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let time = samples.iter().map(|(time, _)| time).sum::<f64>() / count;
    let memory = samples.iter().map(|(_, memory)| memory).sum::<f64>() / count;
    let products = samples.iter().map(|(t, m)| (t - time) * (m - memory));
    let squares = samples.iter().map(|(t, _)| (t - time).powi(2));
    products.sum::<f64>() / squares.sum::<f64>() * 60.0
}
