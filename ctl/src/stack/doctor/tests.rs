//! The whole of it on what real programs said: `captured/` holds the lines that count, taken from the light stack while something was
//! stopped, a section for each part.

use super::hops::SAMPLING;
use super::*;
use crate::stack::exposition;

const OVER: Duration = Duration::from_secs(20);

/// One reading; `away` are the parts that were stopped.
fn answers(page: &str, away: &[&str]) -> Vec<Answer> {
    let sections = page.split("## ").filter(|section| !section.is_empty());
    let mut answers: Vec<Answer> = sections
        .filter_map(|section| section.split_once('\n'))
        .map(|(name, page)| Answer {
            name: name.to_owned(),
            trouble: None,
            series: exposition::parse(page),
        })
        .collect();
    answers.extend(away.iter().map(|name| Answer {
        name: (*name).to_owned(),
        trouble: Some("no answer in time".to_owned()),
        series: Vec::new(),
    }));
    answers
}

fn diagnose(before: &str, after: &str, away: &[&str]) -> Diagnosis {
    let (before, after) = (answers(before, away), answers(after, away));
    let flows = flows(&before, &after);
    let facts = Facts {
        flows: &flows,
        answers: &after,
    };
    diagnosis::of(facts, OVER)
}

fn row<'a>(flows: &'a [Flow], signal: &str, part: &str, of: &str) -> Option<&'a Flow> {
    let mut rows = flows.iter();
    rows.find(|flow| flow.hop.signal == signal && flow.part == part && flow.hop.of == of)
}

#[test]
fn a_stopped_store_is_told_with_what_waits_for_it() {
    let before = include_str!("captured/loki-stopped.before.txt");
    let after = include_str!("captured/loki-stopped.after.txt");
    let Diagnosis { notes, findings } = diagnose(before, after, &["loki"]);
    assert_eq!(
        findings,
        [
            "loki: not ready (no answer in time); Alloy keeps on disk what is meant for it. `docker compose ps`, `make logs-loki`",
            "alloy: logs stuck, 44 batches waiting at first, 86 now of at most 10000. Likely: loki is away; what waits goes on when it is back",
        ]
    );
    assert_eq!(notes, Vec::<String>::new());
}

#[test]
fn what_waits_is_laid_to_the_part_on_its_way_that_is_away() {
    let before = include_str!("captured/loki-stopped.before.txt");
    let after = include_str!("captured/loki-stopped.after.txt");
    for (away, told) in [
        ("alloy-tenants", "alloy-tenants is away"),
        ("nginx-push", "nginx-push is away"),
        ("tempo", "loki and nginx-push are ready"),
    ] {
        let findings = diagnose(before, after, &[away]).findings;
        assert!(findings[1].contains(told), "{away}: {}", findings[1]);
    }
}

#[test]
fn a_write_ahead_log_that_is_read_no_further_is_told() {
    // Twenty minutes after the disk had been full.
    let before = include_str!("captured/log-torn.before.txt");
    let after = include_str!("captured/log-torn.after.txt");
    let told = |part: &str, behind: u32| {
        format!(
            "{part}: metrics (samples) stuck, {behind} s behind what was written to its write-ahead log, and nothing is sent. Likely: the \
             disk was full, and the log is read no further. `docker compose restart {part}`"
        )
    };
    let (alloy, tempo) = (told("alloy", 1315), told("tempo", 1325));
    let findings = |before: &str, after: &str| diagnose(before, after, &[]).findings;
    assert_eq!(findings(before, after), [alloy, tempo.clone()]);

    // Alloy's queue: 60 s are no delay worth telling; one that has just begun has sent nothing; one that goes on is not stuck.
    let since = |sent: &str| {
        let with = |page: &str| page.replace("1.795751779e+09", sent);
        findings(&with(before), &with(after))
    };
    assert_eq!(since("1.795753034e+09"), [tempo.as_str()]);
    assert_eq!(since("1.795753033e+09"), [told("alloy", 61), tempo.clone()]);
    assert_eq!(since("0"), [tempo.as_str()]);
    let goes_on = after.replace("1.795751779e+09", "1.795751799e+09");
    assert_eq!(findings(before, &goes_on), [tempo.as_str()]);
    let sent = after.replace("1.041308e+06", "1.041309e+06");
    assert_eq!(findings(before, &sent), [tempo]);
}

#[test]
fn what_was_lost_before_the_readings_is_history() {
    let before = include_str!("captured/healthy.before.txt");
    let after = include_str!("captured/healthy.after.txt");
    assert_eq!(diagnose(before, after, &[]), Diagnosis::default());
    let (before, after) = (answers(before, &[]), answers(after, &[]));
    let flows = flows(&before, &after);
    let lost = row(&flows, "metrics", "mimir", "").map(|flow| flow::all(&flow.lost));
    let (total, new) = (134.0, 0.0);
    assert_eq!(lost, Some(flow::Count { total, new }));
}

