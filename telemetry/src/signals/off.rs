//! What stands in for the parts whose feature is off: it does nothing, so that the rest need not ask.

#[cfg(not(feature = "profiles"))]
pub(crate) mod profiles {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use crate::Error;
    use crate::base::settings::Profiles;
    use crate::pipeline::health::Health;
    use crate::signals::Telemetry;

    #[derive(Default)]
    pub(crate) struct Profiler(());

    impl Profiler {
        pub(crate) fn new(_: &Profiles) -> Self {
            Self::default()
        }
    }

    #[derive(Default)]
    pub(crate) struct Agents(());

    type Shutdown = (&'static str, Box<dyn FnOnce() -> Result<(), String> + Send>);

    impl Agents {
        pub(crate) fn into_shutdowns(self) -> Vec<Shutdown> {
            Vec::new()
        }
    }

    pub(crate) fn start(
        settings: &Profiles,
        _: &BTreeMap<String, String>,
        _: &Health,
        _: &Arc<Telemetry>,
    ) -> Result<(Agents, Option<String>), Error> {
        let asked = settings.url.is_some();
        let missing = asked.then(|| "no profiles: built without the feature `profiles`".to_owned());
        Ok((Agents::default(), missing))
    }
}

#[cfg(not(feature = "runtime"))]
pub(crate) mod runtime {
    use std::sync::Arc;

    use opentelemetry::metrics::Meter;

    #[derive(Default)]
    pub(crate) struct Runtimes;

    impl Runtimes {
        #[cfg(feature = "http-core")]
        pub(crate) fn register_current(&self) {}
    }

    pub(crate) fn observe(_: &Meter, _: &str, _: &Arc<Runtimes>) {}
}

/// Reads nothing.
#[cfg(not(feature = "scrape"))]
pub(crate) struct Pull;

#[cfg(not(feature = "scrape"))]
impl Pull {
    pub(crate) fn none() -> Self {
        Self
    }

    pub(crate) fn of<R, S>(_: R, _: &S) -> Self {
        Self
    }

    pub(crate) fn beside<B, S>(builder: B, _: &S) -> (B, Self) {
        (builder, Self)
    }
}
