//! The HTTP client of every subcommand, and words for its errors.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, ClientBuilder, redirect};

/// reqwest is built without a TLS provider (one C compiler must be enough to build it); this chooses ring for the process.
pub fn install_tls_provider() {
    // Err means that one is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that follows no redirect (a 3xx may be what was asked for) and ignores proxy variables: it speaks to this machine or
/// to the addresses it was given.
pub fn client(timeout: Duration, connections: usize) -> reqwest::Result<Client> {
    builder(timeout, connections).build()
}

/// One that says with every request whose data it is: the stores ask for it when they have tenants, and ignore it when not.
/// `a|b` reads both.
pub fn client_as(tenant: &'static str) -> reqwest::Result<Client> {
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-scope-orgid"),
        HeaderValue::from_static(tenant),
    )]);
    builder(Duration::from_secs(15), 8)
        .default_headers(headers)
        .build()
}

fn builder(timeout: Duration, connections: usize) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(timeout)
        .pool_max_idle_per_host(connections)
        .user_agent(concat!("signalboxctl/", env!("CARGO_PKG_VERSION")))
}

/// The innermost cause, which is the one a person can act on: "Connection refused", not "error sending request".
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut source = error.source();
    let mut cause = error.to_string();
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    cause
}
