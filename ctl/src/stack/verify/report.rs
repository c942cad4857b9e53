//! The table that `verify` prints, a line as soon as it is known.

use std::time::Duration;

use crate::duration;
use crate::output::say;

/// Why something was not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The stack is at fault: what was not seen, and why that may be.
    Broken(String),
    /// What a service sends does not carry what a link needs: what that is.
    Lacks(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

/// What became of one hop or link.
pub struct Row {
    /// `logs`, `metrics`, `traces`, `profiles`, or the number of a link.
    signal: String,
    /// The hop, or what the link joins.
    hop: String,
    /// What was seen after how long, or what was not.
    outcome: Result<(String, Duration), Fault>,
    /// The signals without which this one cannot be judged.
    needs: Vec<&'static str>,
}

impl Row {
    pub fn new(
        signal: impl Into<String>,
        hop: impl Into<String>,
        outcome: Result<(String, Duration), impl Into<Fault>>,
    ) -> Self {
        Self {
            signal: signal.into(),
            hop: hop.into(),
            outcome: outcome.map_err(Into::into),
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
        Self::new(signal, hop, Err(Fault::Broken(reason.into())))
    }
}

#[derive(Default)]
pub struct Report {
    rows: usize,
    /// Where it breaks: signal and hop. What lies behind it is not in here.
    broken: Vec<(String, String)>,
    /// The same of what a service's data does not carry.
    lacking: Vec<(String, String)>,
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
        let absent = |needed: &&str| self.is_broken(needed) || self.is_lacking(needed);
        let behind = needs.iter().any(absent);
        match outcome {
            Ok((seen, after)) => {
                let after = duration::show(after);
                say!("ok      {signal:<9} {hop:<28} {after:>8}  {seen}");
            }
            Err(_) if behind => {
                say!("behind  {signal:<9} {hop}");
            }
            Err(Fault::Broken(reason)) => {
                say!("BROKEN  {signal:<9} {hop:<28} {:>8}  {reason}", "");
                self.broken.push((signal, hop));
            }
            Err(Fault::Lacks(what)) => {
                say!("lacks   {signal:<9} {hop:<28} {:>8}  {what}", "");
                self.lacking.push((signal, hop));
            }
        }
    }

    /// Whether a hop of that signal failed.
    pub fn is_broken(&self, signal: &str) -> bool {
        self.broken.iter().any(|(broken, _)| broken == signal)
    }

    fn is_lacking(&self, signal: &str) -> bool {
        self.lacking.iter().any(|(lacking, _)| lacking == signal)
    }

    /// Err names what is broken.
    pub fn end(self) -> Result<(), String> {
        if !self.broken.is_empty() {
            return Err(format!("broken: {}", named(&self.broken)));
        }
        match self.lacking.is_empty() {
            true => say!("\nall {} hops and links are proven", self.rows),
            false => say!(
                "\nnothing is broken; the service's data lacks what these need: {}",
                named(&self.lacking)
            ),
        }
        Ok(())
    }
}

/// `logs at alloy, D1 at log → trace`.
fn named(rows: &[(String, String)]) -> String {
    let named = rows
        .iter()
        .map(|(signal, hop)| format!("{signal} at {hop}"));
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_does_not_send_is_no_fault_of_the_stack() {
        let mut report = Report::default();
        let lacks = |what: &str| Err(Fault::Lacks(what.into()));
        report.add(Row::new("profiles", "in Pyroscope", lacks("no sample")));
        // Without a profile it cannot be judged, and is not named.
        report.add(Row::broken("D4", "trace → profile", "none").needs(&["profiles"]));
        assert_eq!(named(&report.lacking), "profiles at in Pyroscope");
        assert_eq!(report.end(), Ok(()));
    }

    #[test]
    fn the_first_hop_that_fails_is_named_and_what_lies_behind_it_is_not() {
        let mut report = Report::default();
        report.add(Row::new(
            "logs",
            "store",
            Ok::<_, String>(("seen".into(), Duration::ZERO)),
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
