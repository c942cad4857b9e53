//! HTTP server side of actix-web: root span, metrics, request id, access log.
use std::future::{Ready, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::{Error, HttpRequest};

/// The id of a request: the caller's `x-request-id` if it is fit, else a new one. Found in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The outermost middleware of an app.
#[derive(Debug, Clone, Default)]
pub struct Instrument {}

impl Instrument {
    pub fn new() -> Self {
        Self::default()
    }
}

/// Adds an attribute to the request's span, its access-log record and its duration metric. Both must come from closed sets.
pub fn annotate(
    _request: &HttpRequest,
    _key: &'static str,
    _value: impl Into<opentelemetry::StringValue>,
) {
}

impl<S, B> Transform<S, ServiceRequest> for Instrument
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = S;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(service))
    }
}
