use std::collections::HashMap;
use std::io::{Read, Write};

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};

use super::*;
use crate::http::server::RequestHandle;
use crate::signals::context;
use crate::testing::{self, capture, message, record_attribute, span_attribute};
use actix_web::{App, HttpRequest, HttpResponse, test, web};
use futures_util::FutureExt as _;
use opentelemetry_sdk::trace::SpanData;

async fn nested(id: web::Path<u32>) -> HttpResponse {
    annotate("test.client", "a");
    let span = tracing::info_span!("inner", otel.kind = "client", answer = 42);
    span.in_scope(|| tracing::info!(id = *id, ok = true, "inside"));
    HttpResponse::Ok().finish()
}

async fn broken() -> HttpResponse {
    annotate("error.type", "database-failed");
    let error = std::io::Error::other("no disk");
    context::record_exception(&error);
    HttpResponse::InternalServerError().finish()
}

/// Serves one request and returns its trace id, status and `x-request-id`.
async fn serve(request: test::TestRequest) -> (String, StatusCode, String) {
    capture();
    let app = App::new()
        .wrap(Instrument::new())
        .route("/items/{id}", web::get().to(nested))
        .route("/alone/{id}", web::get().to(nested))
        .route("/broken", web::get().to(broken))
        .route(
            "/refused",
            web::get()
                .to(|| async { Err::<HttpResponse, _>(actix_web::error::ErrorBadGateway("x")) }),
        );
    let app = test::init_service(app).await;
    let response = test::call_service(&app, request.to_request()).await;
    let header = |name: HeaderName| {
        response
            .headers()
            .get(name)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let trace = header(NAMES[Header::TraceResponse as usize].clone())
        .split('-')
        .nth(1)
        .unwrap()
        .to_owned();
    (trace, response.status(), header(NAMES[0].clone()))
}

fn server_span(trace: &str) -> SpanData {
    span_of(trace, SpanKind::Server)
}

fn span_of(trace: &str, kind: SpanKind) -> SpanData {
    let mut spans = capture().spans(trace).into_iter();
    spans.find(|span| span.span_kind == kind).unwrap()
}

/// Requests in the duration metric whose labels include these.
fn counted(labels: &[&str]) -> u64 {
    let page = capture().openmetrics();
    let counts = page.lines().filter(|line| {
        line.starts_with("http_server_request_duration_seconds_count{")
            && labels.iter().all(|label| line.contains(label))
    });
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[actix_web::test]
async fn a_request_is_a_span_a_record_and_a_point() {
    // A route of its own: a bucket of a series has one exemplar, whichever test it is of.
    let request = test::TestRequest::get()
        .uri("/alone/7?full=1&sig=x")
        .insert_header(("host", "shop.example:8443"))
        .insert_header(("user-agent", "probe/1"))
        .peer_addr("127.0.0.1:4711".parse().unwrap())
        .insert_header(("x-forwarded-for", "192.0.2.1, 10.0.0.1"));
    let (trace, status, id) = serve(request).await;
    assert_eq!(status, 200);
    assert_eq!(id.len(), 32);

    let span = server_span(&trace);
    assert_eq!(span.name, "GET /alone/{id}");
    assert_eq!(span.status, Status::Unset);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/alone/{id}"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("url.path", "/alone/7"),
        ("url.query", "full=1&sig=REDACTED"),
        ("server.address", "shop.example"),
        ("server.port", "8443"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "probe/1"),
        ("network.protocol.version", "1.1"),
        ("test.client", "a"),
    ] {
        assert_eq!(span_attribute(&span, key).as_deref(), Some(value), "{key}");
    }
    assert!(span.events.events.is_empty());

    let spans = capture().spans(&trace);
    let inner = spans.iter().find(|span| span.name == "inner").unwrap();
    assert_eq!(inner.parent_span_id, span.span_context.span_id());
    assert_eq!(inner.span_kind, SpanKind::Client);
    assert_eq!(span_attribute(inner, "answer").as_deref(), Some("42"));

    let records = capture().records(&trace);
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!(
            record_attribute(record, "test.request.id").as_deref(),
            Some(id.as_str())
        );
    }
    let [inside, access] = &records[..] else {
        panic!("two records")
    };
    assert_eq!(message(inside), "inside");
    assert_eq!(record_attribute(inside, "id").as_deref(), Some("7"));
    assert_eq!(record_attribute(inside, "ok").as_deref(), Some("true"));
    assert_eq!(
        inside.trace_context().unwrap().span_id,
        inner.span_context.span_id()
    );
    assert_eq!(inside.event_name(), None);
    assert_eq!(message(access), "GET /alone/{id} 200");
    assert_eq!(access.event_name(), Some("test.request"));
    assert_eq!(
        access.trace_context().unwrap().span_id,
        span.span_context.span_id()
    );
    assert_eq!(
        record_attribute(access, "url.path").as_deref(),
        Some("/alone/7")
    );
    assert_eq!(
        record_attribute(access, "test.client").as_deref(),
        Some("a")
    );
    assert!(
        record_attribute(access, "test.request.duration_ms")
            .unwrap()
            .parse::<f64>()
            .unwrap()
            >= 0.0
    );

    let page = capture().openmetrics();
    let line = page.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_bucket")
            && line.contains("http_route=\"/alone/{id}\"")
    });
    assert!(line.unwrap().contains("test_client=\"a\""));
    assert!(
        page.contains(&format!("# {{trace_id=\"{trace}\"")),
        "its exemplar is there"
    );
    assert!(
        page.contains(
            "http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} "
        )
    );
}

