//! What can go wrong in a request, as an RFC 9457 problem document.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

/// A request that could not be served. The text is the problem's `detail`.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    BadRequest(String),
    #[error("the host {0:?} is not one of this viewer's names; LENS_ALLOWED_HOSTS adds one")]
    HostNotAllowed(String),
    #[error("{0}")]
    NotFound(String),
    #[error("this path answers to {0} only")]
    Method(&'static str),
    #[error("the body took longer than 10 s to arrive")]
    Slow,
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    UnsupportedMediaType(String),
    #[error("the store has more to write than it can hold; send it again later")]
    Busy,
    #[error("the store failed; its cause is in the viewer's own output")]
    Store(#[from] sqlx::Error),
}

impl Problem {
    /// A request that asks for what cannot be; `why` says what can.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::BadRequest(why.into())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HostNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // 503 is among the answers after which OTLP exporters try again.
            Self::Busy | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        if let Self::Store(cause) = self {
            eprintln!("lens: the store failed: {cause}");
        }
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        response.body(
            json!({"type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": self.to_string()}).to_string(),
        )
    }
}
