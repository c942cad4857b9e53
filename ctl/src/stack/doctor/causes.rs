//! The words: what a reason that a program counts is likely to come from.

use super::flow::Flow;
use super::hops::{Kind, SAMPLING};
use super::read::{Answer, program};

/// Which store keeps a signal.
pub const STORES: [(&str, &str); 4] = [
    ("logs", "loki"),
    ("metrics", "mimir"),
    ("traces", "tempo"),
    ("profiles", "pyroscope"),
];

/// All that was read: a cause at one hop may stand at another.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub flows: &'a [Flow],
    pub answers: &'a [Answer],
}

impl Facts<'_> {
    /// Whether a part, or a replica of it, is not ready.
    pub fn away(&self, part: &str) -> bool {
        let mut replicas = self
            .answers
            .iter()
            .filter(|answer| program(&answer.name) == part);
        replicas.any(|answer| answer.trouble.is_some())
    }

    /// Where a program's log is: that of its first replica, where it has several.
    pub fn logs(&self, part: &str) -> String {
        let mut names = self.answers.iter().map(|answer| answer.name.as_str());
        let name = names.find(|name| program(name) == part).unwrap_or(part);
        format!("`make logs-{name}`")
    }

    /// Why the store of a signal throws it away just now.
    pub fn turned_away(&self, signal: &str) -> Option<String> {
        let mut stores = self
            .flows
            .iter()
            .filter(|flow| flow.hop.signal == signal && flow.hop.kind == Kind::Store);
        stores.find_map(|store| {
            let (reason, _) = store.lost.iter().find(|(_, count)| count.new > 0.0)?;
            Some(format!("{} turns it away ({reason})", store.part))
        })
    }
}

pub fn store_of(signal: &str) -> &'static str {
    let found = STORES.iter().find(|(of, _)| *of == signal);
    found.map_or("the store", |(_, store)| store)
}

/// Why a hop lost something.
pub fn of_loss(flow: &Flow, reason: &str, facts: Facts<'_>) -> String {
    let signal = flow.hop.signal;
    match flow.hop.kind {
        Kind::Service if facts.away("alloy") => "alloy is away".to_owned(),
        Kind::Service => at_service(reason).to_owned(),
        Kind::Collector if flow.hop.of == SAMPLING => {
            "more traces begin before the first is decided than num_traces in alloy/modules/traces-sampled.alloy holds".to_owned()
        }
        Kind::Collector if signal == "profiles" => {
            "pyroscope or the way to it was away, and profiles are not kept".to_owned()
        }
        Kind::Collector | Kind::RemoteWrite => facts
            .turned_away(signal)
            .unwrap_or_else(|| format!("{} refused it for good", store_of(signal))),
        Kind::Store => at_store(reason, &flow.part),
    }
}

/// The closed set of telemetry/src/pipeline/health.rs.
fn at_service(reason: &str) -> &'static str {
    match reason {
        "queue_full" => {
            "more is made than is taken: Alloy is slow, or OTEL_BSP_MAX_QUEUE_SIZE and OTEL_BLRP_MAX_QUEUE_SIZE are small"
        }
        "connection_error" => {
            "nobody listens at OTEL_EXPORTER_OTLP_ENDPOINT or PYROSCOPE_SERVER_ADDRESS"
        }
        "timeout" => "Alloy does not answer in time: its memory and processor",
        "http_4xx" => "the receiver knows no such request: address and path of the exporter",
        "http_5xx" => "Alloy could not take it or hand it on: its own line in the table",
        "rejected" => "the receiver took the request and refused some of its items",
        _ => "the exporter failed",
    }
}

/// A piece of the reason that a store gives, and what it means. The first that fits.
const BY_REASON: [(&[&str], &str); 9] = [
    (
        &["rate", "max_ingestion"],
        "more arrives than the rate limit in {limits} allows",
    ),
    (
        &["duplicate_timestamp", "new-value-for-timestamp"],
        "two samples of one series at one moment: two senders share all labels, or points lie within a millisecond",
    ),
    (&["future"], "the sender's clock is ahead"),
    (
        &[
            "old",
            "behind",
            "out-of-order",
            "out_of_order",
            "past",
            "window",
            "max_sample_age",
        ],
        "it is older than the store takes: a replay after a long outage, or a clock that is behind",
    ),
    (
        &["live_traces"],
        "more traces are under way at once than max_traces_per_user of {limits} allows (10,000 unless it says otherwise)",
    ),
    (
        &["series_limit", "stream_limit", "max_series"],
        "more series or streams than {limits} allows: an attribute may have too many values",
    ),
    (
        &["too_long", "too_large", "size"],
        "an item is larger than {limits} allows",
    ),
    (
        &["label", "metadata", "too_many"],
        "labels or attributes are more, or other, than {limits} allows",
    ),
    (
        &["invalid", "malformed"],
        "the sender makes what the store cannot read",
    ),
];

fn at_store(reason: &str, store: &str) -> String {
    let limits = format!("{store}/{store}.yaml");
    let fits = |words: &&[&str]| words.iter().any(|word| reason.contains(word));
    let found = BY_REASON.iter().find(|(words, _)| fits(words));
    found.map_or_else(
        || format!("a limit in {limits}"),
        |(_, cause)| cause.replace("{limits}", &limits),
    )
}

/// What becomes of the telemetry while a part is away.
pub fn meanwhile(part: &str) -> &'static str {
    match part {
        "alloy" => "the services drop what they cannot send",
        "nginx-push" => "Alloy keeps logs, metrics and traces on disk; profiles are lost",
        "loki" | "tempo" => "Alloy keeps on disk what is meant for it",
        "mimir" => "the others take its share; with two of three away Alloy keeps metrics on disk",
        "pyroscope" => "profiles are not kept anywhere: they are lost",
        "minio" => "the stores keep what is new themselves",
        _ => "what it would add is missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_was_met_has_its_own_words() {
        for (reason, expected) in [
            ("rate_limited", "rate limit in mimir/mimir.yaml"),
            ("per_stream_rate_limit", "rate limit"),
            ("sample_duplicate_timestamp", "at one moment"),
            ("sample-too-old", "older than the store takes"),
            ("greater_than_max_sample_age", "older than the store takes"),
            ("too_far_in_future", "clock is ahead"),
            ("per_user_series_limit", "more series"),
            ("live_traces_exceeded", "more traces are under way"),
            ("line_too_long", "larger than"),
            ("structured_metadata_too_large", "larger than"),
            ("structured_metadata_too_many", "labels or attributes"),
            ("invalid_labels", "labels or attributes"),
            ("something_new", "a limit in mimir/mimir.yaml"),
        ] {
            let cause = at_store(reason, "mimir");
            assert!(cause.contains(expected), "{reason}: {cause}");
        }
    }
}