fn current_id() -> Option<String> {
    current().map(|request| request.id().to_owned())
}

fn with_id(path: &str, id: &'static str) -> actix_http::Request {
    let request = test::TestRequest::get().uri(path);
    request.insert_header(("x-request-id", id)).to_request()
}

/// The ids that a handler and a middleware around it see before and after they wait.
#[actix_web::test]
async fn each_of_two_requests_of_a_thread_has_its_own_handle() {
    capture();
    async fn handler(handle: RequestHandle) -> String {
        let before = current_id();
        actix_web::rt::task::yield_now().await;
        annotate("test.client", "b");
        format!("{} {before:?} {:?}", handle.id(), current_id())
    }
    let app = App::new()
        .route("/turns", web::get().to(handler))
        .wrap_fn(|request, service| {
            let called = current_id();
            let answer = service.call(request);
            async move {
                let mut answer = answer.await?;
                let ids = format!("{called:?} {:?}", current_id());
                let ids = HeaderValue::from_str(&ids).unwrap();
                answer
                    .headers_mut()
                    .insert(HeaderName::from_static("x-around"), ids);
                Ok(answer)
            }
        })
        .wrap(Instrument::new());
    let app = test::init_service(app).await;
    let call = |id| test::call_service(&app, with_id("/turns", id));
    // Polled in turns: the second begins before the first goes on.
    let (first, second) = futures_util::join!(call("first"), call("second"));
    for (answer, id) in [(first, "first"), (second, "second")] {
        let headers = answer.headers().clone();
        let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(header("x-request-id"), id);
        assert_eq!(header("x-around"), format!("Some({id:?}) Some({id:?})"));
        let inside = test::read_body(answer).await;
        assert_eq!(inside, format!("{id} Some({id:?}) Some({id:?})"));
        // The span has ended with the body.
        let span = server_span(header("traceresponse").split('-').nth(1).unwrap());
        assert_eq!(span_attribute(&span, "test.client").as_deref(), Some("b"));
    }
    assert_eq!(counted(&["http_route=\"/turns\"", "test_client=\"b\""]), 2);
    assert_eq!(current_id(), None);
}

