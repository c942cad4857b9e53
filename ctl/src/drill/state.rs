//! What is known between two commands: which drill is on, and which were solved. In files, so that it outlives a crash.
//!
//! The right answer is not among it: a run keeps its seed, and what the seed chooses is computed anew by whoever grades.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::definition::Mode;

/// The run that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub drill: u32,
    pub seed: u64,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    pub hints: usize,
    #[serde(default)]
    pub mode: Mode,
    /// The service that it is played on.
    pub service: String,
    /// URL of the demo's viewer, or of the stack's Grafana.
    pub viewer: String,
    /// For an incident that was recorded: when that was, in milliseconds since 1970. Nothing plays meanwhile.
    #[serde(default)]
    pub recorded: Option<(u64, u64)>,
}

/// One that was solved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Solved {
    pub drill: u32,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub took_ms: u64,
    pub hints: usize,
    /// Of the run, so that the next one can have another answer.
    #[serde(default)]
    pub seed: u64,
}

/// How long a player waits for the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The folder with the files.
pub struct Desk(PathBuf);

/// Held by the player for as long as it lives, whatever ends it.
pub struct Playing {
    /// The lock is held by keeping the file open.
    _lock: File,
}

impl Desk {
    pub fn open(data_dir: &Path) -> Result<Self, String> {
        let folder = data_dir.join("drill");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    pub fn run(&self) -> Result<Option<Run>, String> {
        self.read("run.json")
    }

    pub fn keep(&self, run: &Run) -> Result<(), String> {
        self.write("run.json", run)
    }

    pub fn forget(&self) -> Result<(), String> {
        match fs::remove_file(self.0.join("run.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    pub fn solved(&self) -> Result<Vec<Solved>, String> {
        Ok(self.read("solved.json")?.unwrap_or_default())
    }

    pub fn add_solved(&self, one: Solved) -> Result<(), String> {
        let mut all = self.solved()?;
        all.push(one);
        self.write("solved.json", &all)
    }

    /// The definition of a recorded incident, which may be no drill of this checkout.
    pub fn definition(&self) -> Result<String, String> {
        let path = self.0.join("incident.toml");
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn keep_definition(&self, text: &str) -> Result<(), String> {
        let path = self.0.join("incident.toml");
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Where the player writes what it does.
    pub fn log(&self) -> PathBuf {
        self.0.join("player.log")
    }

    /// Notes the player's process id and holds the lock that says that it lives.
    pub fn play(&self) -> Result<Playing, String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", self.lock().display());
        let options = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.lock());
        let file = options.map_err(|error| told(&error))?;
        // Whoever asks whether a player lives holds the lock for a moment.
        let end = Instant::now() + LOCK_TIMEOUT;
        while let Err(error) = file.try_lock() {
            if Instant::now() > end {
                return Err(told(&format!("another player is at work ({error})")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = std::process::id().to_string();
        let _ = fs::remove_file(self.0.join("player.ready"));
        fs::write(self.0.join("player.pid"), pid).map_err(|error| told(&error))?;
        Ok(Playing { _lock: file })
    }

    /// Notes that everything has begun.
    pub fn ready(&self) -> Result<(), String> {
        let path = self.0.join("player.ready");
        fs::write(&path, std::process::id().to_string())
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether a player is at work and everything has begun.
    pub fn is_ready(&self) -> bool {
        let noted = fs::read_to_string(self.0.join("player.ready")).unwrap_or_default();
        self.player()
            .is_some_and(|pid| noted.trim() == pid.to_string())
    }

    /// Where the player keeps what is its own.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Process id of the player that is at work. A number that was left behind by a crash is no answer: the lock went with the process.
    pub fn player(&self) -> Option<i32> {
        let file = File::open(self.lock()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(self.0.join("player.pid")).ok()?;
                pid.trim().parse().ok()
            }
            _ => None,
        }
    }

    fn lock(&self) -> PathBuf {
        self.0.join("player.lock")
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, String> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| format!("{}: {error}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Whole or not at all.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), String> {
        let path = self.0.join(name);
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let next = path.with_extension("next");
        let text = serde_json::to_vec_pretty(value).map_err(|error| told(&error))?;
        fs::write(&next, text).map_err(|error| told(&error))?;
        fs::rename(next, &path).map_err(|error| told(&error))
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now: Duration = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_is_known_by_its_lock_and_not_by_a_number_that_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk::open(folder.path()).unwrap();
        assert_eq!(desk.player(), None);
        let playing = desk.play().unwrap();
        assert_eq!(desk.player(), i32::try_from(std::process::id()).ok());
        assert!(!desk.is_ready());
        desk.ready().unwrap();
        assert!(desk.is_ready());
        assert!(
            desk.play()
                .is_err_and(|told| told.contains("another player"))
        );
        drop(playing);
        assert_eq!((desk.player(), desk.is_ready()), (None, false));
    }
}
