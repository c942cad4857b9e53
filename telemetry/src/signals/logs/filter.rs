//! Which events and spans exist at all.
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;

/// `RUST_LOG` rules events; spans of level INFO and above always exist, because a quieter log must not tear traces.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Targets);

impl Filter {
    pub(crate) fn new(targets: &Targets) -> Self {
        // The SDK reports each failed export as an error without any limit; `health` does so once per 30 s and cause.
        let named = targets
            .iter()
            .any(|(target, _)| target.starts_with("opentelemetry"));
        let targets = targets.clone();
        Self(if named {
            targets
        } else {
            targets.with_target("opentelemetry", LevelFilter::OFF)
        })
    }

    pub(crate) fn lets(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && *metadata.level() <= Level::INFO
            || self.lets_event(metadata.target(), *metadata.level())
    }

    pub(crate) fn lets_event(&self, target: &str, level: Level) -> bool {
        self.0.would_enable(target, &level)
    }

    /// The most verbose level that passes for any target.
    pub(crate) fn max_level(&self) -> LevelFilter {
        let events = Layer::<tracing_subscriber::Registry>::max_level_hint(&self.0)
            .unwrap_or(LevelFilter::TRACE);
        events.max(LevelFilter::INFO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_keeps_spans_and_silences_the_sdk() {
        let filter = Filter::new(&"warn,noisy=off".parse().unwrap());
        assert!(!filter.0.would_enable("service", &Level::INFO));
        assert!(filter.0.would_enable("service", &Level::WARN));
        assert!(!filter.0.would_enable("noisy", &Level::ERROR));
        assert!(!filter.0.would_enable("opentelemetry_sdk", &Level::ERROR));
        assert_eq!(filter.max_level(), LevelFilter::INFO);
        let asked = Filter::new(&"warn,opentelemetry_sdk=debug".parse().unwrap());
        assert!(asked.0.would_enable("opentelemetry_sdk", &Level::DEBUG));
    }
}