#[actix_web::test]
async fn a_request_inside_another_and_a_panic_give_the_thread_back() {
    capture();
    async fn outer() -> String {
        let inner = || async { current_id().unwrap_or_default() };
        let stop = || async { panic!("on purpose") as HttpResponse };
        let app = App::new()
            .wrap(Instrument::new())
            .route("/inner", web::get().to(inner))
            .route("/stop", web::get().to(stop));
        let app = test::init_service(app).await;
        let inner = test::call_and_read_body(&app, with_id("/inner", "inner")).await;
        let between = current_id();
        let stopped = test::call_service(&app, with_id("/stop", "stop"));
        let stopped = std::panic::AssertUnwindSafe(stopped).catch_unwind().await;
        assert!(stopped.is_err());
        let inner = str::from_utf8(&inner).unwrap();
        format!("{inner} {between:?} {:?}", current_id())
    }
    let app = App::new()
        .wrap(Instrument::new())
        .route("/outer", web::get().to(outer));
    let app = test::init_service(app).await;
    let seen = test::call_and_read_body(&app, with_id("/outer", "outer")).await;
    assert_eq!(seen, "inner Some(\"outer\") Some(\"outer\")");
    assert_eq!(current_id(), None);
}

#[actix_web::test]
async fn a_task_that_a_handler_starts_takes_the_handle_along() {
    capture();
    async fn handler(handle: RequestHandle) -> String {
        let task = actix_web::rt::spawn(async move {
            annotate("test.lost", "a");
            handle.annotate("test.client", "task");
            (handle.id().to_owned(), current_id())
        });
        format!("{:?}", task.await.unwrap())
    }
    let app = App::new()
        .wrap(Instrument::new())
        .route("/task", web::get().to(handler));
    let app = test::init_service(app).await;
    let seen = test::call_and_read_body(&app, with_id("/task", "t")).await;
    assert_eq!(seen, "(\"t\", None)");
    let labels = ["http_route=\"/task\"", "test_client=\"task\""];
    assert_eq!(counted(&labels), 1);
    assert_eq!(counted(&["test_lost"]), 0);
}

#[actix_web::test]
async fn an_app_without_the_middleware_has_no_handle() {
    let wants = |_: RequestHandle| async { "served" };
    let asks = |handle: Option<RequestHandle>| async move {
        annotate("test.client", "a");
        format!("{:?}", handle.map(|handle| handle.id().to_owned()))
    };
    let app = App::new()
        .route("/wants", web::get().to(wants))
        .route("/asks", web::get().to(asks));
    let app = test::init_service(app).await;
    let answer = test::call_service(&app, with_id("/wants", "a")).await;
    assert_eq!(answer.status(), 500);
    let said = test::read_body(answer).await;
    let said = str::from_utf8(&said).unwrap();
    assert!(
        said.contains("not wrapped in signalbox_telemetry's Instrument"),
        "{said}"
    );
    let seen = test::call_and_read_body(&app, with_id("/asks", "a")).await;
    assert_eq!(seen, "None");
}

#[actix_web::test]
async fn a_returned_500_is_an_error_with_its_exception() {
    let (trace, status, _) = serve(test::TestRequest::get().uri("/broken")).await;
    assert_eq!(status, 500);
    let span = server_span(&trace);
    assert_eq!(span.status, Status::error("no disk"));
    assert_eq!(
        span_attribute(&span, "error.type").as_deref(),
        Some("database-failed")
    );
    assert_eq!(
        span_attribute(&span, "http.response.status_code").as_deref(),
        Some("500")
    );
    let event = &span.events.events[0];
    assert_eq!(event.name, "exception");
    assert!(
        event
            .attributes
            .contains(&KeyValue::new("exception.message", "no disk"))
    );
    assert!(
        event
            .attributes
            .contains(&KeyValue::new("exception.type", "std::io::error::Error"))
    );
    assert_eq!(capture().records(&trace)[0].severity_text(), Some("WARN"));

    let (trace, status, _) = serve(test::TestRequest::get().uri("/refused")).await;
    assert_eq!(status, 502);
    assert_eq!(server_span(&trace).status, Status::error(""));
    assert_eq!(
        span_attribute(&server_span(&trace), "error.type").as_deref(),
        Some("502")
    );
}

