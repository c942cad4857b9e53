//! Names of ours, for what OpenTelemetry has no name for. Their first part is the program's.
use super::settings::Identity;

/// Names that begin with the program's prefix. Made once a start: `tracing` wants names that live as long as the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// Event name of an access-log record.
    pub(crate) request: &'static str,
    /// Its duration in milliseconds.
    pub(crate) duration_ms: &'static str,
    /// Attribute of the request's id.
    pub(crate) request_id: &'static str,
    /// Which signal was not exported, and how many items of it.
    pub(crate) signal: &'static str,
    pub(crate) lost: &'static str,
}

impl Names {
    pub(crate) fn of(identity: &Identity) -> Self {
        let name = |rest| &*format!("{}.{rest}", identity.metric_prefix).leak();
        Self {
            request: name("request"),
            duration_ms: name("request.duration_ms"),
            request_id: identity.request_id_attribute,
            signal: name("telemetry.signal"),
            lost: name("telemetry.lost"),
        }
    }
}
