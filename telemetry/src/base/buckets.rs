//! Bucket boundaries of histograms.

/// Boundaries in seconds that the conventions ask for:
/// <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Those of <https://opentelemetry.io/docs/specs/semconv/db/database-metrics/>.
const DATABASE_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// The SDK's own.
const DEFAULT: [f64; 15] = [
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0,
    10000.0,
];

/// Bucket boundaries of the histogram `name`.
pub(crate) fn boundaries(name: &str, unit: &str) -> &'static [f64] {
    match unit {
        "s" if name.starts_with("db.client.") => &DATABASE_SECONDS,
        "s" => &SECONDS,
        _ => &DEFAULT,
    }
}
