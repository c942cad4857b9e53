//! Every setting of the telemetry, read once from the environment.

/// Who emits: what the program says of itself when the environment says nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub service_name: &'static str,
    pub service_namespace: &'static str,
    pub service_version: &'static str,
    /// First part of the names of metrics that OpenTelemetry does not name, e.g. `signalbox`.
    pub metric_prefix: &'static str,
    /// Log and span attribute that carries the request id, e.g. `signalbox.request.id`.
    pub request_id_attribute: &'static str,
}

/// A variable whose value is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?} is not allowed: {allowed}")]
pub struct SettingError {
    pub name: String,
    pub value: String,
    pub allowed: String,
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Settings {
    pub identity: Identity,
}

impl Settings {
    /// Reads the process environment.
    pub fn from_env(identity: Identity) -> Result<Self, SettingError> {
        Self::from_lookup(identity, |name| std::env::var(name).ok())
    }

    /// Reads from `lookup` instead of the environment, for tests.
    pub fn from_lookup(
        identity: Identity,
        _lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        Ok(Self { identity })
    }
}
