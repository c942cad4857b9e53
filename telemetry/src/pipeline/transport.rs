//! Posts encoded batches to a collector.
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_http::Bytes;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};

use super::answer::{PartialSuccess, partial_success, read_answer};
use super::encoding::Frame;
use super::export::{cause, client, refusal};
use super::gzip::Gzip;
use super::health::Cause;
use super::retry::retry_after;
use crate::Error;
use crate::base::locked;
use crate::base::settings::Otlp;

/// How an attempt to send a batch ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Attempt {
    /// The collector has it, but for those items that it says it rejected.
    Accepted(Option<PartialSuccess>),
    /// The collector will never take it.
    Refused(Cause, String),
    /// Worth another attempt, after the pause that the collector asked for.
    Later(Cause, String, Option<Duration>),
}

/// One signal's way to its collector.
#[derive(Debug)]
pub(crate) struct Transport {
    client: reqwest::blocking::Client,
    otlp: Otlp,
    headers: HeaderMap,
    /// Absent where bodies go as they are.
    gzip: Option<Mutex<Gzip>>,
}

impl Transport {
    pub(crate) fn new(otlp: &Otlp) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &otlp.headers {
            // The settings have let only fit ones pass.
            if let (Ok(name), Ok(mut value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(value))
            {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if otlp.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self {
            client: client(otlp)?,
            otlp: otlp.clone(),
            headers,
            gzip: otlp.gzip.then(|| Mutex::new(Gzip::new())),
        })
    }

    /// `frame` as it is sent.
    pub(crate) fn body(&self, frame: &Frame<'_>) -> Bytes {
        match &self.gzip {
            Some(gzip) => locked(gzip).compress(frame.pieces()).into(),
            None => frame.joined().into(),
        }
    }

    /// Sends `body` once. Takes no longer than the settings' timeout, and ends before `deadline`.
    pub(crate) fn post(&self, body: &Bytes, deadline: Option<Instant>) -> Attempt {
        let mut until = Instant::now() + self.otlp.timeout;
        until = deadline.map_or(until, |deadline| until.min(deadline));
        let left = until.saturating_duration_since(Instant::now());
        let request = self
            .client
            .post(self.otlp.endpoint.expose())
            .headers(self.headers.clone())
            .timeout(left)
            .body(body.clone());
        let response = match request.send() {
            Ok(response) => response,
            Err(error) => {
                let (cause, message) = cause(error, &self.otlp.endpoint);
                return Attempt::Later(cause, message, None);
            }
        };
        let status = response.status().as_u16();
        let asked = response.headers().get(RETRY_AFTER);
        let asked = asked.and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        match refusal(status) {
            // Whatever the answer's body is: the collector has taken the batch, and sending it again would double it.
            None => Attempt::Accepted(partial_success(&read_answer(response, until))),
            Some((cause, message)) if matches!(status, 429 | 502 | 503 | 504) => {
                Attempt::Later(cause, message, asked)
            }
            Some((cause, message)) => Attempt::Refused(cause, message),
        }
    }
}
