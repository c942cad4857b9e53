//! The request that a thread works on, for those inside the middleware.
use std::cell::RefCell;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::error::ErrorInternalServerError;
use actix_web::{Error, FromRequest, HttpRequest};
use opentelemetry::StringValue;

use crate::http::server::{Exchange, RequestHandle};

thread_local! {
    /// The request that this thread works on at this moment.
    static CURRENT: RefCell<Option<RequestHandle>> = const { RefCell::new(None) };
}

/// The request that this code works on: in handlers, extractors and middlewares inside
/// [`Instrument`](super::Instrument), also after an `await`. None elsewhere, so in tasks and threads that a handler
/// starts and in a body that is streamed: give them the handle.
pub fn current() -> Option<RequestHandle> {
    CURRENT.with_borrow(Option::clone)
}

/// Adds an attribute to the span, the access-log record and the duration metric of the [`current`] request, if there is
/// one: [`RequestHandle::annotate`].
pub fn annotate(key: &'static str, value: impl Into<StringValue>) {
    if let Some(handle) = current() {
        handle.annotate(key, value);
    }
}

/// The [`current`] request. Fails with status 500 in an app without [`Instrument`](super::Instrument);
/// `Option<RequestHandle>` is none there.
impl FromRequest for RequestHandle {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        let missing = "RequestHandle: this app is not wrapped in signalbox_telemetry's Instrument";
        ready(current().ok_or_else(|| ErrorInternalServerError(missing)))
    }
}

/// Makes a request the [`current`] one until it is dropped. An entry in the request's extensions would be the fourth
/// there, for which their map grows: 650 instructions a request.
pub(super) struct Entered {
    before: Option<RequestHandle>,
}

impl Entered {
    pub(super) fn new(exchange: &Exchange) -> Self {
        let before = CURRENT.replace(Some(exchange.handle().clone()));
        Self { before }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}