#[actix_web::test]
async fn what_no_route_matches_has_no_route_and_is_no_error() {
    let method = actix_web::http::Method::from_bytes(b"BREW").unwrap();
    let (trace, status, _) =
        serve(test::TestRequest::default().method(method).uri("/none/1")).await;
    assert_eq!(status, 404);
    let span = server_span(&trace);
    assert_eq!((span.name.as_ref(), &span.status), ("HTTP", &Status::Unset));
    assert_eq!(span_attribute(&span, "http.route"), None);
    assert_eq!(
        span_attribute(&span, "http.request.method").as_deref(),
        Some("_OTHER")
    );
    assert_eq!(
        span_attribute(&span, "http.request.method_original").as_deref(),
        Some("BREW")
    );
}

#[actix_web::test]
async fn a_path_that_a_middleware_inside_changes_has_its_route() {
    capture();
    let app = App::new()
        .route("/items/{id}", web::get().to(nested))
        .wrap(actix_web::middleware::NormalizePath::trim())
        .wrap(Instrument::new());
    let app = test::init_service(app).await;
    let trace = "6bf7651916cd43dd8448eb211c80319c";
    let request = test::TestRequest::get()
        .uri("/items/7/")
        .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
        .to_request();
    assert_eq!(test::call_service(&app, request).await.status(), 200);
    let span = server_span(trace);
    assert_eq!(span.name, "GET /items/{id}");
    for (key, value) in [("http.route", "/items/{id}"), ("url.path", "/items/7/")] {
        assert_eq!(span_attribute(&span, key).as_deref(), Some(value));
    }
    let records = capture().records(trace);
    assert_eq!(message(&records[1]), "GET /items/{id} 200");
}

#[actix_web::test]
async fn the_caller_s_trace_and_request_id_go_on() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = test::TestRequest::get()
        .uri("/items/1")
        .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
        .insert_header(("x-request-id", "caller_1-A"));
    let (seen, _, id) = serve(request).await;
    assert_eq!((seen.as_str(), id.as_str()), (trace, "caller_1-A"));
    let span = server_span(trace);
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(span.parent_span_is_remote);
    assert_eq!(
        span_attribute(&span, "test.request.id").as_deref(),
        Some("caller_1-A")
    );

    for unfit in ["", "a b", "é", &"x".repeat(65)] {
        let request = test::TestRequest::get()
            .uri("/items/1")
            .insert_header(("x-request-id", unfit));
        assert_eq!(serve(request).await.2.len(), 32, "{unfit:?}");
    }
}

#[actix_web::test]
async fn an_unsampled_trace_is_continued_but_not_exported() {
    let trace = "1af7651916cd43dd8448eb211c80319c";
    let request = test::TestRequest::get()
        .uri("/items/1")
        .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-00")));
    assert_eq!(serve(request).await.0, trace);
    assert!(capture().spans(trace).is_empty());
    assert_eq!(
        capture().records(trace).len(),
        2,
        "its records carry the ids all the same"
    );
    assert!(
        !capture().openmetrics().contains(trace),
        "and it is no exemplar"
    );
}

