//! Errors: each has a status, a problem document (RFC 9457) and one log record, both written at the edge.
//!
//! Routes and deps return [`Error`] and log nothing about it. [`edge`] is the one place that every answer passes, so the
//! HTTP library's own errors (unknown path, malformed JSON, oversized body) become problem documents there too.

use std::error::Error as StdError;
use std::fmt;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use signalbox_telemetry::actix::{self, annotate};
pub use signalbox_telemetry::causes;
use signalbox_telemetry::context;

/// What went wrong, as a closed set: the last part of a problem's `type` and the `error.type` of its signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: a parameter or the body cannot be read.
    InvalidRequest,
    /// 404: no such path, or nothing of that name.
    NotFound,
    /// 405: the path does not know the method.
    MethodNotAllowed,
    /// 413: beyond the limit of a body.
    BodyTooLarge,
    /// 414: beyond the limit of a URI.
    UriTooLong,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 422: well formed, but out of bounds.
    Unprocessable,
    /// 429: beyond the limit of requests a second.
    RateLimited,
    /// 431: beyond the limit of headers.
    HeadersTooLarge,
    /// 500: our own fault, such as a panic.
    Internal,
    /// 500: the database answered with an error.
    DatabaseFailed,
    /// 500: on purpose, by `?fault=` or the settings.
    InjectedFault,
    /// 503: too many requests at once, or no free place for one of this kind.
    Overloaded,
    /// 503: the memory demo would hold more than it may.
    MemoryBudget,
    /// 503: what is needed for the answer is away.
    DependencyUnavailable,
    /// 503: the database answers, and takes no writes.
    ReadOnly,
    /// 507: the database has no room left for what was to be written.
    StorageFull,
    /// 504: the request, or a statement of it, took too long.
    DeadlineExceeded,
    /// `/api?sc=` was asked for this status.
    Requested(StatusCode),
}

impl Kind {
    /// Status, code and title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "Invalid request",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "No such resource"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "Request body too large",
            ),
            Self::UriTooLong => (
                StatusCode::URI_TOO_LONG,
                "uri-too-long",
                "Request URI too long",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Unsupported media type",
            ),
            Self::Unprocessable => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "unprocessable",
                "Values not allowed",
            ),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many requests",
            ),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers-too-large",
                "Request headers too large",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
            ),
            Self::DatabaseFailed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "database-failed",
                "Database operation failed",
            ),
            Self::InjectedFault => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "injected-fault",
                "Injected fault",
            ),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::MemoryBudget => (
                StatusCode::SERVICE_UNAVAILABLE,
                "memory-budget",
                "Memory budget exhausted",
            ),
            Self::DependencyUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "dependency-unavailable",
                "Dependency unavailable",
            ),
            Self::ReadOnly => (
                StatusCode::SERVICE_UNAVAILABLE,
                "database-read-only",
                "Database is read-only",
            ),
            Self::StorageFull => (
                StatusCode::INSUFFICIENT_STORAGE,
                "storage-full",
                "No room left to store",
            ),
            Self::DeadlineExceeded => (
                StatusCode::GATEWAY_TIMEOUT,
                "deadline-exceeded",
                "Deadline exceeded",
            ),
            Self::Requested(status) => (status, "requested-status", "Requested status"),
        }
    }

    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// Its name in signals and in the problem's `type`.
    pub fn code(self) -> &'static str {
        self.parts().1
    }

    /// The kind of an error that the HTTP library answered with `status`.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::InvalidRequest,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::INTERNAL_SERVER_ERROR => Self::Internal,
            other => Self::Requested(other),
        }
    }
}

