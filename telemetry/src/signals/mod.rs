//! Each signal, from its source to its exporter, and what they have in common.
pub mod context;
mod held;
pub(crate) mod layer;
pub(crate) mod logs;
pub mod metrics;
mod off;
#[cfg(feature = "profiles")]
pub mod profiles;
pub(crate) mod propagation;
#[cfg(feature = "runtime")]
pub(crate) mod runtime;
#[cfg(feature = "scrape")]
pub(crate) mod scrape;
pub(crate) mod traces;

#[cfg(feature = "http-core")]
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracer;

use self::layer::TelemetryLayer;
#[cfg(feature = "http-core")]
use crate::base::locked;
use crate::base::names::Names;
#[cfg(feature = "http-core")]
use crate::base::settings::Http;
use crate::pipeline::exemplars::Store;
#[cfg(not(feature = "profiles"))]
pub(crate) use off::profiles;
#[cfg(not(feature = "runtime"))]
pub(crate) use off::runtime;

/// What one start of the telemetry made and all that emit share. It travels in the layer, and so belongs to whatever
/// subscriber that is part of: two programs' telemetry can live in one process, as in tests.
#[derive(Default)]
pub(crate) struct Telemetry {
    /// Absent when telemetry is disabled: contexts then carry the request's id and no span.
    pub(crate) tracer: Option<SdkTracer>,
    pub(crate) meters: Option<SdkMeterProvider>,
    pub(crate) propagator: propagation::Propagator,
    /// Absent without a start.
    pub(crate) names: Option<Names>,
    #[cfg(feature = "http-core")]
    pub(crate) http: Http,
    pub(crate) exemplars: Arc<Store>,
    pub(crate) profiler: profiles::Profiler,
    pub(crate) runtimes: Arc<runtime::Runtimes>,
    /// What parts above this one keep, one of each type.
    #[cfg(feature = "http-core")]
    pub(crate) parts: std::sync::Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// That of the current subscriber; one that does nothing if that has none.
    pub(crate) fn current() -> Arc<Self> {
        static NONE: OnceLock<Arc<Telemetry>> = OnceLock::new();
        let found = tracing::dispatcher::get_default(|dispatch| {
            dispatch
                .downcast_ref::<TelemetryLayer>()
                .map(|layer| Arc::clone(&layer.telemetry))
        });
        found.unwrap_or_else(|| Arc::clone(NONE.get_or_init(Arc::default)))
    }

    pub(crate) fn meter(&self, name: &'static str) -> Meter {
        match &self.meters {
            Some(provider) => provider.meter(name),
            None => opentelemetry::global::meter(name),
        }
    }

    /// The part of type `T`, made by `make` when it is first asked for.
    #[cfg(feature = "http-core")]
    pub(crate) fn part<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> T) -> Arc<T> {
        let mut parts = locked(&self.parts);
        let mut known = parts.iter().map(|part| Arc::clone(part).downcast::<T>());
        if let Some(part) = known.find_map(Result::ok) {
            return part;
        }
        let part = Arc::new(make(self));
        parts.push(part.clone());
        part
    }
}
