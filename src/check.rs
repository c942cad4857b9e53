//! The container's health probe: asks the process beside it whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::settings::Settings;

/// Seconds that the probe waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks `/readyz` at the address that settings name; an error says what was answered.
pub fn ready(settings: &Settings) -> Result<(), String> {
    let address = reachable(settings.listen);
    let url = format!("http://{address}/readyz");
    let client = reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .build()
        .map_err(|error| error.to_string())?;
    let response = client.get(&url).send();
    let response = response.map_err(|error| format!("{url} does not answer: {error}"))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = response.text().unwrap_or_default();
    Err(format!("{url} answered {status}: {reason}"))
}

/// An address that listens everywhere is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
