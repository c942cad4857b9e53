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

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::bufread::GzEncoder;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// Locks `mutex`. Poisoning is ignored: nothing that is locked here is ever left half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each byte as two digits. Through a table: every answer has two ids.
pub(crate) fn hex(bytes: &[u8], text: &mut [u8]) {
    const PAIRS: [[u8; 2]; 256] = {
        let digits = b"0123456789abcdef";
        let mut pairs = [[0; 2]; 256];
        let mut byte = 0;
        while byte < 256 {
            pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
            byte += 1;
        }
        pairs
    };
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

/// `bytes`, compressed at level 1: a request of a thousand alike spans becomes a fifteenth; level 6 costs ten times as
/// much for little more.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(bytes.len() / 8);
    // Reading from memory into memory does not fail.
    let _ = GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut compressed);
    compressed
}

/// `text` for as long as the program runs, where a name must live that long for `tracing`, or is handed on again and again.
/// `None` beyond `most` texts: whatever is not of the program's own choice must be bounded.
pub(crate) fn interned(text: &str, most: usize) -> Option<&'static str> {
    // Of the process and not of a start: what is leaked once need not be leaked again.
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = locked(&KNOWN);
    let known = known.get_or_insert_default();
    if let Some(text) = known.get(text) {
        return Some(text);
    }
    (known.len() < most).then(|| {
        let text: &'static str = text.to_owned().leak();
        known.insert(text);
        text
    })
}

/// `value` as `Debug` writes it, as far as it does: a value may refuse, and `format!` would panic then.
pub(crate) fn debugged(value: &dyn Debug) -> String {
    let mut text = String::new();
    let _ = write!(text, "{value:?}");
    text
}

/// Random bits, from what makes the SDK's ids.
pub(crate) fn random() -> u128 {
    let id = RandomIdGenerator::default().new_trace_id();
    u128::from_be_bytes(id.to_bytes())
}
