//! What other people's SDKs and proxies send, lawful though unusual: it is stored, or counted as not taken, and its neighbours stay.

use serde_json::{Value, json};

use crate::profiles::PUSH;
use crate::support::{JSON, Lens, PROTOBUF, count, gzip, has, header, now_ns};

/// Sends it; the answer must be a 200.
async fn send(lens: &Lens, path: &str, body: &Value) -> Value {
    taken(lens, path, JSON, body.to_string().into_bytes()).await
}

async fn taken(lens: &Lens, path: &str, content_type: &str, body: Vec<u8>) -> Value {
    let response = lens.post(path, content_type, body).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.expect("JSON")
}

async fn send_spans(lens: &Lens, service: &str, list: Value) -> Value {
    send(lens, "/v1/traces", &spans(service, list)).await
}

fn records(records: Value) -> Value {
    json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
}

fn metrics(metrics: Value) -> Value {
    json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})
}

fn spans(service: &str, spans: Value) -> Value {
    json!({"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": spans}]}]})
}

fn span(trace: &str, id: &str, change: Value) -> Value {
    let now = now_ns();
    let mut span = json!({"traceId": trace.repeat(32), "spanId": id.repeat(16), "name": "work", "kind": 2,
        "startTimeUnixNano": (now - 5_000_000).to_string(), "endTimeUnixNano": now.to_string()});
    for (key, value) in change.as_object().expect("an object") {
        span[key] = value.clone();
    }
    span
}

fn gauge(name: &str, point: Value) -> Value {
    json!({"name": name, "gauge": {"dataPoints": [point]}})
}

#[tokio::test]
async fn spans_with_absent_and_odd_values_are_stored() {
    let lens = Lens::start().await;
    for (number, change) in [
        json!({"attributes": null, "events": null, "links": [], "status": null}),
        json!({"kind": null, "parentSpanId": "", "traceState": null}),
        json!({"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}}),
        json!({"attributes": [{"key": "k", "value": {"doubleValue": "NaN"}}]}),
        json!({"attributes": [{"key": "k", "value": {"arrayValue": {}}}, {"key": "n", "value": null}]}),
        json!({"events": [{"timeUnixNano": 1e9, "name": "e", "attributes": [{"key": "b", "value": {"bytesValue": "_-8"}}]}]}),
        json!({"links": [{"traceId": "A".repeat(32), "spanId": "b".repeat(16), "attributes": null}], "unknown": {"deep": [1]}}),
    ]
    .into_iter()
    .enumerate()
    {
        let odd = span("a", &(number + 1).to_string(), change);
        assert_eq!(send_spans(&lens, "s", json!([odd])).await, json!({}), "{number}");
    }
    has(&lens.trace(0xaa).await, &["data-testid=\"trace-spans\">7<"]);
    // Around them: no resource, no scope, and names as the definition has them.
    let bare = json!({"resource_spans": [{"resource": null, "scope_spans": [{"scope": null, "spans": [span("b", "1", json!({}))]}]}]});
    assert_eq!(send(&lens, "/v1/traces", &bare).await, json!({}));
    assert_eq!(lens.spans("?service=unknown_service").await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_taken_is_counted_and_its_neighbours_stay() {
    let lens = Lens::start().await;
    let list = json!([
        span("a", "1", json!({"startTimeUnixNano": "soon"})),
        span("a", "2", json!({})),
        span("0", "3", json!({}))
    ]);
    let why = "Span: startTimeUnixNano cannot be \"soon\"";
    assert_eq!(
        send_spans(&lens, "s", list).await["partialSuccess"],
        json!({"rejectedSpans": "2", "errorMessage": why})
    );
    assert_eq!(lens.spans("").await.len(), 1);

    let list = records(json!([{"body": 5}, {"body": {"stringValue": "kept"}}]));
    let answer = send(&lens, "/v1/logs", &list).await;
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
    let list = metrics(json!([
        gauge("bad", json!({"asDouble": "much"})),
        gauge("good", json!({"asDouble": 1}))
    ]));
    let answer = send(&lens, "/v1/metrics", &list).await;
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1");
    let page = lens.text("/metrics?name=good").await;
    assert!(count(&page, "series-row") > 0 && !page.contains("data-name=\"bad\""));
}

#[tokio::test]
async fn every_kind_of_point_is_taken_in_every_spelling() {
    let lens = Lens::start().await;
    let time = now_ns().to_string();
    let list = json!([
        gauge("quoted", json!({"timeUnixNano": time, "asDouble": "1.5"})),
        gauge("nan", json!({"timeUnixNano": time, "asDouble": "NaN"})),
        gauge("flags", json!({"timeUnixNano": time, "asDouble": 1, "flags": "0"})),
        gauge("attributes", json!({"timeUnixNano": time, "asInt": 1, "attributes": null, "exemplars": null})),
        gauge("list", json!({"timeUnixNano": time, "asInt": 1, "attributes": [{"key": "a", "value": {"arrayValue": {}}}]})),
        {"name": "named", "sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": "true",
            "dataPoints": [{"timeUnixNano": time, "asInt": "7"}]}},
        {"name": "bounds", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": time, "count": "2", "sum": "NaN",
            "bucketCounts": ["1", 1], "explicitBounds": ["0.5"], "exemplars": [{"timeUnixNano": time, "asDouble": "0.1", "traceId": null}]}]}},
        {"name": "exponential", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": time, "count": 3, "scale": "0",
            "zeroCount": null, "positive": {"offset": 0, "bucketCounts": ["3"]}, "negative": null}]}},
        {"name": "summary", "summary": {"dataPoints": [{"timeUnixNano": time, "count": "4", "sum": 1e0,
            "quantileValues": [{"quantile": 0.5, "value": "0.25"}]}]}},
    ]);
    let body = json!({"resourceMetrics": [{"resource": {"attributes": null}, "scopeMetrics": [{"scope": {}, "metrics": list}]}]});
    assert_eq!(send(&lens, "/v1/metrics", &body).await, json!({}));
    for (name, value) in [
        ("quoted", "1.5"),
        ("nan", "NaN"),
        ("flags", "1"),
        ("attributes", "1"),
        ("list", "1"),
        ("named", "7"),
        ("bounds", "2 · p50 0.5 (0–0.5) · p95 above 0.5"),
        ("exponential", "3 · p50 1.41 · p95 1.93"),
        ("summary", "4 · p50 0.25"),
    ] {
        let page = lens.text(&format!("/metrics?name={name}")).await;
        has(&page, &[&format!("data-testid=\"series-value\">{value}<")]);
    }
}

