//! What passed a hop between two readings, made of the counters that the hop's program keeps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::exposition::Series;
use super::hops::{Counter, Hop};

/// How often something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    /// Since the program started.
    pub total: f64,
    /// Between the readings.
    pub new: f64,
}

/// Counts by reason; a reason is empty where the program tells none.
pub type Reasons = BTreeMap<String, Count>;

/// Items that wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Queue {
    pub before: f64,
    pub now: f64,
    /// How many may wait; infinite where there is no bound.
    pub capacity: f64,
}

/// One signal at one hop.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    pub hop: &'static Hop,
    /// The part of the stack, replicas together.
    pub part: String,
    /// None: the program does not count it.
    pub accepted: Option<Count>,
    pub sent: Option<Count>,
    pub refused: Reasons,
    pub lost: Reasons,
    pub queue: Option<Queue>,
    /// Seconds that a queue which sent nothing between the readings is behind its write-ahead log: the most of all queues.
    pub behind: Option<f64>,
}

/// The two readings of one part.
pub struct Pages<'a> {
    pub before: &'a [Series],
    pub after: &'a [Series],
}

impl Flow {
    /// None if the part counts nothing of this hop: then it is not such a hop.
    pub fn read(hop: &'static Hop, part: &str, pages: &[Pages<'_>]) -> Option<Self> {
        let flow = Self {
            hop,
            part: part.to_owned(),
            accepted: sum(hop.accepted, pages),
            sent: sum(hop.sent, pages),
            refused: reasons(hop.refused, pages),
            lost: reasons(hop.lost, pages),
            queue: hop.queue.and_then(|(size, capacity)| {
                let sum = |values: Vec<f64>| values.into_iter().reduce(|sum, value| sum + value);
                let now = sum(gauge(size, pages, |page| page.after))?;
                let before = sum(gauge(size, pages, |page| page.before)).unwrap_or(now);
                // An exporter has a queue for each signal, and uses one of them.
                let capacity = capacity.map(|name| gauge(name, pages, |page| page.after));
                let largest = capacity.and_then(|values| values.into_iter().reduce(f64::max));
                Some(Queue {
                    before,
                    now,
                    capacity: largest.unwrap_or(f64::INFINITY),
                })
            }),
            behind: hop
                .newest
                .and_then(|(written, sent)| behind(written, sent, pages)),
        };
        (flow.accepted.is_some() || flow.sent.is_some()).then_some(flow)
    }
}

/// Items a second.
pub fn rate(count: Count, between: Duration) -> f64 {
    count.new / between.as_secs_f64()
}

/// Over all reasons.
pub fn all(reasons: &Reasons) -> Count {
    reasons.values().fold(Count::default(), |sum, count| Count {
        total: sum.total + count.total,
        new: sum.new + count.new,
    })
}

/// None where none of them is counted.
pub fn sum(counters: &[Counter], pages: &[Pages<'_>]) -> Option<Count> {
    let counted = counters
        .iter()
        .flat_map(|counter| counts(counter, pages).map(|(_, count)| count));
    counted.reduce(|sum, count| Count {
        total: sum.total + count.total,
        new: sum.new + count.new,
    })
}

fn reasons(counters: &[Counter], pages: &[Pages<'_>]) -> Reasons {
    let mut reasons = Reasons::new();
    for (series, count) in counters.iter().flat_map(|counter| counts(counter, pages)) {
        let entry = reasons.entry(reason(series)).or_default();
        entry.total += count.total;
        entry.new += count.new;
    }
    reasons.retain(|_, count| count.total > 0.0);
    reasons
}

/// Why, as the programs call it.
fn reason(series: &Series) -> String {
    let labels = ["reason", "error_type", "error_permanent"];
    let found = labels.iter().map(|label| series.label(label));
    found
        .filter(|value| !value.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Each series of a counter, with what was added. A counter that is born counts whole, one that fell began anew.
fn counts<'a>(
    counter: &'a Counter,
    pages: &'a [Pages<'a>],
) -> impl Iterator<Item = (&'a Series, Count)> {
    pages.iter().flat_map(move |page| {
        page.after
            .iter()
            .filter(|series| counter.takes(series))
            .map(move |series| {
                let same = |old: &&Series| old.name == series.name && old.labels == series.labels;
                let before = page
                    .before
                    .iter()
                    .find(same)
                    .map_or(0.0, |series| series.value);
                let total = series.value;
                let new = if total < before {
                    total
                } else {
                    total - before
                };
                (series, Count { total, new })
            })
    })
}

fn behind(written: Counter, sent: Counter, pages: &[Pages<'_>]) -> Option<f64> {
    let of_page = |page: &Pages<'_>| {
        // The same in both readings; 0 before the first is sent.
        let stands =
            |queue: &&Series| sent.takes(queue) && queue.value > 0.0 && page.before.contains(queue);
        let of_queue = |queue: &Series| {
            let is_its = |log: &&Series| {
                written.takes(log) && log.labels.iter().all(|label| queue.labels.contains(label))
            };
            let log = page.after.iter().find(is_its)?;
            Some(log.value - queue.value)
        };
        let queues = page.after.iter().filter(stands);
        queues.filter_map(of_queue).reduce(f64::max)
    };
    pages.iter().filter_map(of_page).reduce(f64::max)
}

fn gauge<'a>(
    counter: Counter,
    pages: &'a [Pages<'a>],
    when: impl Fn(&'a Pages<'a>) -> &'a [Series],
) -> Vec<f64> {
    let series = pages.iter().flat_map(when);
    series
        .filter(|series| counter.takes(series))
        .map(|series| series.value)
        .collect()
}
