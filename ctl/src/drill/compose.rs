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
            let overlay = fill(overlay, &chosen);
            let overlay = match overlay.as_str() {
                "" => "-",
                overlay => overlay,
            };
            Some(format!("{overlay} {}", fill(begin, &chosen)))
        }
        (Fault::Compose { heal, .. }, What::Heal) => Some(format!("- {}", fill(heal, &chosen))),
        _ => None,
    };
    drill.fault.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::definition::Mode;
    use std::path::Path;

    #[test]
    fn every_drill_of_the_stack_lays_over_what_exists_and_is_healed_without() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut changed = Vec::new();
        for drill in Drill::all(&project.join("drills")).unwrap() {
            for seed in 0..20 {
                let run = Run {
                    drill: drill.number,
                    seed,
                    started_ms: 0,
                    hints: 0,
                    mode: Mode::Stack,
                    service: String::new(),
                    viewer: String::new(),
                    recorded: None,
                };
                let begun = lines(&drill, &run, What::Begin);
                let healed = lines(&drill, &run, What::Heal);
                assert_eq!(begun.len(), healed.len());
                for line in &begun {
                    let (overlay, told) = line.split_once(' ').unwrap();
                    assert!(overlay == "-" || project.join(overlay).is_file(), "{line}");
                    assert!(!told.contains(['{', '}']), "{line}");
                    changed.push(drill.number);
                }
                assert!(healed.iter().all(|line| line.starts_with("- ")));
            }
        }
        changed.dedup();
        assert_eq!(changed, [17, 18, 19, 20, 21]);
    }
}
