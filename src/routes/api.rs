//! Lesson: attributes from closed sets. `GET /api?sc=&delay_ms=` answers the status it is asked for.
//!
//! Where to look: the span, the access log and `http.server.request.duration` carry `signalbox.client.id`: the caller's
//! `Client-ID` if it is on the configured list, else `other`. A caller cannot invent a metric series.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Kind};
use crate::limits::bounded;
use crate::settings::ClientIds;
use signalbox_telemetry::actix::annotate;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Status to answer with.
    #[param(value_type = Option<i32>, minimum = 200, maximum = 599, default = 200)]
    sc: Option<String>,
    /// Milliseconds to wait first. Absent: a random number up to 500.
    #[param(value_type = Option<i32>, minimum = 0, maximum = 5000)]
    delay_ms: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Answer {
    /// The status that was asked for.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// Milliseconds waited.
    #[schema(minimum = 0, maximum = 5000)]
    delay_ms: u32,
    /// The client id as the signals carry it.
    #[schema(example = "11111")]
    client_id: String,
}

/// A status of your choice.
#[utoipa::path(get, path = "/api", tag = "demo",
    params(Params, ("Client-ID" = Option<String>, Header, description = "Who calls; recorded if it is on the configured list")),
    responses(
        (status = 200, description = "As asked", body = Answer),
        (status = 204, description = "As asked, without a body"),
        (status = 304, description = "As asked, without a body"),
        (status = "2XX", description = "As asked", body = Answer),
        (status = "3XX", description = "As asked", body = Answer),
        (status = "4XX", description = "As asked", body = crate::error::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "As asked", body = crate::error::Problem, content_type = "application/problem+json"),
    ))]
pub async fn api(
    request: HttpRequest,
    params: web::Query<Params>,
    clients: web::Data<ClientIds>,
) -> Result<HttpResponse, Error> {
    let asked = bounded("sc", params.sc.as_deref(), 200, 200..=599)?;
    let random = fastrand::u32(0..=500);
    let delay_ms = bounded("delay_ms", params.delay_ms.as_deref(), random, 0..=5000)?;
    let asked = u16::try_from(asked).unwrap_or_default();
    let status = StatusCode::from_u16(asked)
        .map_err(|_| Error::out_of_range("sc", "a whole number, 200 to 599"))?;

    let header = request.headers().get("client-id");
    let client_id = clients.admit(header.and_then(|id| id.to_str().ok()));
    annotate("signalbox.client.id", client_id.to_owned());

    tokio::time::sleep(Duration::from_millis(delay_ms.into())).await;
    tracing::info!(
        signalbox.client.id = client_id,
        "answering {asked} after {delay_ms} ms"
    );
    if status.is_client_error() || status.is_server_error() {
        return Err(Error::new(
            Kind::Requested(status),
            "this status was asked for",
        ));
    }
    let mut answer = HttpResponse::build(status);
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok(answer.finish());
    }
    Ok(answer.json(Answer {
        status: asked,
        delay_ms,
        client_id: client_id.to_owned(),
    }))
}
