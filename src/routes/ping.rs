//! Lesson: nested spans. `GET /ping` goes through four functions, each a span inside the one before.
//!
//! Where to look: the trace shows `receive` → `decide` → `compose` → `send` under the server span.

use actix_web::web::Json;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Pong {
    #[schema(example = "pong")]
    message: &'static str,
}

/// Four nested spans.
#[utoipa::path(get, path = "/ping", tag = "demo",
    responses((status = 200, description = "pong", body = Pong)))]
pub async fn ping() -> Json<Pong> {
    receive().await
}

#[tracing::instrument(name = "receive", skip_all)]
async fn receive() -> Json<Pong> {
    decide().await
}

#[tracing::instrument(name = "decide", skip_all)]
async fn decide() -> Json<Pong> {
    Json(compose().await)
}

#[tracing::instrument(name = "compose", skip_all)]
async fn compose() -> Pong {
    send().await
}

#[tracing::instrument(name = "send", skip_all)]
async fn send() -> Pong {
    tracing::info!("pong");
    Pong { message: "pong" }
}
