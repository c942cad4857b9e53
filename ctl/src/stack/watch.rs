//! Asks every part of the stack from the moment it is started, notes when each answered first, and goes on asking.
//!
//! The service `probe` of docker-compose.yml: it depends on nothing, so its clock starts with the stack's. `wait` reads what it noted.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{parts, probe};
use crate::duration;
use crate::output::say;
use crate::stop::Stop;

/// While the stack starts: fine enough for its figures.
const STARTING: Duration = Duration::from_millis(500);
/// Afterwards.
const STARTED: Duration = Duration::from_secs(5);

/// What is known of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub name: String,
    pub address: String,
    /// Milliseconds from the start of the watch to the first good answer.
    pub first_ready_ms: Option<u64>,
    /// Why it is not ready now.
    pub trouble: Option<String>,
}

/// One round of questions, as noted for `wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// When its first question was asked, in milliseconds since 1970. What was started after that may be missing from it.
    pub begun_ms: u64,
    pub parts: Vec<Seen>,
}

/// Milliseconds since 1970, on the clock that stamps the rounds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// Where the notes are, for `wait` in the same container.
pub fn notes() -> PathBuf {
    std::env::temp_dir().join("signalbox-watch.json")
}

/// Runs until it is told to stop.
pub async fn run() -> Result<(), String> {
    let started = Instant::now();
    let parts = parts::from_env()?;
    let client = probe::client()?;
    let mut stop = Stop::listen().map_err(|error| error.to_string())?;
    let seen = parts
        .iter()
        .map(|part| Seen {
            name: part.name.clone(),
            address: part.address.clone(),
            first_ready_ms: None,
            trouble: Some("not asked yet".into()),
        })
        .collect();
    let mut round = Round {
        begun_ms: 0,
        parts: seen,
    };
    loop {
        round.begun_ms = now_ms();
        let answers = join_all(parts.iter().map(|part| probe::ask(&client, &part.ready))).await;
        for (part, answer) in round.parts.iter_mut().zip(answers) {
            note(part, answer, started.elapsed());
        }
        write(&round).map_err(|error| format!("{}: {error}", notes().display()))?;
        let late = |part: &Seen| part.first_ready_ms.is_none();
        let starting = round.parts.iter().any(late);
        tokio::select! {
            () = sleep(if starting { STARTING } else { STARTED }) => {}
            () = stop.requested() => return Ok(()),
        }
    }
}

/// Records an answer and tells of the change, if it is one.
fn note(part: &mut Seen, answer: Result<(), String>, elapsed: Duration) {
    let was_ready = part.trouble.is_none();
    match answer {
        Ok(()) if part.first_ready_ms.is_none() => {
            part.first_ready_ms = Some(elapsed.as_millis() as u64);
            say!("{} ready after {}", part.name, duration::show(elapsed));
        }
        Ok(()) if !was_ready => say!("{} ready again", part.name),
        Err(ref reason) if was_ready => say!("{} not ready: {reason}", part.name),
        _ => {}
    }
    part.trouble = answer.err();
}

/// Whole or not at all: `wait` may be reading.
fn write(round: &Round) -> io::Result<()> {
    let next = notes().with_extension("next");
    std::fs::write(&next, serde_json::to_vec(round)?)?;
    std::fs::rename(next, notes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_good_answer_is_timed_and_kept_through_later_trouble() {
        let mut part = Seen {
            name: "loki".into(),
            address: String::new(),
            first_ready_ms: None,
            trouble: Some("not asked yet".into()),
        };
        note(&mut part, Err("503".into()), Duration::from_millis(500));
        assert_eq!(
            (part.first_ready_ms, part.trouble.as_deref()),
            (None, Some("503"))
        );
        note(&mut part, Ok(()), Duration::from_millis(1500));
        assert_eq!(
            (part.first_ready_ms, part.trouble.as_deref()),
            (Some(1500), None)
        );
        note(&mut part, Err("refused".into()), Duration::from_secs(9));
        note(&mut part, Ok(()), Duration::from_secs(20));
        assert_eq!(
            (part.first_ready_ms, part.trouble.as_deref()),
            (Some(1500), None)
        );
    }
}
