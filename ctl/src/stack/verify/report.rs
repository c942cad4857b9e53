//! The table that `verify` prints, a line as soon as it is known.

use std::time::Duration;

use crate::duration;
use crate::output::say;

/// What became of one hop or link.
pub struct Row {
    /// `logs`, `metrics`, `traces`, `profiles`, or the number of a link.
    signal: String,
    /// The hop, or what the link joins.
    hop: String,
    /// What was seen after how long, or what was not and why that may be.
    outcome: Result<(String, Duration), String>,
    /// The signals without which this one cannot be judged.
    needs: Vec<&'static str>,
}

impl Row {
    pub fn new(
        signal: impl Into<String>,
        hop: impl Into<String>,
        outcome: Result<(String, Duration), String>,
    ) -> Self {
        Self {
            signal: signal.into(),
            hop: hop.into(),
            outcome,
            needs: Vec::new(),
        }
    }

    /// A failure lies behind an earlier one of these signals, its own among them where each of its hops needs the one before.
    pub fn needs(self, signals: &[&'static str]) -> Self {
        Self {
            needs: signals.to_vec(),
            ..self
        }
    }

    pub fn broken(
        signal: impl Into<String>,
        hop: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::new(signal, hop, Err(reason.into()))
    }
}

#[derive(Default)]
pub struct Report {
    rows: usize,
    /// Where it breaks: signal and hop. What lies behind it is not in here.
    broken: Vec<(String, String)>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        let Row {
            signal,
            hop,
            outcome,
            needs,
        } = row;
        self.rows += 1;
        let behind = needs.iter().any(|needed| self.is_broken(needed));
        match outcome {
            Ok((seen, after)) => {
                let after = duration::show(after);
                say!("ok      {signal:<9} {hop:<28} {after:>8}  {seen}");
            }
            Err(_) if behind => {
                say!("behind  {signal:<9} {hop}");
            }
            Err(reason) => {
                say!("BROKEN  {signal:<9} {hop:<28} {:>8}  {reason}", "");
                self.broken.push((signal, hop));
            }
        }
    }

    /// Whether a hop of that signal failed.
    pub fn is_broken(&self, signal: &str) -> bool {
        self.broken.iter().any(|(broken, _)| broken == signal)
    }

    /// Err names what is broken.
    pub fn end(self) -> Result<(), String> {
        if self.broken.is_empty() {
            say!("\nall {} hops and links are proven", self.rows);
            return Ok(());
        }
        let named = self
            .broken
            .iter()
            .map(|(signal, hop)| format!("{signal} at {hop}"));
        Err(format!("broken: {}", named.collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hop_that_fails_is_named_and_what_lies_behind_it_is_not() {
        let mut report = Report::default();
        report.add(Row::new(
            "logs",
            "store",
            Ok(("seen".into(), Duration::ZERO)),
        ));
        for (signal, hop) in [
            ("logs", "nginx-push"),
            ("logs", "alloy"),
            ("traces", "grafana"),
        ] {
            report.add(Row::broken(signal, hop, "missing").needs(&[signal]));
        }
        report.add(Row::broken("profiles", "grafana", "no span").needs(&["traces", "profiles"]));
        report.add(Row::broken("D1", "log → trace", "no record").needs(&["logs", "traces"]));
        // Another cause than that of the link before, though it has the same number.
        for link in ["exemplar → trace", "span metrics' exemplar → trace"] {
            report.add(Row::broken("D5", link, "none").needs(&["metrics"]));
        }
        assert_eq!(
            report.end(),
            Err("broken: logs at nginx-push, traces at grafana, D5 at exemplar → trace, D5 at span metrics' exemplar → trace".into())
        );
    }
}
