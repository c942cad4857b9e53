//! Plain sentences about what the counters say: where something is lost or stuck, the likely cause, and what to look at.

use std::time::Duration;

use super::causes::{self, Facts, STORES, store_of};
use super::flow::{Flow, Queue, all};
use super::hops::Kind;
use super::read::{Answer, program};

#[derive(Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// Worth knowing, and no loss.
    pub notes: Vec<String>,
    /// One for each place where something is lost or stuck.
    pub findings: Vec<String>,
}

pub fn of(facts: Facts<'_>, over: Duration) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    let Diagnosis { notes, findings } = &mut diagnosis;
    findings.extend(facts.answers.iter().filter_map(down));
    findings.extend(taken_away(facts, over));
    for flow in facts.flows {
        match flow.queue.map(|queue| state(flow, queue)) {
            Some(State::Stuck) => findings.push(stuck(flow, facts)),
            Some(State::Unread(behind)) => findings.push(unread(flow, behind)),
            Some(State::Drains) => notes.push(format!(
                "{}: {} is being sent after a delay, {}",
                flow.part,
                what(flow),
                waiting(flow)
            )),
            Some(State::Passes) | None => {}
        }
    }
    for (signal, store) in STORES {
        let of_signal = facts.flows.iter().filter(|flow| flow.hop.signal == signal);
        let of_signal: Vec<&Flow> = of_signal.collect();
        findings.extend(gaps(&of_signal, signal, store, facts));
        notes.extend(silence(&of_signal, signal));
    }
    diagnosis
}

/// `metrics (samples)`.
fn what(flow: &Flow) -> String {
    match flow.hop.of {
        "" => flow.hop.signal.to_owned(),
        of => format!("{} ({of})", flow.hop.signal),
    }
}

fn down(answer: &Answer) -> Option<String> {
    let reason = answer.trouble.as_ref()?;
    let name = &answer.name;
    Some(format!(
        "{name}: not ready ({reason}); {}. `docker compose ps`, `make logs-{name}`",
        causes::meanwhile(program(name))
    ))
}

// ── what is lost or refused ──

/// What items of one or more signals had in common that went no further.
#[derive(PartialEq)]
struct End {
    part: String,
    fate: &'static str,
    reason: String,
    cause: String,
}

fn taken_away(facts: Facts<'_>, over: Duration) -> Vec<String> {
    let mut ends: Vec<(End, Vec<String>)> = Vec::new();
    for flow in facts.flows {
        let refused = flow.refused.iter().map(|refused| ("refused", refused));
        let lost = flow.lost.iter().map(|lost| ("lost", lost));
        for (fate, (reason, count)) in refused
            .chain(lost)
            .filter(|(_, (_, count))| count.new > 0.0)
        {
            let cause = match fate {
                "refused" => {
                    "it takes no more: its memory limiter, a full queue, or what is behind it"
                        .to_owned()
                }
                _ => causes::of_loss(flow, reason, facts),
            };
            let end = End {
                part: flow.part.clone(),
                fate,
                reason: reason.clone(),
                cause,
            };
            let items = format!("{} {}", count.new, what(flow));
            match ends.iter_mut().find(|(known, _)| *known == end) {
                Some((_, all)) => all.push(items),
                None => ends.push((end, vec![items])),
            }
        }
    }
    let sentence = |(end, items): (End, Vec<String>)| {
        let why = match end.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        format!(
            "{}: {} {} in {} s{why}. Likely: {}. {}",
            end.part,
            items.join(", "),
            end.fate,
            over.as_secs(),
            end.cause,
            facts.logs(&end.part)
        )
    };
    ends.into_iter().map(sentence).collect()
}

// ── what waits ──

#[derive(Debug, PartialEq)]
enum State {
    Passes,
    /// Waits, and nothing or too little leaves.
    Stuck,
    /// Nothing waits and nothing leaves, though the write-ahead log is this many seconds ahead.
    Unread(f64),
    /// Waits, and becomes less.
    Drains,
}

fn state(flow: &Flow, queue: Queue) -> State {
    let Queue {
        before,
        now,
        capacity,
    } = queue;
    let nothing_sent = flow.sent.is_none_or(|count| count.new == 0.0);
    match flow.hop.kind {
        // It is emptied once a second or so and holds that second's; what it cannot send is told as lost.
        Kind::Service if now > capacity / 2.0 && now >= before => State::Stuck,
        Kind::Service => State::Passes,
        _ if before > 0.0 && now > 0.0 && nothing_sent => State::Stuck,
        _ if now == 0.0
            && nothing_sent
            && let Some(behind) = flow.behind
            && behind > 60.0 =>
        {
            State::Unread(behind)
        }
        _ if now > capacity / 50.0 && now >= before => State::Stuck,
        _ if before > capacity / 50.0 => State::Drains,
        _ => State::Passes,
    }
}

