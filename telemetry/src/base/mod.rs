//! What everything else stands on: settings, the resource, time, names, and what keeps secrets out of messages.
pub(crate) mod buckets;
pub(crate) mod named_event;
pub(crate) mod names;
pub(crate) mod proxy;
#[cfg(feature = "http-core")]
pub(crate) mod redaction;
pub(crate) mod resource;
pub(crate) mod secret_url;
pub(crate) mod settings;
pub(crate) mod time;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. Poisoning is ignored: nothing that is locked here is ever left half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
