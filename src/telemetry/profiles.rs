//! CPU and heap profiles.
use std::collections::BTreeMap;
use std::time::Duration;

use super::health::Health;
use super::settings::Profiles;

#[derive(Default)]
pub(super) struct Agents {}

impl Agents {
    pub(super) fn into_shutdowns(
        self,
        _deadline: Duration,
    ) -> Vec<(&'static str, Box<dyn FnOnce() -> Result<(), String> + Send>)> {
        Vec::new()
    }
}

pub(super) fn start(
    _settings: &Profiles,
    _resource: &BTreeMap<String, String>,
    _health: &Health,
) -> Agents {
    Agents {}
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("not supported here: {0}")]
    Unsupported(&'static str),
    #[error("another profile is being taken")]
    Busy,
    #[error("{0}")]
    Failed(String),
}

/// CPU profile of the next `duration` as gzipped pprof. Blocks that long: call it on a blocking thread.
pub fn cpu(_duration: Duration) -> Result<Vec<u8>, ProfileError> {
    Err(ProfileError::Busy)
}

/// CPU profile of the next `duration` as an SVG flame graph. Blocks that long.
pub fn cpu_flamegraph(_duration: Duration) -> Result<Vec<u8>, ProfileError> {
    Err(ProfileError::Busy)
}

/// What is allocated now, by allocation site, as gzipped pprof.
pub fn heap() -> Result<Vec<u8>, ProfileError> {
    Err(ProfileError::Busy)
}

/// Runs `work` with its CPU samples marked as the current span's and the route's. Only for work that stays on this
/// OS thread: call it inside `web::block`. Does nothing more than run `work` when CPU profiles are off.
pub fn span_scope<R>(_route: &str, work: impl FnOnce() -> R) -> R {
    work()
}
