//! Which counters tell what passes each hop. A part is a hop of a signal if it has such a counter: nothing here knows who runs where.
//!
//! Names as Alloy 1.18, Loki 3.7, Mimir 3.0, Tempo 3.0 and Pyroscope 2.2 expose them; those of the service stand in telemetry-schema/.

use super::super::exposition::Series;

/// What a hop is, for the words about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Makes the signal.
    Service,
    /// Takes it, keeps it, sends it on.
    Collector,
    /// Sends samples of its own making by remote write.
    RemoteWrite,
    /// Keeps it.
    Store,
}

/// One signal at one kind of place.
#[derive(Debug, PartialEq)]
pub struct Hop {
    pub signal: &'static str,
    pub kind: Kind,
    /// What is counted, beside the part's name, where it is not the signal as it came.
    pub of: &'static str,
    pub accepted: &'static [Counter],
    pub sent: &'static [Counter],
    /// Turned away: whoever sent it knows, and may try again.
    pub refused: &'static [Counter],
    /// Gone.
    pub lost: &'static [Counter],
    /// Size and capacity.
    pub queue: Option<(Counter, Option<Counter>)>,
    /// When the newest was made that is in the write-ahead log, and the newest that was sent. A queue has the labels of its log,
    /// and more.
    pub newest: Option<(Counter, Counter)>,
}

/// A name, and which of its series count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counter(&'static str, Only);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Only {
    All,
    /// Without an error, or with a status of 2xx.
    Good,
    /// The others.
    Bad,
    /// Those of one signal.
    Of(&'static str),
    /// Those that tail sampling decided to keep.
    Kept,
}

impl Counter {
    pub fn takes(&self, series: &Series) -> bool {
        let Self(name, only) = self;
        let status = series.label("status_code");
        let bad = !series.label("error_type").is_empty()
            || !(status.is_empty() || status.starts_with('2'));
        series.name == *name
            && match only {
                Only::All => true,
                Only::Good => !bad,
                Only::Bad => bad,
                Only::Of(signal) => series.label("data_type") == *signal,
                Only::Kept => series.label("decision") == "sampled",
            }
    }
}

pub const fn all(name: &'static str) -> Counter {
    Counter(name, Only::All)
}

const fn good(name: &'static str) -> Counter {
    Counter(name, Only::Good)
}

pub const fn bad(name: &'static str) -> Counter {
    Counter(name, Only::Bad)
}

/// Nothing is counted.
const NOTHING: Hop = Hop {
    signal: "",
    kind: Kind::Store,
    of: "",
    accepted: &[],
    sent: &[],
    refused: &[],
    lost: &[],
    queue: None,
    newest: None,
};

/// What the hop of systems/sampling counts.
pub const SAMPLING: &str = "tail sampling";

