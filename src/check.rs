//! The container's health probe: asks the process beside it whether it is ready.
//!
//! It speaks HTTP by hand: a probe runs every few seconds and should cost nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::settings::{Listen, Settings};

/// How long the probe waits for a connection, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of the answer that are read.
const ENOUGH: u64 = 16 * 1024;

/// What is wrong with the process.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error(
        "the process listens on a socket that was handed to it: its address is not in its settings"
    )]
    Unknown,
    #[error("http://{0}/readyz does not answer: {1}")]
    Silent(SocketAddr, std::io::Error),
    #[error("http://{0}/readyz answered: {1}")]
    Answered(SocketAddr, String),
}

/// Asks `/readyz` at the address that settings name.
pub fn ready(settings: &Settings) -> Result<(), NotReady> {
    let Listen::Address(address) = settings.listen else {
        return Err(NotReady::Unknown);
    };
    let address = reachable(address);
    let answer = ask(address).map_err(|error| NotReady::Silent(address, error))?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(NotReady::Answered(address, answer))
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
