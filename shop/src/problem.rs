//! Error → status and text, recorded once on the request's span.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use signalbox_telemetry::context;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("the basket is empty")]
    EmptyBasket,
    #[error("the payment was refused")]
    Refused,
    #[error("no connection to the database became free in time")]
    NoConnection,
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the payment service failed: {0}")]
    Payment(String),
    #[error("no rule for cards of the brand {0}")]
    NoRule(String),
    #[error("{0}")]
    Failed(String),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::EmptyBasket => StatusCode::CONFLICT,
            Self::Refused => StatusCode::PAYMENT_REQUIRED,
            Self::NoConnection => StatusCode::SERVICE_UNAVAILABLE,
            Self::Payment(_) => StatusCode::BAD_GATEWAY,
            Self::Database(_) | Self::NoRule(_) | Self::Failed(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            context::record_exception(&self);
            tracing::error!("{self}");
        } else {
            tracing::info!("{self}");
        }
        (status, format!("{self}\n")).into_response()
    }
}

/// A value as the JSON body of an answer.
pub fn json(value: &impl serde::Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(value).map_err(|error| Problem::Failed(error.to_string()))?;
    Ok(([("content-type", "application/json")], text).into_response())
}