/// In the order of the way.
pub const HOPS: [Hop; 15] = [
    Hop {
        signal: "logs",
        kind: Kind::Service,
        accepted: &[good("otel_sdk_processor_log_processed_total")],
        sent: &[good("otel_sdk_exporter_log_exported_total")],
        lost: &[
            bad("otel_sdk_processor_log_processed_total"),
            bad("otel_sdk_exporter_log_exported_total"),
        ],
        queue: Some((
            all("otel_sdk_processor_log_queue_size"),
            Some(all("otel_sdk_processor_log_queue_capacity")),
        )),
        ..NOTHING
    },
    Hop {
        signal: "logs",
        kind: Kind::Collector,
        accepted: &[all("otelcol_receiver_accepted_log_records_total")],
        sent: &[all("otelcol_exporter_sent_log_records_total")],
        refused: &[all("otelcol_receiver_refused_log_records_total")],
        lost: &[all("otelcol_exporter_send_failed_log_records_total")],
        queue: Some((
            Counter("otelcol_exporter_queue_size", Only::Of("logs")),
            Some(Counter("otelcol_exporter_queue_capacity", Only::Of("logs"))),
        )),
        ..NOTHING
    },
    Hop {
        signal: "logs",
        kind: Kind::Collector,
        of: "read",
        sent: &[all("loki_write_sent_entries_total")],
        lost: &[all("loki_write_dropped_entries_total")],
        ..NOTHING
    },
    Hop {
        signal: "logs",
        accepted: &[all("loki_distributor_lines_received_total")],
        lost: &[all("loki_discarded_samples_total")],
        ..NOTHING
    },
    Hop {
        signal: "metrics",
        kind: Kind::Service,
        sent: &[good("otel_sdk_exporter_metric_data_point_exported_total")],
        lost: &[bad("otel_sdk_exporter_metric_data_point_exported_total")],
        ..NOTHING
    },
    Hop {
        signal: "metrics",
        kind: Kind::Collector,
        accepted: &[all("otelcol_receiver_accepted_metric_points_total")],
        sent: &[all("otelcol_exporter_sent_metric_points_total")],
        refused: &[all("otelcol_receiver_refused_metric_points_total")],
        lost: &[all("otelcol_exporter_send_failed_metric_points_total")],
        queue: Some((
            Counter("otelcol_exporter_queue_size", Only::Of("metrics")),
            Some(Counter(
                "otelcol_exporter_queue_capacity",
                Only::Of("metrics"),
            )),
        )),
        ..NOTHING
    },
    Hop {
        signal: "metrics",
        kind: Kind::RemoteWrite,
        of: "samples",
        sent: &[
            all("prometheus_remote_storage_samples_total"),
            all("prometheus_remote_storage_histograms_total"),
        ],
        lost: &[
            all("prometheus_remote_storage_samples_failed_total"),
            all("prometheus_remote_storage_samples_dropped_total"),
            all("prometheus_remote_storage_histograms_failed_total"),
        ],
        queue: Some((all("prometheus_remote_storage_samples_pending"), None)),
        newest: Some((
            all("prometheus_remote_storage_highest_timestamp_in_seconds"),
            all("prometheus_remote_storage_queue_highest_sent_timestamp_seconds"),
        )),
        ..NOTHING
    },
    Hop {
        signal: "metrics",
        accepted: &[all("cortex_distributor_received_samples_total")],
        lost: &[all("cortex_discarded_samples_total")],
        ..NOTHING
    },
    Hop {
        signal: "traces",
        kind: Kind::Service,
        accepted: &[good("otel_sdk_processor_span_processed_total")],
        sent: &[good("otel_sdk_exporter_span_exported_total")],
        lost: &[
            bad("otel_sdk_processor_span_processed_total"),
            bad("otel_sdk_exporter_span_exported_total"),
        ],
        queue: Some((
            all("otel_sdk_processor_span_queue_size"),
            Some(all("otel_sdk_processor_span_queue_capacity")),
        )),
        ..NOTHING
    },
    Hop {
        signal: "traces",
        kind: Kind::Collector,
        accepted: &[all("otelcol_receiver_accepted_spans_total")],
        sent: &[all("otelcol_exporter_sent_spans_total")],
        refused: &[all("otelcol_receiver_refused_spans_total")],
        lost: &[all("otelcol_exporter_send_failed_spans_total")],
        queue: Some((
            Counter("otelcol_exporter_queue_size", Only::Of("traces")),
            Some(Counter(
                "otelcol_exporter_queue_capacity",
                Only::Of("traces"),
            )),
        )),
        ..NOTHING
    },
    // Traces, not spans. What is dropped by decision is not lost; what is dropped before its time came is.
    Hop {
        signal: "traces",
        kind: Kind::Collector,
        of: SAMPLING,
        accepted: &[all(
            "otelcol_processor_tail_sampling_new_trace_id_received_total",
        )],
        sent: &[Counter(
            "otelcol_processor_tail_sampling_global_count_traces_sampled_total",
            Only::Kept,
        )],
        lost: &[all(
            "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early_total",
        )],
        ..NOTHING
    },
    Hop {
        signal: "traces",
        accepted: &[all("tempo_distributor_spans_received_total")],
        refused: &[all("tempo_receiver_refused_spans")],
        lost: &[all("tempo_discarded_spans_total")],
        ..NOTHING
    },
    Hop {
        signal: "profiles",
        kind: Kind::Service,
        sent: &[good("signalbox_profile_exported_total")],
        lost: &[bad("signalbox_profile_exported_total")],
        ..NOTHING
    },
    Hop {
        signal: "profiles",
        kind: Kind::Collector,
        accepted: &[good(
            "pyroscope_receive_http_request_duration_seconds_count",
        )],
        sent: &[all("pyroscope_write_sent_profiles_total")],
        refused: &[bad("pyroscope_receive_http_request_duration_seconds_count")],
        lost: &[all("pyroscope_write_dropped_profiles_total")],
        ..NOTHING
    },
    Hop {
        signal: "profiles",
        accepted: &[all("pyroscope_distributor_received_samples_count")],
        lost: &[all("pyroscope_discarded_samples_total")],
        ..NOTHING
    },
];
