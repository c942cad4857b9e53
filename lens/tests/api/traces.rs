use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{ArrayValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prost::Message;

use crate::support::{
    JSON, Lens, PROTOBUF, attribute, failed, has, hex, int, names, request_of, span, string,
    visible,
};

#[tokio::test]
async fn what_comes_in_goes_out_equal() {
    let lens = Lens::start().await;
    let mut sent = span(1, 1, 0, "GET /demo/work", 12);
    sent.attributes = vec![
        string("http.route", "/demo/work"),
        int("http.response.status_code", i64::MAX),
        attribute("ratio", Value::DoubleValue(0.25)),
        attribute("retried", Value::BoolValue(true)),
        attribute("list", Value::ArrayValue(ArrayValue { values: vec![] })),
    ];
    sent.events = vec![Event {
        time_unix_nano: 5,
        name: "exception".to_owned(),
        attributes: vec![string("exception.type", "E")],
        ..Event::default()
    }];
    sent.links = vec![Link {
        trace_id: vec![9; 16],
        span_id: vec![8; 8],
        ..Link::default()
    }];
    sent.trace_state = "vendor=1".to_owned();
    sent.flags = 1;
    let request = request_of("shop", vec![failed(sent)]);

    lens.export("/v1/traces", &request).await;

    let raw = lens.text(&format!("/api/traces/{}", hex(1, 16))).await;
    let got: ExportTraceServiceRequest = serde_json::from_str(&raw).expect("JSON");
    assert_eq!(got, request);
    let id = r#""traceId":"01010101010101010101010101010101""#;
    has(&raw, &[id]);
}

#[tokio::test]
async fn json_is_taken_as_protobuf_is() {
    let lens = Lens::start().await;
    let request = request_of("shop", vec![span(1, 1, 0, "a", 1)]);
    let body = serde_json::to_vec(&request).expect("JSON");
    let content_type = format!("{JSON}; charset=utf-8");
    let response = lens.post("/v1/traces", &content_type, body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.expect("a body"), "{}");
    let got: ExportTraceServiceRequest = lens.json("/api/traces").await;
    assert_eq!(got, request);
}

#[tokio::test]
async fn an_export_sent_twice_is_stored_once() {
    let lens = Lens::start().await;
    let request = request_of(
        "shop",
        vec![failed(span(1, 1, 0, "a", 1)), span(1, 2, 1, "b", 1)],
    );
    lens.export("/v1/traces", &request).await;
    lens.export("/v1/traces", &request).await;
    assert_eq!(names(&lens.spans("").await), ["a", "b"]);
}

#[tokio::test]
async fn a_trace_that_comes_whole_is_as_one_that_comes_span_by_span() {
    let mut call = span(1, 2, 1, "call", 5);
    call.kind = 3;
    // As it was when it began: the one that ended later stays.
    let mut begun = call.clone();
    begun.end_time_unix_nano = 0;
    let of_api = vec![
        begun,
        failed(span(1, 4, 1, "check", 3)),
        call.clone(),
        span(1, 1, 0, "root", 9),
        span(2, 1, 7, "orphan", 4),
    ];
    let of_worker = vec![span(1, 3, 2, "answer", 2), span(2, 5, 1, "same process", 1)];
    let whole = Lens::start().await;
    let mut request = request_of("api", of_api.clone());
    let rest = request_of("worker", of_worker.clone());
    request.resource_spans.extend(rest.resource_spans);
    whole.export("/v1/traces", &request).await;
    let single = Lens::start().await;
    for span in of_worker.into_iter().rev() {
        single.export_spans("worker", vec![span]).await;
    }
    for span in of_api.into_iter().rev() {
        single.export_spans("api", vec![span]).await;
    }
    // The rows, and at the foot what they count against their bound.
    let rows = async |lens: &Lens, page: &str| {
        let page = lens.text(&format!("{page}?range=all")).await;
        let (_, table) = page.split_once("<tbody>").expect("a table");
        let (rows, rest) = table.split_once("</tbody>").expect("its end");
        let (_, footer) = rest.split_once("<footer").expect("a footer");
        (visible(rows), visible(footer))
    };
    for (page, expected) in [("/traces", "root api"), ("/services", "api worker 1")] {
        let shown = rows(&whole, page).await;
        assert_eq!(shown, rows(&single, page).await, "{page}");
        has(&shown.0, &[expected]);
        has(&shown.1, &["Traces 6 of 200,000 spans"]);
    }
}

#[tokio::test]
async fn a_span_without_ids_is_rejected_and_its_neighbours_are_kept() {
    let lens = Lens::start().await;
    let mut nameless = span(0, 1, 0, "no trace", 1);
    nameless.trace_id = vec![0; 16];
    let body = request_of("shop", vec![nameless, span(1, 1, 0, "good", 1)]).encode_to_vec();
    let response = lens.post("/v1/traces", PROTOBUF, body).await;
    assert_eq!(response.status(), 200);
    let answer = ExportTraceServiceResponse::decode(response.bytes().await.expect("a body"))
        .expect("a message");
    assert_eq!(answer.partial_success.expect("partial").rejected_spans, 1);
    assert_eq!(names(&lens.spans("").await), ["good"]);
}

#[tokio::test]
async fn filters_choose_whole_traces() {
    let lens = Lens::start().await;
    let mut slow = span(1, 1, 0, "GET /slow", 800);
    slow.attributes = vec![string("http.route", "/slow")];
    let mut quick = span(2, 3, 0, "GET /quick", 5);
    quick.attributes = vec![string("http.route", "/quick")];
    lens.export_spans("api", vec![slow, quick]).await;
    lens.export_spans("worker", vec![failed(span(1, 2, 1, "quote", 2))])
        .await;

    for (query, expected) in [
        ("", vec!["GET /quick", "GET /slow", "quote"]),
        ("?service=worker", vec!["GET /slow", "quote"]),
        ("?service=nobody", vec![]),
        ("?route=/quick", vec!["GET /quick"]),
        ("?status=error", vec!["GET /slow", "quote"]),
        ("?status=ok", vec!["GET /quick"]),
        ("?min_ms=100", vec!["GET /slow", "quote"]),
        ("?max_ms=100", vec!["GET /quick"]),
        ("?to_ms=1", vec![]),
        ("?until_ms=1", vec![]),
        ("?from_ms=1&limit=1", vec!["GET /quick"]),
        // The span of this traceparent is a caller's who sent none.
        (
            "?q=traceparent:%2000-01010101010101010101010101010101-00f067aa0ba902b7-01",
            vec!["GET /slow", "quote"],
        ),
        (
            "?q=traceID=02020202020202020202020202020202",
            vec!["GET /quick"],
        ),
        ("?q=span_id=0202020202020202", vec!["GET /slow", "quote"]),
        (
            "?service=&min_ms=",
            vec!["GET /quick", "GET /slow", "quote"],
        ),
    ] {
        assert_eq!(names(&lens.spans(query).await), expected, "{query}");
    }
    // And a trace that never came, and what is no trace's id.
    let unknown = format!("/{}", hex(0xff, 16));
    for (query, status) in [
        ("?status=maybe", 400),
        ("?min_ms=soon", 400),
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("/xyz", 400),
        (&unknown, 404),
    ] {
        let found = lens.status(&format!("/api/traces{query}")).await;
        assert_eq!(found, status, "{query}");
    }
}

#[tokio::test]
async fn the_oldest_traces_go_whole_when_the_bound_is_reached() {
    let lens = Lens::start_with(|settings| settings.bounds.spans.rows = 5).await;
    for trace in 1..=4 {
        let root = span(trace, 1, 0, &format!("root {trace}"), 1);
        let child = span(trace, 2, 1, &format!("child {trace}"), 1);
        lens.export_spans("api", vec![root, child]).await;
    }
    assert_eq!(
        names(&lens.spans("").await),
        ["child 3", "child 4", "root 3", "root 4"]
    );
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    let lens = Lens::start_with(|settings| settings.bounds.spans.bytes = 15_000).await;
    for trace in 1..=10 {
        let mut big = span(trace, 1, 0, &format!("big {trace}"), 1);
        big.attributes = vec![string("filler", &"x".repeat(3000))];
        lens.export_spans("api", vec![big]).await;
    }
    let kept = lens.spans("").await;
    assert_eq!(
        names(&kept),
        ["big 10", "big 9"],
        "two of more than 6300 bytes fit, text that is searched included, and three do not"
    );
}

#[tokio::test]
async fn what_is_stored_outlives_the_process() {
    let lens = Lens::start().await;
    lens.export_spans("api", vec![span(1, 1, 0, "kept", 1)])
        .await;
    let directory = lens.stop().await;
    let lens = Lens::start_in(directory, |settings| settings.bounds.spans.rows = 1).await;
    assert_eq!(names(&lens.spans("").await), ["kept"]);
    lens.export_spans("api", vec![span(2, 1, 0, "newer", 1)])
        .await;
    assert_eq!(
        names(&lens.spans("").await),
        ["newer"],
        "what an earlier run left counts"
    );
}
