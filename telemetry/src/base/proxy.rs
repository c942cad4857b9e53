//! Which hosts are never reached through a proxy.
//!
//! `HTTP_PROXY` and its kin are set for the way out of a company's network. Docker's client even injects them into every
//! container. A proxy knows neither this machine's loopback nor the names of a Compose network, so telemetry that was sent
//! through it would be lost with an answer that nobody understands.
use std::net::IpAddr;

/// Whether a URL's `host` is reached without proxy, whatever the environment says: loopback, and names of a single label,
/// which only the local network resolves (`localhost`, `alloy`).
///
/// ```
/// # use signalbox_telemetry::goes_direct;
/// assert!(goes_direct("alloy") && goes_direct("127.0.0.1") && goes_direct("[::1]"));
/// assert!(!goes_direct("collector.example"));
/// ```
pub fn goes_direct(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || address.is_unspecified()
        }
        Err(_) => {
            let name = host.trim_end_matches('.');
            !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts_go_direct() {
        for host in [
            "localhost",
            "LOCALHOST",
            "app.localhost",
            "alloy",
            "nginx-push",
            "localhost.",
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "0.0.0.0",
        ] {
            assert!(goes_direct(host), "{host}");
        }
        for host in [
            "collector.example",
            "10.0.0.1",
            "192.168.1.2",
            "[2001:db8::1]",
            "localhost.example",
        ] {
            assert!(!goes_direct(host), "{host}");
        }
    }
}
