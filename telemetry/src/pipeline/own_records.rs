//! Which log records come from exporting itself: exported in turn, they would never end.

/// Crates whose records the export of a record would itself cause, and the target of our own about exports.
const EXPORTERS: [&str; 6] = [
    "hyper",
    "hyper_util",
    "reqwest",
    "h2",
    "rustls",
    "telemetry",
];

/// Whether records of `target` come from what exports.
pub(crate) fn is_exporter(target: &str) -> bool {
    // By one character, which is found in a tenth of the time that two take.
    let name = target.split(':').next().unwrap_or(target);
    name.starts_with("opentelemetry") || EXPORTERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exports_is_told_by_its_whole_name() {
        for target in ["hyper", "h2::codec", "opentelemetry-otlp", "telemetry"] {
            assert!(is_exporter(target), "{target}");
        }
        for target in ["hyperloop", "telemetry_viewer::page", "access"] {
            assert!(!is_exporter(target), "{target}");
        }
    }
}