#[actix_web::test]
async fn a_cancelled_request_is_recorded() {
    capture();
    /// Tells the request when it is dropped.
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            annotate("test.client", "first");
            annotate("test.client", "guard");
            annotate("http.route", "/other");
            tracing::info!("dropped");
        }
    }
    async fn slow() -> HttpResponse {
        let _guard = Guard;
        std::future::pending().await
    }
    let app = App::new()
        .wrap(Instrument::new())
        .route("/slow", web::get().to(slow));
    let app = test::init_service(app).await;
    let trace = "2af7651916cd43dd8448eb211c80319c";
    let request = test::TestRequest::get()
        .uri("/slow")
        .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
        .to_request();
    {
        let mut call = std::pin::pin!(test::call_service(&app, request));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
    }
    let span = server_span(trace);
    assert_eq!(span.name, "GET /slow");
    let told = ("test.client", "guard");
    for (key, value) in [("error.type", "cancelled"), ("http.route", "/slow"), told] {
        assert_eq!(span_attribute(&span, key).as_deref(), Some(value));
    }
    assert_eq!(current_id(), None);
    assert_eq!(span.status, Status::Unset);
    let clients = span.attributes.iter();
    let clients = clients.filter(|attribute| attribute.key.as_str() == "test.client");
    assert_eq!(clients.count(), 1, "the last value of a key counts");
    let id = span_attribute(&span, "test.request.id");
    let records = capture().records(trace);
    let messages: Vec<_> = records.iter().map(message).collect();
    assert_eq!(messages, ["dropped", "GET /slow cancelled"]);
    for record in &records {
        assert_eq!(record_attribute(record, "test.request.id"), id);
        let ids = record.trace_context().unwrap();
        assert_eq!(ids.span_id, span.span_context.span_id());
    }
    assert!(counted(&["http_route=\"/slow\"", "test_client=\"guard\""]) >= 1);
}

#[actix_web::test]
async fn a_panic_is_recorded_as_the_handler_s_and_not_the_caller_s() {
    capture();
    let app = App::new().wrap(Instrument::new()).route(
        "/panic",
        web::get().to(|request: HttpRequest| async move {
            assert!(request.path().is_empty(), "on purpose");
            HttpResponse::Ok().finish()
        }),
    );
    let app = test::init_service(app).await;
    let trace = "3af7651916cd43dd8448eb211c80319c";
    let request = test::TestRequest::get()
        .uri("/panic")
        .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
        .to_request();
    let call = std::panic::AssertUnwindSafe(test::call_service(&app, request));
    assert!(call.catch_unwind().await.is_err());
    let span = server_span(trace);
    assert_eq!(span.name, "GET /panic");
    for (key, value) in [("error.type", "panic"), ("http.route", "/panic")] {
        assert_eq!(span_attribute(&span, key).as_deref(), Some(value));
    }
    assert!(counted(&["http_route=\"/panic\"", "error_type=\"panic\""]) >= 1);
    assert_eq!(span.status, Status::error(""));
    let record = &capture().records(trace)[0];
    assert_eq!(record.severity_text(), Some("WARN"));
    assert_eq!(
        record_attribute(record, "test.request.id"),
        span_attribute(&span, "test.request.id")
    );
}

#[actix_web::test]
async fn a_count_of_active_requests_goes_back_to_zero() {
    capture();
    let app = App::new().wrap(Instrument::new()).route(
        "/slow",
        web::patch().to(std::future::pending::<HttpResponse>),
    );
    let app = test::init_service(app).await;
    let active = || {
        let page = capture().openmetrics();
        let labels = "{http_request_method=\"PATCH\",url_scheme=\"http\"} ";
        let mut lines = page.lines().filter(|line| line.contains("active_requests"));
        lines.find_map(|line| Some(line.split_once(labels)?.1.to_owned()))
    };
    assert_eq!(active(), None);
    {
        let request = test::TestRequest::patch().uri("/slow").to_request();
        let mut call = std::pin::pin!(test::call_service(&app, request));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        assert_eq!(active().as_deref(), Some("1"));
    }
    assert_eq!(active().as_deref(), Some("0"));
}

