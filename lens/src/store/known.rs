//! What the writer remembers of the database, so that it need not look it up again for every row.

use std::collections::HashMap;

/// Ids remembered per cache; beyond that it starts afresh.
const REMEMBERED: usize = 10_000;
/// And what is longer than this is not remembered, but looked up.
pub const REMEMBERED_BYTES: usize = 4096;

/// Ids already known to be in the database; forgotten when a transaction fails or rows they name are deleted.
#[derive(Default)]
pub struct Known {
    pub origins: HashMap<Vec<u8>, i64>,
    pub series: HashMap<Vec<u8>, i64>,
}

impl Known {
    /// Whether it is time to start afresh.
    pub fn is_full(&self) -> bool {
        self.origins.len() > REMEMBERED || self.series.len() > REMEMBERED
    }
}
