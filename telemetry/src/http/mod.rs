//! HTTP: the server side and the client side.
pub mod actix;
pub mod client;
