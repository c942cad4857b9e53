//! What everything else stands on: settings and the resource.
pub(crate) mod resource;
pub(crate) mod settings;