#[tokio::test]
async fn a_client_and_a_server_that_share_an_id_are_two_spans() {
    let lens = Lens::start().await;
    let client = span("a", "1", json!({"kind": 3, "name": "call front"}));
    let server = span("a", "1", json!({"name": "call back"}));
    for (service, span) in [("front", &client), ("back", &server), ("front", &client)] {
        send_spans(&lens, service, json!([span])).await;
    }
    assert_eq!(lens.spans("").await.len(), 2, "the retry is stored once");
    let page = lens.trace(0xaa).await;
    let place = |name: &str| page.find(&format!("data-name=\"{name}\"")).expect(name);
    // The server stands below, and is a call.
    assert!(place("call front") < place("call back"));
    has(&lens.text("/services").await, &["front", "back"]);
}

#[tokio::test]
async fn a_span_that_is_sent_when_it_begins_is_replaced_once_it_has_ended() {
    let lens = Lens::start().await;
    let begun = span("a", "1", json!({"endTimeUnixNano": "0"}));
    let mut ended = begun.clone();
    ended["endTimeUnixNano"] = json!(now_ns().to_string());
    ended["status"] = json!({"code": 2, "message": "failed"});
    send_spans(&lens, "s", json!([begun])).await;
    has(&lens.trace(0xaa).await, &["not ended yet"]);
    send_spans(&lens, "s", json!([ended])).await;
    send_spans(&lens, "s", json!([begun])).await; // late
    let found = lens.spans("?status=error").await;
    let codes = found.iter().map(|span| Some(span.status.as_ref()?.code));
    assert!(codes.eq([Some(2)]), "{found:?}");
    let one_row = "<b>Traces</b> <span class=\"number\">1</span>";
    has(&lens.text("/").await, &[one_row]);
}

#[tokio::test]
async fn a_span_without_a_start_stands_where_it_ended() {
    let lens = Lens::start().await;
    let span = span("a", "1", json!({"startTimeUnixNano": "0"}));
    send_spans(&lens, "s", json!([span])).await;
    has(&lens.trace(0xaa).await, &["start unknown"]);
    let list = lens.text("/traces").await;
    assert!(
        list.contains(" ago") || list.contains("now"),
        "it has a time: {list}"
    );
    assert!(!list.contains("days ago"), "it is no span of 1970");
}

