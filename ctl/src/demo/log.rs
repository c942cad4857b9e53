//! What a child writes: kept in a file, its last lines kept in memory for the moment it dies.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Above this the file is set aside as `<name>.log.1` and begun anew: a demo left running for a week must not fill the disk.
const MAX_FILE_BYTES: u64 = 16 << 20;
const TAIL_LINES: usize = 20;

pub struct Log {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    bytes: u64,
    tail: VecDeque<String>,
}

impl Log {
    /// Begins an empty file; the one of the run before is kept as `.1`.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        if path.exists() {
            set_aside(&path)?;
        }
        let file = File::create(&path)?;
        Ok(Self {
            path,
            state: Mutex::new(State {
                file,
                bytes: 0,
                tail: VecDeque::with_capacity(TAIL_LINES),
            }),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A full disk must not stop the demo, so a line that cannot be written is only kept in the tail.
    pub fn line(&self, line: &str) {
        let mut state = self.lock();
        if state.bytes > MAX_FILE_BYTES
            && set_aside(&self.path).is_ok()
            && let Ok(file) = File::create(&self.path)
        {
            state.file = file;
            state.bytes = 0;
        }
        if writeln!(state.file, "{line}").is_ok() {
            state.bytes += line.len() as u64 + 1;
        }
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state.tail.push_back(line.to_owned());
    }

    pub fn tail(&self) -> Vec<String> {
        self.lock().tail.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_aside(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    fs::rename(path, name)
}
