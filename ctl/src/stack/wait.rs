//! Waits until everything that `watch` asks is ready, then prints where each part is and how long it took.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::watch::{self, Round, Seen};
use crate::duration;
use crate::output::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Give up after this long
    #[arg(long, default_value = "300s", value_parser = duration::parse, value_name = "DURATION")]
    deadline: Duration,
}

/// Err names what is not ready, and why.
pub async fn run(args: Args) -> Result<(), String> {
    let end = Instant::now() + args.deadline;
    let asked_ms = watch::now_ms();
    loop {
        match ready(read(), asked_ms) {
            Ok(parts) => {
                say!("{}", table(&parts));
                return Ok(());
            }
            Err(reasons) if Instant::now() >= end => {
                return Err(format!(
                    "not ready after {}: {reasons}",
                    duration::show(args.deadline)
                ));
            }
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}

/// None until the watch has written for the first time.
fn read() -> Option<Round> {
    let notes = std::fs::read(watch::notes()).ok()?;
    serde_json::from_slice(&notes).ok()
}

/// The parts, if all are ready. A round that was begun before `asked_ms` proves nothing: it may have met the container that has just
/// been replaced.
fn ready(round: Option<Round>, asked_ms: u64) -> Result<Vec<Seen>, String> {
    let round = round
        .filter(|round| round.begun_ms >= asked_ms)
        .ok_or("the watch has not asked again: `make logs-probe`")?;
    let reasons: Vec<String> = round
        .parts
        .iter()
        .filter_map(|part| Some(format!("{}: {}", part.name, part.trouble.as_ref()?)))
        .collect();
    if reasons.is_empty() {
        return Ok(round.parts);
    }
    Err(reasons.join("; "))
}

/// In the order in which the parts became ready.
fn table(seen: &[Seen]) -> String {
    let mut sorted: Vec<&Seen> = seen.iter().collect();
    sorted.sort_by_key(|part| part.first_ready_ms);
    let width = sorted
        .iter()
        .map(|part| part.name.len())
        .max()
        .unwrap_or_default();
    let mut text = format!("{:width$}  ready after  address", "part");
    for part in sorted {
        let after = Duration::from_millis(part.first_ready_ms.unwrap_or_default());
        let _ = write!(
            text,
            "\n{:width$}  {:>11}  {}",
            part.name,
            duration::show(after),
            part.address
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, ms: u64, address: &str) -> Seen {
        Seen {
            name: name.into(),
            address: address.into(),
            first_ready_ms: Some(ms),
            trouble: None,
        }
    }

    #[test]
    fn only_a_round_begun_after_the_question_counts() {
        let round = |begun_ms, trouble: Option<&str>| {
            let mut loki = part("loki", 2_500, "");
            loki.trouble = trouble.map(str::to_owned);
            let parts = vec![loki, part("tempo", 3_000, "")];
            Some(Round { begun_ms, parts })
        };
        let old = Err("the watch has not asked again: `make logs-probe`".to_owned());
        assert_eq!(ready(None, 1_000), old);
        assert_eq!(ready(round(999, None), 1_000), old);
        assert_eq!(
            ready(round(1_000, None), 1_000),
            Ok(vec![part("loki", 2_500, ""), part("tempo", 3_000, "")])
        );
        assert_eq!(
            ready(round(1_001, Some("503")), 1_000),
            Err("loki: 503".into())
        );
    }

    #[test]
    fn the_table_is_sorted_by_time_and_has_the_address() {
        assert_eq!(
            table(&[
                part("grafana", 12_300, "http://127.0.0.1:13000"),
                part("loki", 2_500, "")
            ]),
            "part     ready after  address\n\
             loki          2.50 s  \n\
             grafana       12.3 s  http://127.0.0.1:13000"
        );
    }
}