#[tokio::test]
async fn the_names_of_older_conventions_are_understood() {
    let lens = Lens::start().await;
    let old = json!({"attributes": [{"key": "http.method", "value": {"stringValue": "GET"}}, {"key": "http.status_code", "value": {"intValue": "500"}}]});
    send_spans(&lens, "s", json!([span("a", "1", old)])).await;
    let status = "<span class=\"status bad\">500</span>";
    has(&lens.text("/traces").await, &[status]);
    for found in [
        "http.status_code%3D500",
        "http.response.status_code%3D500",
        "http.request.method%3DGET",
    ] {
        assert_eq!(lens.spans(&format!("?q={found}")).await.len(), 1, "{found}");
    }
    assert_eq!(lens.spans("?q=http.status_code%3D50").await.len(), 0);
}

#[tokio::test]
async fn records_are_found_by_what_they_say_of_themselves() {
    let lens = Lens::start().await;
    let time = now_ns().to_string();
    let list = json!([
        {"timeUnixNano": time, "body": {"stringValue": "支付失败 订单"}, "traceId": null, "spanId": ""},
        {"timeUnixNano": time, "body": {"stringValue": "by its text"}, "severityText": "Warning"},
        {"timeUnixNano": time, "eventName": "user.click", "attributes": [{"key": "k", "value": {"stringValue": "marker"}}]},
        {"timeUnixNano": time, "body": {"stringValue": "Timeout of the card"}, "severityNumber": "SEVERITY_NUMBER_ERROR"},
    ]);
    assert_eq!(send(&lens, "/v1/logs", &records(list)).await, json!({}));
    for (query, found) in [
        ("q=%E8%AE%A2%E5%8D%95", 1),
        ("q=%E5%A4%B1", 1),
        ("q=imeou", 1),
        ("q=CARD+timeout", 1),
        ("q=%22of+the%22", 1),
        ("level=warn", 1),
        ("level=warn%2B", 2),
        ("level=error", 1),
        ("q=user.click", 1),
        ("q=k%3Dmarker", 1),
        ("field=k%3Dmarker", 1),
        ("q=k%3Dmark", 0),
        ("q=nothing", 0),
    ] {
        let page = lens.text(&format!("/logs?{query}")).await;
        assert_eq!(count(&page, "log-row"), found, "{query}");
    }
    let marked = "<span class=\"message\"><mark>user.click</mark></span>";
    has(&lens.text("/logs?q=user.click").await, &[marked]);
}

#[tokio::test]
async fn methods_and_headers_are_taken_as_http_has_them() {
    let lens = Lens::start().await;
    for path in [
        "/",
        "/traces",
        "/logs",
        "/api/identity",
        "/readyz",
        "/healthz",
        "/assets/lens.css",
    ] {
        let head = lens.client.head(format!("{}{path}", lens.url));
        let head = head.send().await.expect("an answer");
        assert_eq!(head.status(), 200, "{path}");
        assert_eq!(head.text().await.expect("a body"), "", "{path}");
    }
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics", "/ingest"] {
        let response = lens.get(path).await;
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(header(&response, "allow"), "POST", "{path}");
    }
    let response = lens.post("/traces", JSON, Vec::new()).await;
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "GET, HEAD");
    let body = spans("s", json!([span("a", "1", json!({}))])).to_string();
    for (content_type, encoding) in [
        ("Application/JSON; charset=UTF-8", "X-GZIP"),
        ("APPLICATION/JSON", "GZip"),
    ] {
        let headers = [
            ("content-type", content_type),
            ("content-encoding", encoding),
        ];
        let body = gzip(body.as_bytes());
        let response = lens.post_with("/v1/traces", &headers, body).await;
        assert_eq!(response.status(), 200, "{content_type} {encoding}");
    }
}

#[tokio::test]
async fn a_body_of_several_gzip_members_is_one_body_and_of_very_many_none() {
    let lens = Lens::start().await;
    let body = spans("s", json!([span("a", "1", json!({}))])).to_string();
    let (begin, end) = body.split_at(body.len() / 2);
    let members = [gzip(begin.as_bytes()), gzip(b""), gzip(end.as_bytes())].concat();
    for (body, status) in [(members, 200), (gzip(b"").repeat(300_000), 400)] {
        let response = lens.post_gzipped("/v1/traces", JSON, body).await;
        assert_eq!(response.status(), status);
    }
    assert_eq!(lens.spans("").await.len(), 1);
}