#[test]
fn every_counter_of_what_passes_was_seen_on_the_real_program() {
    let mut seen = exposition::parse(include_str!("captured/healthy.after.txt"));
    // systems/sampling, after 10,000 traces.
    seen.extend(exposition::parse(include_str!("captured/sampling.txt")));
    // Only systems/containers reads logs.
    let hops = HOPS.iter().filter(|hop| hop.of != "read");
    for hop in hops {
        let queue = hop.queue.map(|(size, _)| size);
        for counter in hop.accepted.iter().chain(hop.sent).chain(queue.as_ref()) {
            assert!(
                seen.iter().any(|series| counter.takes(series)),
                "{counter:?}"
            );
        }
    }
}

#[test]
fn every_hop_is_counted_by_its_own_program() {
    let before = answers(include_str!("captured/loki-stopped.before.txt"), &[]);
    let after = answers(include_str!("captured/loki-stopped.after.txt"), &[]);
    let flows = flows(&before, &after);
    let counts = |signal, part, of| {
        let flow = row(&flows, signal, part, of);
        flow.map(|flow| {
            (
                flow.accepted.map(|count| count.total),
                flow.sent.map(|count| count.new),
            )
        })
    };
    let alloy_accepted = (Some(2312.0), Some(0.0));
    assert_eq!(counts("logs", "alloy", ""), Some(alloy_accepted));
    assert_eq!(
        counts("traces", "alloy", ""),
        Some((Some(3840.0), Some(750.0)))
    );
    assert_eq!(counts("traces", "tempo", ""), Some((Some(4179.0), None)));
    assert_eq!(counts("metrics", "mimir", ""), Some((Some(63_493.0), None)));
    assert_eq!(
        counts("profiles", "pyroscope", ""),
        Some((Some(46.0), None))
    );
    assert!(row(&flows, "metrics", "alloy", "samples").is_some());
    assert!(row(&flows, "metrics", "mimir", "samples").is_none());
    assert!(row(&flows, "logs", "loki", "").is_none());
}

#[test]
fn a_stopped_collector_is_told_once_for_all_signals_of_a_service() {
    let before = include_str!("captured/alloy-stopped.before.txt");
    let after = include_str!("captured/alloy-stopped.after.txt");
    let expected = "signalbox-api: 297 logs, 528 metrics, 563 traces, 6 profiles lost in 20 s (connection_error). \
                    Likely: alloy is away. `make logs-signalbox-api`";
    assert_eq!(
        diagnose(before, after, &["alloy"]).findings[1..],
        [expected]
    );
    // The same numbers in both readings: it is over.
    assert_eq!(diagnose(after, after, &[]).findings, Vec::<String>::new());
}

#[test]
fn a_store_tells_why_it_discards_and_its_replicas_are_one() {
    // Mimir, when OTLP's nanoseconds were not yet cut to milliseconds.
    let reading = |discarded, received| {
        let replica = |name| {
            format!(
                "## {name}\ncortex_discarded_samples_total{{group=\"\",reason=\"sample_duplicate_timestamp\",user=\"anonymous\"}} {discarded}\n\
                 cortex_distributor_received_samples_total{{user=\"anonymous\"}} {received}\n"
            )
        };
        replica("mimir-1") + &replica("mimir-2")
    };
    let findings = diagnose(&reading(24, 42_543), &reading(62, 151_863), &[]).findings;
    assert_eq!(
        findings,
        [
            "mimir: 76 metrics lost in 20 s (sample_duplicate_timestamp). Likely: two samples of one series at one moment: two senders \
             share all labels, or points lie within a millisecond. `make logs-mimir-1`"
        ]
    );
}

#[test]
fn what_is_refused_for_good_is_explained_by_the_store() {
    let reading = |failed, discarded| {
        format!(
            "## alloy\notelcol_exporter_sent_metric_points_total 5\n\
             otelcol_exporter_send_failed_metric_points_total{{error_permanent=\"true\",error_type=\"InvalidArgument\"}} {failed}\n\
             ## mimir-1\ncortex_distributor_received_samples_total 7\ncortex_discarded_samples_total{{reason=\"rate_limited\"}} {discarded}\n"
        )
    };
    let findings = diagnose(&reading(0, 0), &reading(3, 8), &[]).findings;
    assert_eq!(
        findings,
        [
            "alloy: 3 metrics lost in 20 s (InvalidArgument, true). Likely: mimir turns it away (rate_limited). `make logs-alloy`",
            "mimir: 8 metrics lost in 20 s (rate_limited). Likely: more arrives than the rate limit in mimir/mimir.yaml allows. `make logs-mimir-1`",
        ]
    );
}

