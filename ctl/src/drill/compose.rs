//! Drills that change a part of the stack: what `make` has Docker Compose do on the host, because no container may.

use clap::ValueEnum;

use super::definition::{Drill, Fault, fill};
use super::state::Run;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// What goes wrong
    Begin,
    /// What ends it
    Heal,
}

/// A line for each part: the file that is laid over the stack's own (`-`: none), a blank, and what Compose is told.
/// What heals is told without that file.
pub fn lines(drill: &Drill, run: &Run, what: What) -> Vec<String> {
    let chosen = drill.chosen(run.seed);
    let of = |fault: &Fault| match (fault, what) {
        (Fault::Compose { overlay, begin, .. }, What::Begin) => {
            let overlay = match overlay.is_empty() {
                true => "-",
                false => &fill(overlay, &chosen),
            };
            Some(format!("{overlay} {}", fill(begin, &chosen)))
        }
        (Fault::Compose { heal, .. }, What::Heal) => Some(format!("- {}", fill(heal, &chosen))),
        _ => None,
    };
    drill.fault.iter().filter_map(of).collect()
}