#[actix_web::test]
async fn an_outbound_call_is_a_child_and_passes_the_context_on() {
    capture();
    let server = actix_web::HttpServer::new(|| {
        App::new()
            .wrap(Instrument::new())
            .route("/items/{id}", web::get().to(nested))
    });
    let server = server
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
    let port = server.addrs()[0].port();
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let client = reqwest::Client::new();
    let request = client
        .get(format!("http://u:p@127.0.0.1:{port}/items/1"))
        .build()
        .unwrap();
    let span = context::new_trace(|| tracing::info_span!("caller"));
    let trace = span.in_scope(|| context::current().unwrap().trace_id);
    let response = tracing::Instrument::instrument(
        crate::http::client::send(&client, request, "/items/{id}"),
        span,
    );
    assert_eq!(response.await.unwrap().status(), 200);
    handle.stop(true).await;

    let spans = capture().spans(&trace);
    let find = |name: &str, kind: SpanKind| {
        spans
            .iter()
            .find(|span| span.name == name && span.span_kind == kind)
            .unwrap()
    };
    let (caller, call, served) = (
        find("caller", SpanKind::Internal),
        find("GET /items/{id}", SpanKind::Client),
        find("GET /items/{id}", SpanKind::Server),
    );
    assert_eq!(call.parent_span_id, caller.span_context.span_id());
    assert_eq!(served.parent_span_id, call.span_context.span_id());
    assert_eq!(
        span_attribute(call, "url.full"),
        Some(format!("http://127.0.0.1:{port}/items/1"))
    );
    assert_eq!(span_attribute(call, "server.port"), Some(port.to_string()));
    assert_eq!(
        span_attribute(call, "http.response.status_code").as_deref(),
        Some("200")
    );

    let gone = client
        .get(format!("http://u:p@127.0.0.1:{port}/items/1?key=secret"))
        .build()
        .unwrap();
    let span = context::new_trace(|| tracing::info_span!("caller"));
    let trace = span.in_scope(|| context::current().unwrap().trace_id);
    let call = crate::http::client::send(&client, gone, "/items/{id}");
    assert!(tracing::Instrument::instrument(call, span).await.is_err());
    let call = &span_of(&trace, SpanKind::Client);
    assert_eq!(
        span_attribute(call, "error.type").as_deref(),
        Some("connection_error")
    );
    let Status::Error { description } = &call.status else {
        panic!("an error, not {:?}", call.status)
    };
    assert!(description.starts_with("error sending request: "));
    assert!(description.contains("refused"), "its cause: {description}");
}

#[actix_web::test]
async fn a_program_takes_more_out_of_the_url_of_a_call() {
    capture();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let called = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(answer).unwrap();
        String::from_utf8(head).unwrap()
    });
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}/items/ann?sig=s&token=t");
    let request = client.get(url).build().unwrap();
    let instrument = crate::http::client::Instrument::new().redact_url(|url| {
        // What the conventions name is gone already.
        assert_eq!(url.query(), Some("sig=REDACTED&token=t"));
        url.set_query(None);
        url.set_path("/items/someone");
    });
    let span = context::new_trace(|| tracing::info_span!("caller"));
    let trace = span.in_scope(|| context::current().unwrap().trace_id);
    let call = instrument.send(&client, request, "/items/{id}");
    let answer = tracing::Instrument::instrument(call, span).await.unwrap();
    assert_eq!(answer.status(), 204);
    // The call itself went where it should.
    let head = called.join().unwrap();
    assert!(
        head.starts_with("GET /items/ann?sig=s&token=t HTTP/1.1"),
        "{head}"
    );
    let full = span_attribute(&span_of(&trace, SpanKind::Client), "url.full");
    assert_eq!(full, Some(format!("http://127.0.0.1:{port}/items/someone")));
}

