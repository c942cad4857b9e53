//! A reverse proxy that hands on only the headers of its list, as many do. The trace's are not on it.

use std::net::TcpListener;

use actix_web::http::header;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use reqwest::Client;

/// What is handed on.
const ALLOWED: [header::HeaderName; 4] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
];

struct Behind {
    client: Client,
    url: String,
}

/// Serves on `listener`, for what is at `url`.
pub fn start(
    listener: TcpListener,
    client: Client,
    url: String,
) -> std::io::Result<actix_web::dev::Server> {
    let behind = web::Data::new(Behind { client, url });
    let app = move || {
        App::new()
            .app_data(behind.clone())
            .default_service(web::to(hand_on))
    };
    Ok(HttpServer::new(app)
        .workers(1)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run())
}

async fn hand_on(
    request: HttpRequest,
    body: web::Bytes,
    behind: web::Data<Behind>,
) -> HttpResponse {
    let method =
        reqwest::Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or_default();
    let mut call = behind
        .client
        .request(method, format!("{}{}", behind.url, request.uri()));
    for name in &ALLOWED {
        if let Some(value) = request.headers().get(name) {
            call = call.header(name.as_str(), value.as_bytes());
        }
    }
    let Ok(answer) = call.body(body).send().await else {
        return HttpResponse::BadGateway().finish();
    };
    let status =
        actix_web::http::StatusCode::from_u16(answer.status().as_u16()).unwrap_or_default();
    match answer.bytes().await {
        Ok(body) => HttpResponse::build(status).body(body),
        Err(_) => HttpResponse::BadGateway().finish(),
    }
}