#[tokio::test]
async fn what_nests_too_deep_is_refused_and_the_viewer_lives() {
    let lens = Lens::start().await;
    let nest = |inside: Vec<u8>, fields: &[u8]| {
        let fields = fields.iter().rev();
        fields.fold(inside, |inside, number| field(*number, &inside))
    };
    for levels in [1500, 10_000, 60_000] {
        let mut lists = Vec::new();
        // Built from the inside: a list (5) of values (1).
        for _ in 0..levels.min(10_000) {
            lists = nest(lists, &[5, 1]);
        }
        let groups = [[0x9b, 0x06].repeat(levels), [0x9c, 0x06].repeat(levels)].concat();
        for (path, to_value) in [
            ("/v1/traces", &[1, 2, 2, 9, 2][..]),
            ("/v1/logs", &[1, 2, 2, 6, 2]),
            ("/v1/logs", &[1, 2, 2, 5]),
            ("/v1/metrics", &[1, 1, 1, 2]),
            ("/v1/metrics", &[1, 2, 2, 5, 1, 7, 2]),
        ] {
            for body in [
                nest(lists.clone(), to_value),
                nest(groups.clone(), to_value),
                groups.clone(),
            ] {
                let zipped = lens.post_gzipped(path, PROTOBUF, gzip(&body)).await;
                assert_eq!(zipped.status(), 400, "{path} {levels}");
                let bare = lens.sent(path, PROTOBUF, body).await;
                assert_eq!(bare, 400, "{path} {levels}");
            }
        }
        let profile = gzip(&nest(groups.clone(), &[2, 3]));
        for body in [nest(profile, &[1, 2, 1]), groups.clone()] {
            let status = lens.sent(PUSH, "application/proto", body).await;
            assert_eq!(status, 400, "{levels}");
        }
        let lists = ["[".repeat(levels), "]".repeat(levels)].concat();
        let json = format!(r#"{{"resourceSpans":{lists}}}"#);
        let status = lens.sent("/v1/traces", JSON, json.into_bytes()).await;
        assert_eq!(status, 400, "{levels}");
    }
    assert_eq!(lens.status("/api/identity").await, 200);
}

#[tokio::test]
async fn what_is_exported_can_be_taken_in_again_and_is_there_once() {
    let lens = Lens::start().await;
    let nan = json!({"attributes": [{"key": "d", "value": {"doubleValue": "NaN"}}]});
    let list = json!([span("a", "1", nan), span("a", "2", json!({}))]);
    send_spans(&lens, "s", list).await;
    let record = json!({"timeUnixNano": "5", "body": {"stringValue": "x"}});
    send(&lens, "/v1/logs", &records(json!([record]))).await;
    let point = json!({"timeUnixNano": now_ns().to_string(), "asInt": 4});
    send(&lens, "/v1/metrics", &metrics(json!([gauge("g", point)]))).await;
    const LINES: &str = "application/x-ndjson";
    let exported = lens.text("/api/export").await;
    assert_eq!(exported.lines().count(), 3, "{exported}");
    let other = Lens::start().await;
    for _ in 0..2 {
        let lines = exported.clone().into_bytes();
        assert_eq!(
            taken(&other, "/api/import", LINES, lines).await,
            json!({"spans": 2, "records": 1, "points": 1, "rejected": 0})
        );
    }
    assert_eq!(other.text("/api/export").await, exported);
    let spoilt = format!("\n{exported}hello\n").into_bytes();
    let refused = other.post("/api/import", LINES, spoilt).await;
    assert_eq!(refused.status(), 400);
    let answer: Value = refused.json().await.expect("JSON");
    assert_eq!(
        answer["detail"],
        "line 5: a line begins with resourceSpans, resourceLogs or resourceMetrics"
    );
    let only = lens.text("/api/export?signal=logs").await;
    assert!(
        only.starts_with(r#"{"resourceLogs":"#) && only.lines().count() == 1,
        "{only}"
    );
}

/// A field of protobuf that holds bytes of a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend(content);
    field
}

#[tokio::test]
async fn a_number_that_no_double_holds_takes_only_its_own_item() {
    let lens = Lens::start().await;
    let post = async |path: &str, body: Value| -> Value {
        let huge = body.to_string().replace("\"HUGE\"", "1e400");
        let body = huge.replace("\"SMALL\"", "-1e-400").into_bytes();
        taken(&lens, path, JSON, body).await
    };
    let of = |number: &str| json!([{"key": "k", "value": {"doubleValue": number}}]);
    let small = json!({"attributes": of("SMALL"), "unknown": ["HUGE"]});
    let list = json!([
        span("a", "1", json!({"attributes": of("HUGE")})),
        span("a", "2", small)
    ]);
    let answer = post("/v1/traces", spans("s", list)).await;
    assert_eq!(
        answer["partialSuccess"],
        json!({"rejectedSpans": "1", "errorMessage": "Span: number out of range"})
    );
    assert_eq!(lens.spans("").await.len(), 1);
    let list = json!([{"body": {"doubleValue": "HUGE"}}, {"body": {"stringValue": "kept"}}]);
    let mut body = records(list);
    body["unknown"] = "HUGE".into();
    let answer = post("/v1/logs", body).await;
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
    let points = json!([
        {"name": "a", "gauge": {"dataPoints": [{"asDouble": "HUGE"}, {"asDouble": 1}]}},
        {"name": "b", "histogram": {"dataPoints": [{"count": 1, "sum": "HUGE"}, {"count": 1, "sum": 1}]}},
    ]);
    let answer = post("/v1/metrics", metrics(points)).await;
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "2");
    // In what several items share, all of them go, and no other.
    let shared = json!({"resourceSpans": [
        {"resource": {"attributes": of("HUGE")}, "scopeSpans": [{"spans": [span("b", "1", json!({})), span("b", "2", json!({}))]}]},
        {"scopeSpans": [{"scope": {"attributes": of("HUGE")}, "spans": [span("b", "3", json!({}))]}, {"spans": [span("b", "4", json!({}))]}]}]});
    let answer = post("/v1/traces", shared).await;
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "3");
    assert_eq!(lens.spans("?service=unknown_service").await.len(), 1);
}

