//! axum's server side records what actix-web's does.
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, MatchedPath};
use axum::http::{Request, Response, StatusCode};
use axum::{Router, routing::get};
use futures_util::FutureExt;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use signalbox_telemetry::testing::{self, Capture, message, record_attribute, span_attribute};
use signalbox_telemetry::{RequestHandle, context, tower::Instrument};
use tower::ServiceExt;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A capture of its own, for what this thread does until the guard is dropped.
fn capture() -> (Capture, DefaultGuard) {
    let capture = testing::start(&[("RUST_LOG", "debug")]);
    let subscriber = registry().with(capture.layer());
    (capture, tracing::subscriber::set_default(subscriber))
}

async fn nested(Extension(handle): Extension<RequestHandle>) -> &'static str {
    handle.annotate("test.client", "a");
    tracing::info_span!("inner").in_scope(|| tracing::info!("inside"));
    "ok"
}

async fn broken() -> StatusCode {
    context::record_exception(&std::io::Error::other("no disk"));
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Tells that it was dropped.
struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        tracing::info!("dropped");
    }
}

async fn slow() {
    let _dropped = Dropped;
    std::future::pending().await
}

fn router() -> Router {
    let instrument = Instrument::new()
        .route(|extensions| Some(extensions.get::<MatchedPath>()?.as_str()))
        .peer(|_| Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    Router::new()
        .route("/items/{id}", get(nested))
        .route("/broken", get(broken))
        .route("/slow", get(slow))
        .route(
            "/panic",
            get(async || assert!(std::env::args().count() == 0, "on purpose")),
        )
        .layer(instrument)
}

fn request(uri: &str) -> Request<Body> {
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let request = Request::get(uri).header("host", "shop.example:8443");
    request
        .header("traceparent", parent)
        .body(Body::empty())
        .unwrap()
}

async fn serve(uri: &str) -> Response<impl Sized> {
    router().oneshot(request(uri)).await.unwrap()
}

fn server_span(capture: &Capture) -> SpanData {
    let mut spans = capture.spans(TRACE).into_iter();
    spans
        .find(|span| span.span_kind == SpanKind::Server)
        .unwrap()
}

fn counted(capture: &Capture, labels: &[&str]) -> bool {
    let page = capture.openmetrics();
    page.lines().any(|line| {
        line.starts_with("http_server_request_duration_seconds_count{")
            && labels.iter().all(|label| line.contains(label))
            && line.ends_with(" 1")
    })
}

#[tokio::test]
async fn a_request_is_a_span_a_record_and_a_point() {
    let (capture, _default) = capture();
    let response = serve("/items/7?sig=x").await;
    assert_eq!(response.status(), 200);
    let header = |name| response.headers()[name].to_str().unwrap().to_owned();
    let (id, ids) = (header("x-request-id"), header("traceresponse"));
    assert_eq!(id.len(), 32);
    drop(response); // the span lasts as long as the body

    let span = server_span(&capture);
    assert_eq!(span.name, "GET /items/{id}");
    assert_eq!(
        ids,
        format!("00-{TRACE}-{}-01", span.span_context.span_id())
    );
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/items/{id}"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("url.path", "/items/7"),
        ("url.query", "sig=REDACTED"),
        ("server.address", "shop.example"),
        ("server.port", "8443"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("test.client", "a"),
    ] {
        assert_eq!(span_attribute(&span, key).as_deref(), Some(value), "{key}");
    }
    let records = capture.records(TRACE);
    let messages: Vec<_> = records.iter().map(message).collect();
    assert_eq!(messages, ["inside", "GET /items/{id} 200"]);
    for record in &records {
        assert_eq!(
            record_attribute(record, "test.request.id").as_deref(),
            Some(id.as_str())
        );
    }
    assert_eq!(records[1].event_name(), Some("test.request"));
    assert!(counted(
        &capture,
        &["http_route=\"/items/{id}\"", "test_client=\"a\""]
    ));
    let page = capture.openmetrics();
    assert!(
        page.contains(&format!("# {{trace_id=\"{TRACE}\"")),
        "its exemplar is there"
    );
    let active = "http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 0";
    assert!(page.contains(active));
}

#[tokio::test]
async fn an_error_a_panic_and_a_cancelled_request_are_told_apart() {
    {
        let (capture, _default) = capture();
        assert_eq!(serve("/broken").await.status(), 500);
        let span = server_span(&capture);
        assert_eq!(span.name, "GET /broken");
        assert_eq!(span_attribute(&span, "error.type").as_deref(), Some("500"));
        assert_eq!(span.events.events[0].name, "exception");
        assert_eq!(capture.records(TRACE)[0].severity_text(), Some("WARN"));
    }
    {
        let (capture, _default) = capture();
        let call = std::panic::AssertUnwindSafe(serve("/panic"));
        assert!(call.catch_unwind().await.is_err());
        let span = server_span(&capture);
        assert_eq!(
            (span.name.as_ref(), &span.status),
            ("GET /panic", &Status::error(""))
        );
        assert_eq!(
            span_attribute(&span, "error.type").as_deref(),
            Some("panic")
        );
        assert!(counted(
            &capture,
            &["http_route=\"/panic\"", "error_type=\"panic\""]
        ));
    }
    {
        let (capture, _default) = capture();
        {
            let mut call = std::pin::pin!(serve("/slow"));
            assert!(futures_util::poll!(call.as_mut()).is_pending());
        }
        let span = server_span(&capture);
        assert_eq!(
            (span.name.as_ref(), &span.status),
            ("GET /slow", &Status::Unset)
        );
        assert_eq!(
            span_attribute(&span, "error.type").as_deref(),
            Some("cancelled")
        );
        assert!(counted(
            &capture,
            &["http_route=\"/slow\"", "error_type=\"cancelled\""]
        ));
        let records = capture.records(TRACE);
        let messages: Vec<_> = records.iter().map(message).collect();
        assert_eq!(messages, ["dropped", "GET /slow cancelled"]);
        let id = span_attribute(&span, "test.request.id");
        for record in &records {
            assert_eq!(record_attribute(record, "test.request.id"), id);
        }
    }
}

#[tokio::test]
async fn what_no_route_matches_has_no_route() {
    let (capture, _default) = capture();
    assert_eq!(serve("/none").await.status(), 404);
    let span = server_span(&capture);
    assert_eq!((span.name.as_ref(), &span.status), ("GET", &Status::Unset));
    assert_eq!(span_attribute(&span, "http.route"), None);
}

#[test]
fn what_the_program_learns_of_a_refusal_is_recorded() {
    let (capture, _default) = capture();
    let began = Instant::now();
    let peer = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Instrument::new().unseen(Some(431), peer, began);
    Instrument::new().unseen(None, peer, began);
    let messages: Vec<_> = capture.all_records().iter().map(message).collect();
    assert_eq!(messages, ["unread request 431", "unread request cancelled"]);
    let spans = capture.all_spans();
    assert_eq!(spans.len(), 2);
    for (span, key, value) in [
        (&spans[0], "http.response.status_code", "431"),
        (&spans[1], "error.type", "cancelled"),
    ] {
        assert_eq!((&*span.name, &span.span_kind), ("HTTP", &SpanKind::Server));
        assert_eq!(span_attribute(span, key).as_deref(), Some(value));
        let client = span_attribute(span, "client.address");
        assert_eq!(client.as_deref(), Some("127.0.0.1"));
        assert_eq!(span_attribute(span, "url.path"), None);
    }
    for label in [
        "http_response_status_code=\"431\"",
        "error_type=\"cancelled\"",
    ] {
        assert!(counted(
            &capture,
            &["http_request_method=\"_OTHER\"", label]
        ));
    }
}
