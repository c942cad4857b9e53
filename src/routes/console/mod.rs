//! Lesson: follow a request. The page at `/` sends requests and shows each one's trace id and links.
//!
//! The links come from settings as templates (`GET /links`): the service knows no viewer.

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{Data, Json};

use crate::settings::Links;

/// The page and what it loads come from here alone.
const POLICY: &str =
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

fn asset(media_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(text)
}

/// The console.
pub async fn page() -> HttpResponse {
    asset("text/html; charset=utf-8", include_str!("index.html"))
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
