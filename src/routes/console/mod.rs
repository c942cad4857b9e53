//! Lesson: follow a request. The page at `/` sends requests and shows each one's trace id and links.
//!
//! The links come from settings as templates (`GET /links`): the service knows no viewer. `GET /go/…` fills them in. Without
//! JavaScript each button opens the plain answer, and the page links to the signals of the one request it knows by itself: its own.

pub mod faro;
pub mod go;
mod page;

use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};

use crate::settings::Links;
use faro::Faro;
use go::Facts;
use signalbox_telemetry::RequestHandle;
use signalbox_telemetry::context;

/// The page and what it loads come from here alone.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

fn asset(media_type: &'static str, text: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(text.into())
}

/// The console.
pub async fn page(
    request: HttpRequest,
    links: Data<Links>,
    faro: Data<Faro>,
    handle: Option<RequestHandle>,
) -> HttpResponse {
    let ids = context::current();
    let (trace_id, span_id) = ids
        .map(|ids| (ids.trace_id, ids.span_id))
        .unwrap_or_default();
    let request_id = handle
        .map(|handle| handle.id().to_owned())
        .unwrap_or_default();
    let route = request.match_pattern().unwrap_or_default();
    let facts = Facts::now(trace_id, span_id, request_id, route);
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((
            CONTENT_SECURITY_POLICY,
            format!("{POLICY}{}", faro.policy()),
        ))
        .body(page::render(&links, &faro, &facts))
}

/// Its style.
pub async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", include_str!("console.css"))
}

/// Its script.
pub async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", include_str!("console.js"))
}

/// URL templates of the links from a request to its signals.
#[utoipa::path(get, path = "/links", tag = "operations",
    responses((status = 200, description = "Templates; null where none is configured", body = Links)))]
pub async fn links(links: Data<Links>) -> Json<Links> {
    Json(links.as_ref().clone())
}