fn waiting(flow: &Flow) -> String {
    let Some(Queue {
        before,
        now,
        capacity,
    }) = flow.queue
    else {
        return String::new();
    };
    let items = match flow.hop.kind {
        Kind::Collector => "batches",
        _ => "items",
    };
    let room = match capacity {
        capacity if capacity.is_finite() => format!(" of at most {capacity}"),
        _ => String::new(),
    };
    format!("{before} {items} waiting at first, {now} now{room}")
}

fn stuck(flow: &Flow, facts: Facts<'_>) -> String {
    let store = store_of(flow.hop.signal);
    let logs = facts.logs(store);
    // systems/tenants puts another Alloy on the way of two signals.
    let tenants = matches!(flow.hop.signal, "logs" | "metrics").then_some("alloy-tenants");
    let mut way = tenants.into_iter().chain(["nginx-push", store]);
    let away = way.find(|part| facts.away(part));
    let cause = match (flow.hop.kind, away) {
        (Kind::Service, _) => "Alloy takes it too slowly. `make logs-alloy`".to_owned(),
        (_, Some(part)) => format!("{part} is away; what waits goes on when it is back"),
        (_, None) => facts.turned_away(flow.hop.signal).map_or_else(
            || format!("{store} and nginx-push are ready, but this does not get through. `make logs-nginx-push`, {logs}"),
            |why| format!("{why}. {logs}"),
        ),
    };
    format!(
        "{}: {} stuck, {}. Likely: {cause}",
        flow.part,
        what(flow),
        waiting(flow)
    )
}

fn unread(flow: &Flow, behind: f64) -> String {
    format!(
        "{part}: {} stuck, {behind:.0} s behind what was written to its write-ahead log, and nothing is sent. Likely: the disk was full, and \
         the log is read no further. `docker compose restart {part}`",
        what(flow),
        part = flow.part
    )
}

// ── what leaves one hop and does not come to the next ──

fn gaps(flows: &[&Flow], signal: &str, store: &str, facts: Facts<'_>) -> Vec<String> {
    let of = |kind: Kind| flows.iter().filter(move |flow| flow.hop.kind == kind);
    let sends = |kind: Kind| {
        of(kind)
            .filter_map(|flow| flow.sent)
            .any(|count| count.new > 0.0)
    };
    let takes_none = |kind: Kind| {
        let mut accepted = of(kind).filter_map(|flow| flow.accepted).peekable();
        accepted.peek().is_some() && accepted.all(|count| count.new == 0.0)
    };
    let mut gaps = Vec::new();
    // systems/collector puts another one in Alloy's place, which keeps its counters to itself.
    let other_way = facts
        .answers
        .iter()
        .any(|answer| answer.name == "otel-collector");
    if sends(Kind::Service) && takes_none(Kind::Collector) && !other_way {
        gaps.push(format!(
            "between the service and alloy: {signal} are sent, and none arrive. Likely: the exporter's address leads elsewhere \
             (OTEL_EXPORTER_OTLP_ENDPOINT, PYROSCOPE_SERVER_ADDRESS)"
        ));
    }
    if sends(Kind::Collector) && takes_none(Kind::Store) {
        gaps.push(format!(
            "between alloy and {store}: {signal} are sent, and none arrive. Likely: nginx/push.conf or alloy/config.alloy lead elsewhere"
        ));
    }
    gaps
}

/// Where nothing passes, nothing can be judged.
fn silence(flows: &[&Flow], signal: &str) -> Option<String> {
    let mut made = flows
        .iter()
        .filter(|flow| flow.hop.kind == Kind::Service)
        .peekable();
    if made.peek().is_none() {
        return Some(format!(
            "no service tells of {signal}: none is up, or the signal is switched off"
        ));
    }
    let quiet = made
        .all(|flow| flow.sent.is_none_or(|count| count.new == 0.0) && all(&flow.lost).new == 0.0);
    quiet.then(|| {
        format!("no {signal} were sent meanwhile, so their way was not judged: `make test-load`, and ask again")
    })
}