#[actix_web::test]
async fn an_outbound_call_that_nobody_waits_for_is_recorded_as_cancelled() {
    capture();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let client = reqwest::Client::new();
    let request = client
        .get(format!("http://127.0.0.1:{port}/items/1"))
        .build()
        .unwrap();
    let span = context::new_trace(|| tracing::info_span!("caller"));
    let trace = span.in_scope(|| context::current().unwrap().trace_id);
    {
        let call = crate::http::client::send(&client, request, "/items/{id}");
        let mut call = std::pin::pin!(tracing::Instrument::instrument(call, span));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
    }
    let call = &span_of(&trace, SpanKind::Client);
    assert_eq!(
        span_attribute(call, "error.type").as_deref(),
        Some("cancelled")
    );
    let page = capture().openmetrics();
    let count = page.lines().find(|line| {
        line.starts_with("http_client_request_duration_seconds_count{")
            && line.contains("error_type=\"cancelled\"")
            && line.contains(&format!("server_port=\"{port}\""))
    });
    assert!(count.unwrap().ends_with("} 1"), "{count:?}");
}

#[actix_web::test]
async fn a_job_s_trace_is_linked_to_its_cause() {
    capture();
    let cause = context::new_trace(|| tracing::info_span!("cause"));
    let (ids, carrier) = cause.in_scope(|| (context::current().unwrap(), context::inject()));
    assert_eq!(
        carrier["traceparent"],
        format!("00-{}-{}-01", ids.trace_id, ids.span_id)
    );
    let job = context::new_trace(|| tracing::info_span!("job"));
    assert!(context::link(&job, &carrier));
    assert!(!context::link(&job, &HashMap::new()));
    let trace = job.in_scope(|| context::current().unwrap().trace_id);
    assert_ne!(trace, ids.trace_id);
    let child = context::child_of(&carrier, || tracing::info_span!("child"));
    drop((job, child));
    let spans = testing::capture().spans(&trace);
    assert_eq!(
        spans[0].links.links[0].span_context.trace_id().to_string(),
        ids.trace_id
    );
    let spans = testing::capture().spans(&ids.trace_id);
    assert_eq!(spans[0].parent_span_id.to_string(), ids.span_id);
}

#[actix_web::test]
async fn headers_on_several_lines_are_read_as_w3c_has_them() {
    let trace = "4af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let request = || {
        test::TestRequest::get()
            .uri("/items/1")
            .insert_header(("traceparent", parent.as_str()))
    };
    let states = request()
        .append_header(("tracestate", "a=1"))
        .append_header(("tracestate", "b=2"));
    assert_eq!(serve(states).await.0, trace);
    let span = server_span(trace);
    assert_eq!(span.span_context.trace_state().header(), "a=1,b=2");

    for second in [parent.as_bytes(), b"\xff"] {
        let second = HeaderValue::from_bytes(second).unwrap();
        let twice = request().append_header((NAMES[1].clone(), second));
        let (new, ..) = serve(twice).await;
        assert_ne!(new, trace, "two parents are none");
        assert_eq!(
            server_span(&new).parent_span_id,
            opentelemetry::SpanId::INVALID
        );
    }
}

#[actix_web::test]
async fn a_proxy_that_the_settings_name_is_believed() {
    let capture = testing::start(&[("TELEMETRY_TRUSTED_PROXIES", "127.0.0.1")]);
    let subscriber = tracing_subscriber::layer::SubscriberExt::with(
        tracing_subscriber::registry(),
        capture.layer(),
    );
    let _default = tracing::subscriber::set_default(subscriber);
    let app = App::new()
        .wrap(Instrument::new().redact_query(|query| query.replace("shop", "***")))
        .route("/", web::get().to(HttpResponse::Ok));
    let app = test::init_service(app).await;
    let peer = "127.0.0.1:4711".parse().unwrap();
    for (name, value) in [
        ("x-forwarded-for", "unknown, 203.0.113.7:80"),
        ("forwarded", "for=\"203.0.113.7:80\";proto=https"),
    ] {
        let request = test::TestRequest::get()
            .uri("/?sig=x&name=shop")
            .peer_addr(peer)
            .insert_header(("host", "[::1]:8080"))
            .insert_header((name, value));
        test::call_service(&app, request.to_request()).await;
    }
    let spans = capture.all_spans();
    assert_eq!(spans.len(), 2);
    for span in &spans {
        for (key, value) in [
            ("client.address", "203.0.113.7"),
            ("server.address", "::1"),
            ("server.port", "8080"),
            ("url.query", "sig=REDACTED&name=***"),
        ] {
            assert_eq!(span_attribute(span, key).as_deref(), Some(value), "{key}");
        }
    }
}

