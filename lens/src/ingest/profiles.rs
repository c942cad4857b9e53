//! Pyroscope's push, as its clients and Alloy send it.

use actix_web::{HttpRequest, HttpResponse, web};
use prost::Message;

use super::{Encoding, Limits, decoded, now_ns};
use crate::pprof::{PushRequest, Unreadable};
use crate::problem::Problem;
use crate::store::profiles::ProfileRow;
use crate::store::{Rows, Store};

/// `POST /push.v1.PusherService/Push`
pub async fn push(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
) -> Result<HttpResponse, Problem> {
    if Encoding::of(&request)? == Encoding::Json {
        return Err(Problem::UnsupportedMediaType(
            "profiles are taken as application/proto only".to_owned(),
        ));
    }
    let mut budget = limits.decoded_bytes;
    let rows = decoded(&request, payload, &limits, move |body| {
        let message = PushRequest::decode(body)
            .map_err(|error| Problem::BadRequest(format!("not a push message: {error}")))?;
        let now = now_ns();
        let mut rows = Vec::new();
        for series in message.series {
            rows.extend(ProfileRow::of_series(series, &mut budget, now).map_err(
                |error| match error {
                    Unreadable::TooLarge(_) => Problem::TooLarge(error.to_string()),
                    _ => Problem::BadRequest(error.to_string()),
                },
            )?);
        }
        Ok(rows)
    })
    .await?;
    store.write(Vec::new(), Rows::Profiles(rows)).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/proto")
        .body(Vec::new()))
}