/// An error on its way to the edge.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    detail: String,
    cause: Option<Cause>,
    extensions: Map<String, Value>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Error {
    /// An error whose `detail` the caller may read.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            cause: None,
            extensions: Map::new(),
            header: None,
        }
    }

    /// Adds a header to the answer: `Allow`, `Retry-After`.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Keeps its cause for log and span; the caller does not see it.
    pub fn because(mut self, cause: impl StdError) -> Self {
        self.cause = Some(Cause(causes(&cause)));
        self
    }

    /// Adds to what the caller reads.
    pub fn explained(mut self, more: &str) -> Self {
        self.detail.push_str(more);
        self
    }

    /// Adds a member to the problem document.
    pub fn with(mut self, member: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.extensions.insert(member.to_owned(), value);
        self
    }

    /// `name` is outside its range.
    pub fn out_of_range(name: &str, allowed: impl fmt::Display) -> Self {
        Self::new(Kind::InvalidRequest, format!("{name} must be {allowed}"))
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_ref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// What was behind an error, in words.
#[derive(Debug)]
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    /// Without a body: [`edge`] writes it.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        if let Some((name, value)) = &self.header {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}

impl From<JsonPayloadError> for Error {
    fn from(error: JsonPayloadError) -> Self {
        let kind = match &error {
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
                Kind::BodyTooLarge
            }
            JsonPayloadError::ContentType => Kind::UnsupportedMediaType,
            JsonPayloadError::Deserialize(error) if error.is_data() => Kind::Unprocessable,
            _ => Kind::InvalidRequest,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<QueryPayloadError> for Error {
    fn from(error: QueryPayloadError) -> Self {
        Self::new(Kind::InvalidRequest, error.to_string())
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::new(Kind::InvalidRequest, error.to_string())
    }
}

impl From<actix_web::error::BlockingError> for Error {
    fn from(error: actix_web::error::BlockingError) -> Self {
        Self::new(Kind::Internal, "work on a blocking thread did not finish").because(error)
    }
}

/// A problem document. Further members depend on its type.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:signalbox:problem:` and the code of the error.
    #[serde(rename = "type")]
    #[schema(example = "urn:signalbox:problem:invalid-request")]
    kind: String,
    /// The kind of error, in words.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// What was wrong with this request.
    detail: String,
    /// The path that was asked.
    instance: String,
    /// Trace of the request, 32 hex digits. Absent when tracing is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// Id of the request, also in `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    extensions: Map<String, Value>,
}

/// Media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Turns every error that leaves the app into one problem document and one log record.
pub async fn edge<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let response = next.call(request).await?;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let own;
        let error = match response.response().error() {
            Some(error) if error.as_error::<Error>().is_some() => error.as_error::<Error>(),
            other => {
                let detail = other.map_or_else(
                    || match status {
                        StatusCode::NOT_FOUND => "nothing is served at this path".to_owned(),
                        _ => status.canonical_reason().unwrap_or("error").to_owned(),
                    },
                    ToString::to_string,
                );
                own = Error::new(Kind::of_status(status), detail);
                Some(&own)
            }
        };
        if let Some(error) = error {
            report(error);
            let document = document(error, response.request());
            return Ok(answer(response, status, &document).map_into_right_body());
        }
    }
    Ok(response.map_into_left_body())
}

/// One log record an error; a server error is also an exception on the span.
fn report(error: &Error) {
    let status = i64::from(error.kind.status().as_u16());
    let code = error.kind.code();
    if error.kind.status().is_server_error() {
        annotate("error.type", code);
        context::record_exception(error);
        let cause = error.cause.as_ref();
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        tracing::error!(http.response.status_code = status, error.type = code, "request failed: {error}{cause}");
    } else {
        tracing::info!(http.response.status_code = status, error.type = code, "request refused: {error}");
    }
}

fn document(error: &Error, request: &HttpRequest) -> Problem {
    let (status, code, title) = error.kind.parts();
    Problem {
        kind: format!("urn:signalbox:problem:{code}"),
        title,
        status: status.as_u16(),
        detail: error.detail.clone(),
        instance: request.path().to_owned(),
        trace_id: context::current().map(|ids| ids.trace_id),
        request_id: actix::current().map(|request| request.id().to_owned()),
        extensions: error.extensions.clone(),
    }
}

/// `response` with its headers kept (`Allow`, `Retry-After`, …) and the problem document as its body.
fn answer<B>(
    response: ServiceResponse<B>,
    status: StatusCode,
    problem: &Problem,
) -> ServiceResponse {
    let (request, old) = response.into_parts();
    let mut new = HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, PROBLEM_JSON))
        .json(problem);
    for (name, value) in old.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            new.headers_mut().append(name.clone(), value.clone());
        }
    }
    ServiceResponse::new(request, new)
}
