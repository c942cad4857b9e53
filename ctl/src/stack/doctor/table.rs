//! The table that `doctor` prints: a line for each signal at each hop.

use std::fmt::Write as _;
use std::time::Duration;

use super::flow::{Count, Flow, Queue, all, rate};

/// Items a second between the readings, and how many since the part started.
pub fn show(flows: &[Flow], over: Duration) -> String {
    let mut text = format!(
        "items a second over {} s, and in all since the part started\n{:<9} {:<16}",
        over.as_secs(),
        "signal",
        "hop"
    );
    for column in ["accepted", "sent", "refused", "lost", "waiting"] {
        let _ = write!(text, " {column:>16}");
    }
    for flow in flows {
        let hop = format!("{} {}", flow.part, flow.hop.of);
        let _ = write!(text, "\n{:<9} {:<16}", flow.hop.signal, hop.trim());
        let counts = [
            flow.accepted,
            flow.sent,
            (!flow.hop.refused.is_empty()).then(|| all(&flow.refused)),
            (!flow.hop.lost.is_empty()).then(|| all(&flow.lost)),
        ];
        for count in counts {
            let _ = write!(text, " {:>16}", cell(count, over));
        }
        let _ = write!(text, " {:>16}", flow.queue.map_or("-".into(), waiting));
    }
    text
}

fn cell(count: Option<Count>, over: Duration) -> String {
    count.map_or("-".into(), |count| {
        format!("{:.1} {:>9}", rate(count, over), count.total)
    })
}

fn waiting(queue: Queue) -> String {
    if queue.capacity.is_finite() {
        format!("{} of {}", queue.now, queue.capacity)
    } else {
        queue.now.to_string()
    }
}
