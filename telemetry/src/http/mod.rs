//! HTTP: the server side, independent of a framework, with an adapter a framework; and the client side.
#[cfg(feature = "actix")]
pub mod actix;
#[cfg(feature = "client")]
pub mod client;
mod forwarded;
#[cfg(any(feature = "actix", feature = "tower"))]
mod outcome;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) mod server;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(any(feature = "actix", feature = "tower"))]
pub use server::RequestHandle;

/// `error.type` of what was given up before its end.
pub(crate) const CANCELLED: &str = "cancelled";

/// The methods the conventions know, and what stands for all others.
pub(crate) const METHODS: [&str; 11] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY",
    "_OTHER",
];

pub(crate) const OTHER_METHOD: usize = METHODS.len() - 1;

pub(crate) fn method_index(method: &str) -> usize {
    let known = METHODS.iter().position(|known| *known == method);
    known.unwrap_or(OTHER_METHOD)
}

/// The method as the name of a span has it.
pub(crate) fn method_in_name(method: usize) -> &'static str {
    match method {
        OTHER_METHOD => "HTTP",
        known => METHODS[known],
    }
}

pub(crate) fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}
