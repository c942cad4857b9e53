//! What stands in for exemplars where their feature is off: nothing is kept.
use std::error::Error;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;

/// Why a request could not be read again.
pub(crate) type Unreadable = Box<dyn Error + Send + Sync>;

#[derive(Debug, Default)]
pub(crate) struct Store;

impl Store {
    pub(crate) fn new(_: bool) -> Self {
        Self
    }

    pub(crate) fn reservoirs(&self, _: &str, _: &[f64]) -> Arc<Reservoirs> {
        Arc::new(Reservoirs)
    }

    pub(crate) fn add_new_to_encoded(
        &self,
        _: &[u8],
        _: bool,
    ) -> Result<Option<(Vec<u8>, u64)>, Unreadable> {
        Ok(None)
    }

    pub(crate) fn arrived(&self, _: u64) {}

    #[cfg(feature = "scrape")]
    pub(crate) fn add_all_to<T>(&self, _: &mut T) {}
}

#[derive(Debug)]
pub(crate) struct Reservoirs;

impl Reservoirs {
    pub(crate) fn enabled(&self) -> bool {
        false
    }

    pub(crate) fn series(&self, _: &[KeyValue]) -> Option<Series> {
        None
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Series;

impl Series {
    pub(crate) fn offer(&self, _: f64, _: &SpanContext) {}
}