#[test]
fn traces_that_sampling_drops_are_lost_only_if_it_could_not_decide() {
    let reading = |seen, dropped, too_early| {
        format!(
            "## alloy\notelcol_receiver_accepted_spans_total {}\notelcol_exporter_sent_spans_total {}\n\
             otelcol_processor_tail_sampling_new_trace_id_received_total {seen}\n\
             otelcol_processor_tail_sampling_global_count_traces_sampled_total{{decision=\"sampled\"}} {}\n\
             otelcol_processor_tail_sampling_global_count_traces_sampled_total{{decision=\"not_sampled\"}} {dropped}\n\
             otelcol_processor_tail_sampling_sampling_trace_dropped_too_early_total {too_early}\n\
             ## tempo\ntempo_distributor_spans_received_total {}\n",
            3 * seen,
            3 * (seen - dropped),
            seen - dropped,
            3 * (seen - dropped)
        )
    };
    let (before, after) = (reading(10, 9, 0), reading(110, 99, 0));
    assert_eq!(
        diagnose(&before, &after, &[]).findings,
        Vec::<String>::new()
    );
    let (before, after) = (answers(&before, &[]), answers(&after, &[]));
    let flows = flows(&before, &after);
    let kept = row(&flows, "traces", "alloy", SAMPLING).and_then(|flow| flow.sent);
    assert_eq!(kept.map(|count| count.new), Some(10.0));

    let findings = diagnose(&reading(10, 9, 0), &reading(110, 99, 4), &[]).findings;
    assert_eq!(
        findings,
        [
            "alloy: 4 traces (tail sampling) lost in 20 s. Likely: more traces begin before the first is decided than num_traces in \
             alloy/modules/traces-sampled.alloy holds. `make logs-alloy`"
        ]
    );
}

#[test]
fn what_one_hop_sends_and_the_next_never_takes_is_named_between_them() {
    let reading = |exported, sent| {
        format!(
            "## signalbox-api\notel_sdk_exporter_span_exported_total {exported}\n\
             ## alloy\notelcol_receiver_accepted_spans_total 10\notelcol_exporter_sent_spans_total {sent}\n\
             ## tempo\ntempo_distributor_spans_received_total 10\n"
        )
    };
    let gap = |before: &str, after: &str| diagnose(before, after, &[]).findings;
    let first = gap(&reading(10, 10), &reading(30, 10));
    assert!(first.len() == 1 && first[0].starts_with("between the service and alloy: traces"));
    let second = gap(&reading(10, 10), &reading(10, 30));
    assert!(second.len() == 1 && second[0].starts_with("between alloy and tempo: traces"));
}

#[test]
fn a_restart_between_the_readings_counts_from_nought_and_a_birth_counts_whole() {
    let page = |text: &str| format!("## signalbox-api\n{text}\n");
    let new = |before: &str, after: &str| -> Option<f64> {
        let (before, after) = (answers(&page(before), &[]), answers(&page(after), &[]));
        let flows = flows(&before, &after);
        row(&flows, "profiles", "signalbox-api", "")?
            .sent
            .map(|count| count.new)
    };
    let profiles = "signalbox_profile_exported_total";
    assert_eq!(
        new(&format!("{profiles} 90"), &format!("{profiles} 4")),
        Some(4.0)
    );
    assert_eq!(new("x 1", &format!("{profiles} 3")), Some(3.0));
    // It did not answer at first: nothing is known of what was added.
    assert_eq!(new("", &format!("{profiles} 3")), Some(0.0));
}

#[test]
fn silence_is_a_note_and_no_loss() {
    let still = "## signalbox-api\notel_sdk_exporter_log_exported_total 10\n";
    let Diagnosis { notes, findings } = diagnose(still, still, &[]);
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(
        notes[0],
        "no logs were sent meanwhile, so their way was not judged: `make test-load`, and ask again"
    );
    assert!(notes[1].starts_with("no service tells of metrics"));
}

#[test]
fn the_table_has_rate_and_total() {
    let before = "## signalbox-api\nsignalbox_profile_exported_total 32\nsignalbox_profile_exported_total{error_type=\"timeout\"} 0\n";
    let after = "## signalbox-api\nsignalbox_profile_exported_total 36\nsignalbox_profile_exported_total{error_type=\"timeout\"} 2\n";
    let shown = table::show(&flows(&answers(before, &[]), &answers(after, &[])), OVER);
    let line = shown.lines().last().unwrap_or_default();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        [
            "profiles",
            "signalbox-api",
            "-",
            "0.2",
            "36",
            "-",
            "0.1",
            "2",
            "-"
        ]
    );
}