/// What is answered to `bytes` until the connection ends; after them the client sends nothing more.
async fn sent(port: u16, bytes: Vec<u8>) -> String {
    let exchange = move || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // A server that closes with bytes unread resets the connection, after what it has answered.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    web::block(exchange).await.unwrap()
}

/// The records whose message is `text`.
fn said(text: &str) -> Vec<opentelemetry_sdk::logs::SdkLogRecord> {
    let mut records = capture().all_records();
    records.retain(|record| message(record) == text);
    records
}

#[actix_web::test]
async fn what_never_reaches_the_app_is_recorded_too() {
    capture();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let slow = || async { HttpResponse::RequestTimeout().finish() };
    let app = move || {
        App::new()
            .route("/slow", web::get().to(slow))
            .wrap(Instrument::new())
    };
    let builder = actix_web::dev::Server::build().workers(1).disable_signals();
    let head_timeout = std::time::Duration::from_secs(2);
    let server = listen(builder, listener, head_timeout, app).unwrap().run();
    let handle = server.handle();
    let serving = actix_web::rt::spawn(server);

    let huge = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(200_000));
    for (bytes, status) in [
        ("GET / HTTP/9\r\n\r\n", 400),
        ("GET /slow HTTP/1.1\r\nhost: a\r\n", 408),
        (&huge, 431),
    ] {
        let answer = sent(port, bytes.into()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }

    // A later request of a connection; the first is the app's, and so is its 408.
    let slow = "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = sent(port, format!("{slow}GET / HTTP/9\r\n\r\n").into()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("HTTP/1.1 400 "),
        "{answer}"
    );

    // One that the client gives up; a connection without a byte is no request.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HT").unwrap();
    drop(stream);
    // A connection that is not accepted yet would be lost at the stop.
    while said("unread request cancelled").is_empty() {
        actix_web::rt::task::yield_now().await;
    }

    // The record, the span and the point of a request are made one after the other, on the thread of the server: all are
    // there when it has ended.
    handle.stop(true).await;
    serving.await.unwrap().unwrap();
    for (status, requests) in [(400, 2), (408, 1), (431, 1)] {
        let records = said(&format!("unread request {status}"));
        assert_eq!(records.len(), requests);
        let shown = status.to_string();
        for record in &records {
            let attribute = |name| record_attribute(record, name);
            assert_eq!(
                attribute("http.response.status_code").as_deref(),
                Some(&*shown)
            );
            assert_eq!(attribute("url.path"), None);
            let trace = record.trace_context().unwrap().trace_id.to_string();
            let span = server_span(&trace);
            assert_eq!(span.name, "HTTP");
            assert_eq!(
                span_attribute(&span, "client.address").as_deref(),
                Some("127.0.0.1")
            );
            assert_eq!(
                span_attribute(&span, "http.response.status_code").as_deref(),
                Some(&*shown)
            );
            assert!(span.end_time > span.start_time);
        }
        let code = format!("http_response_status_code=\"{status}\"");
        let labels = [
            "http_request_method=\"_OTHER\"",
            "url_scheme=\"http\"",
            &code,
        ];
        assert_eq!(counted(&labels), requests as u64);
    }
    assert_eq!(said("unread request cancelled").len(), 1);
    assert_eq!(said("GET /slow 408").len(), 1);
    assert_eq!(counted(&["http_route=\"/slow\"", "408"]), 1);
}
