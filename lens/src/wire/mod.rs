//! The wire formats of OTLP as data: which fields a message has decides how deep its bytes may nest ([`depth`]), which of them are texts
//! ([`text`]) and how its JSON is read and written ([`json`]).

pub mod depth;
pub mod json;
#[rustfmt::skip] // tables
pub mod schema;
pub mod text;