#[tokio::test]
async fn items_are_counted_wherever_what_is_wrong_stands() {
    let lens = Lens::start().await;
    let two = json!([span("a", "1", json!({})), span("a", "2", json!({}))]);
    for (number, resource_spans) in [
        json!({"resource": "x", "scopeSpans": [{"spans": two}]}),
        json!({"schemaUrl": 5, "scopeSpans": [{"scope": 1.5, "spans": two}]}),
        json!({"scopeSpans": [{"scope": true, "spans": two}]}),
        json!({"scopeSpans": [{"scope": [], "spans": two}]}),
        // A list of one is a list.
        json!({"scopeSpans": [{"scope": {"attributes": {"key": "k"}}, "spans": two}]}),
        json!({"scopeSpans": [{"spans": [span("a", "1", json!({"events": {"name": "e"}})), span("a", "2", json!({"attributes": {}}))]}]}),
    ]
    .into_iter()
    .enumerate()
    {
        let kept = json!({"scopeSpans": [{"spans": [span("b", &(number + 1).to_string(), json!({}))]}]});
        let body = json!({"resourceSpans": [resource_spans, kept]});
        let answer = send(&lens, "/v1/traces", &body).await;
        assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2", "{number}");
        let kept = format!("data-testid=\"trace-spans\">{}<", number + 1);
        has(&lens.trace(0xbb).await, &[&kept]);
    }
    // Points of two types in one metric: a message keeps one of them.
    let point = |value: i32| json!({"dataPoints": [{"asInt": value, "timeUnixNano": now_ns().to_string()}]});
    let both = json!({"name": "both", "gauge": point(1), "sum": point(2)});
    let answer = send(&lens, "/v1/metrics", &metrics(json!([both]))).await;
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1");
}

#[tokio::test]
async fn texts_that_are_not_utf_8_are_kept_as_far_as_they_can_be_read() {
    let lens = Lens::start().await;
    let item = |id: u8, name: &[u8]| {
        let time = [&[7 << 3 | 1][..], &now_ns().to_le_bytes()].concat();
        let attribute = [field(1, name), field(2, &field(1, b"caf\xe9"))].concat();
        let (trace_id, span_id) = (field(1, &[0xaa; 16]), field(2, &[id; 8]));
        let item = [
            trace_id,
            span_id,
            field(5, name),
            time,
            field(9, &attribute),
        ];
        field(2, &item.concat())
    };
    let spans = [item(1, b"na\xefve"), item(2, b"plain")].concat();
    let body = field(1, &field(2, &spans));
    let response = lens.post("/v1/traces", PROTOBUF, body).await;
    assert_eq!(response.status(), 200);
    let answer = response.text().await.expect("text");
    has(&answer, &["texts that were not UTF-8"]);
    let page = lens.trace(0xaa).await;
    has(&page, &["data-testid=\"trace-spans\">2<", "na?ve", "plain"]);

    let json = records(json!([{"body": {"stringValue": "in @ other encoding"}}])).to_string();
    let (before, behind) = json.split_once('@').expect("one");
    // Begins as editors of Windows begin a file.
    let parts = [
        b"\xef\xbb\xbf",
        before.as_bytes(),
        b"\xe9",
        behind.as_bytes(),
    ];
    let answer = taken(&lens, "/v1/logs", JSON, parts.concat()).await;
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "0");
    has(&lens.text("/logs?q=encoding").await, &["in \u{fffd} other"]);
}
