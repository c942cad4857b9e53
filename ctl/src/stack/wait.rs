//! Waits until everything that `watch` asks is ready, then prints where each part is and how long it took.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::watch::{self, Seen};
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
    loop {
        let seen = read();
        let late: Vec<&Seen> = seen.iter().filter(|part| part.trouble.is_some()).collect();
        if !seen.is_empty() && late.is_empty() {
            say!("{}", table(&seen));
            return Ok(());
        }
        if Instant::now() >= end {
            let reasons: Vec<String> = late
                .iter()
                .map(|part| {
                    format!(
                        "{}: {}",
                        part.name,
                        part.trouble.as_deref().unwrap_or_default()
                    )
                })
                .collect();
            return Err(format!(
                "not ready after {}: {}",
                duration::show(args.deadline),
                reasons.join("; ")
            ));
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Empty until the watch has written for the first time.
fn read() -> Vec<Seen> {
    std::fs::read(watch::notes())
        .ok()
        .and_then(|notes| serde_json::from_slice(&notes).ok())
        .unwrap_or_default()
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

    #[test]
    fn the_table_is_sorted_by_time_and_has_the_address() {
        let part = |name: &str, ms, address: &str| Seen {
            name: name.into(),
            address: address.into(),
            first_ready_ms: Some(ms),
            trouble: None,
        };
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
