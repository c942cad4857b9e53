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
    broken: Vec<String>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        let Row {
            signal,
            hop,
            outcome,
        } = row;
        self.rows += 1;
        match outcome {
            Ok((seen, after)) => {
                let after = duration::show(after);
                say!("ok      {signal:<9} {hop:<28} {after:>8}  {seen}");
            }
            Err(reason) => {
                say!("BROKEN  {signal:<9} {hop:<28} {:>8}  {reason}", "");
                self.broken.push(format!("{signal} at {hop}"));
            }
        }
    }

    /// Err names what is broken.
    pub fn end(self) -> Result<(), String> {
        if self.broken.is_empty() {
            say!("\nall {} hops and links are proven", self.rows);
            return Ok(());
        }
        Err(format!("broken: {}", self.broken.join(", ")))
    }
}
