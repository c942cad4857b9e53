//! What other people's SDKs and proxies send, lawful though unusual: it is stored, or counted as not taken, and its neighbours stay.

use serde_json::{Value, json};

use crate::support::{Lens, PROTOBUF, gzip, now_ns};

const JSON: &str = "application/json";

async fn send(lens: &Lens, path: &str, body: &Value) -> Value {
    let response = lens.post(path, JSON, body.to_string().into_bytes()).await;
    assert_eq!(response.status(), 200, "{body}");
    response.json().await.expect("JSON")
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
        let answer = send(&lens, "/v1/traces", &spans("s", json!([span("a", &(number + 1).to_string(), change)]))).await;
        assert_eq!(answer, json!({}), "{number}");
    }
    let page = lens.text(&format!("/traces/{}", "a".repeat(32))).await;
    assert!(page.contains("data-testid=\"trace-spans\">7<"));
    // Around them: no resource, no scope, and names as the definition has them.
    let bare = json!({"resource_spans": [{"resource": null, "scope_spans": [{"scope": null, "spans": [span("b", "1", json!({}))]}]}]});
    assert_eq!(send(&lens, "/v1/traces", &bare).await, json!({}));
    assert_eq!(lens.spans("?service=unknown_service").await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_taken_is_counted_and_its_neighbours_stay() {
    let lens = Lens::start().await;
    let answer = send(
        &lens,
        "/v1/traces",
        &spans(
            "s",
            json!([
                span("a", "1", json!({"startTimeUnixNano": "soon"})),
                span("a", "2", json!({})),
                span("0", "3", json!({}))
            ]),
        ),
    )
    .await;
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2");
    assert_eq!(
        answer["partialSuccess"]["errorMessage"],
        "Span: startTimeUnixNano cannot be \"soon\""
    );
    assert_eq!(lens.spans("").await.len(), 1);

    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": 5}, {"body": {"stringValue": "kept"}}]}]}]});
    let answer = send(&lens, "/v1/logs", &logs).await;
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        gauge("bad", json!({"asDouble": "much"})), gauge("good", json!({"asDouble": 1}))]}]}]});
    let answer = send(&lens, "/v1/metrics", &metrics).await;
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1");
    let page = lens.text("/metrics?name=good").await;
    assert!(page.contains("data-testid=\"series-row\"") && !page.contains("data-name=\"bad\""));
}

#[tokio::test]
async fn every_kind_of_point_is_taken_in_every_spelling() {
    let lens = Lens::start().await;
    let time = now_ns().to_string();
    let metrics = json!([
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
    let body = json!({"resourceMetrics": [{"resource": {"attributes": null}, "scopeMetrics": [{"scope": {}, "metrics": metrics}]}]});
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
        let cell = page
            .split("data-testid=\"series-value\">")
            .nth(1)
            .expect("a value");
        assert_eq!(cell.split('<').next(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_client_and_a_server_that_share_an_id_are_two_spans() {
    let lens = Lens::start().await;
    let client = spans(
        "front",
        json!([span("a", "1", json!({"kind": 3, "name": "call front"}))]),
    );
    let server = spans(
        "back",
        json!([span("a", "1", json!({"name": "call back"}))]),
    );
    for body in [&client, &server, &client] {
        send(&lens, "/v1/traces", body).await;
    }
    assert_eq!(lens.spans("").await.len(), 2, "the retry is stored once");
    let page = lens.text(&format!("/traces/{}", "a".repeat(32))).await;
    let (front, back) = (
        page.find("data-name=\"call front\""),
        page.find("data-name=\"call back\""),
    );
    assert!(
        front.expect("the client") < back.expect("the server"),
        "the server stands below"
    );
    let graph = lens.text("/services").await;
    assert!(
        graph.contains("front") && graph.contains("back"),
        "and is a call"
    );
}

#[tokio::test]
async fn a_span_that_is_sent_when_it_begins_is_replaced_once_it_has_ended() {
    let lens = Lens::start().await;
    let begun = span("a", "1", json!({"endTimeUnixNano": "0"}));
    let mut ended = begun.clone();
    ended["endTimeUnixNano"] = json!(now_ns().to_string());
    ended["status"] = json!({"code": 2, "message": "failed"});
    send(&lens, "/v1/traces", &spans("s", json!([begun]))).await;
    let page = lens.text(&format!("/traces/{}", "a".repeat(32))).await;
    assert!(page.contains("not ended yet"));
    send(&lens, "/v1/traces", &spans("s", json!([ended]))).await;
    send(&lens, "/v1/traces", &spans("s", json!([begun]))).await; // late
    let found = lens.spans("?status=error").await;
    assert_eq!(
        (
            found.len(),
            found[0].status.clone().map(|status| status.code)
        ),
        (1, Some(2))
    );
    let usage = lens.text("/").await;
    assert!(
        usage.contains("<b>Traces</b> <span class=\"number\">1</span>"),
        "one row"
    );
}

#[tokio::test]
async fn a_span_without_a_start_stands_where_it_ended() {
    let lens = Lens::start().await;
    send(
        &lens,
        "/v1/traces",
        &spans(
            "s",
            json!([span("a", "1", json!({"startTimeUnixNano": "0"}))]),
        ),
    )
    .await;
    let page = lens.text(&format!("/traces/{}", "a".repeat(32))).await;
    assert!(page.contains("start unknown"));
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
    send(
        &lens,
        "/v1/traces",
        &spans("s", json!([span("a", "1", old)])),
    )
    .await;
    assert!(
        lens.text("/traces")
            .await
            .contains("<span class=\"status bad\">500</span>")
    );
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
    let records = json!([
        {"timeUnixNano": time, "body": {"stringValue": "支付失败 订单"}, "traceId": null, "spanId": ""},
        {"timeUnixNano": time, "body": {"stringValue": "by its text"}, "severityText": "Warning"},
        {"timeUnixNano": time, "eventName": "user.click", "attributes": [{"key": "k", "value": {"stringValue": "marker"}}]},
        {"timeUnixNano": time, "body": {"stringValue": "Timeout of the card"}, "severityNumber": "SEVERITY_NUMBER_ERROR"},
    ]);
    let body = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]});
    assert_eq!(send(&lens, "/v1/logs", &body).await, json!({}));
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
        assert_eq!(
            page.matches("data-testid=\"log-row\"").count(),
            found,
            "{query}"
        );
    }
    let page = lens.text("/logs?q=user.click").await;
    assert!(page.contains("<span class=\"message\"><mark>user.click</mark></span>"));
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
        let head = lens
            .client
            .head(format!("{}{path}", lens.url))
            .send()
            .await
            .expect("an answer");
        assert_eq!(
            (
                head.status().as_u16(),
                head.text().await.expect("a body").len()
            ),
            (200, 0),
            "{path}"
        );
    }
    for (path, allowed) in [
        ("/v1/traces", "POST"),
        ("/v1/logs", "POST"),
        ("/v1/metrics", "POST"),
        ("/ingest", "POST"),
    ] {
        let response = lens.get(path).await;
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["allow"].to_str().expect("text")
            ),
            (405, allowed),
            "{path}"
        );
    }
    let response = lens.post("/traces", JSON, Vec::new()).await;
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["allow"].to_str().expect("text")
        ),
        (405, "GET, HEAD")
    );
    let body = spans("s", json!([span("a", "1", json!({}))])).to_string();
    for (content_type, encoding) in [
        ("Application/JSON; charset=UTF-8", "X-GZIP"),
        ("APPLICATION/JSON", "GZip"),
    ] {
        let request = lens
            .client
            .post(format!("{}/v1/traces", lens.url))
            .header("content-type", content_type)
            .header("content-encoding", encoding);
        let response = request
            .body(gzip(body.as_bytes()))
            .send()
            .await
            .expect("an answer");
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
    let varint =
        |bytes: &mut Vec<u8>, value: usize| prost::encoding::encode_varint(value as u64, bytes);
    let nest = |inside: Vec<u8>, fields: &[u8]| {
        fields.iter().rev().fold(inside, |inside, field| {
            let mut outside = vec![field << 3 | 2];
            varint(&mut outside, inside.len());
            outside.extend(inside);
            outside
        })
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
                let bare = lens.post(path, PROTOBUF, body).await;
                let statuses = [zipped, bare].map(|response| response.status().as_u16());
                assert_eq!(statuses, [400, 400], "{path} {levels}");
            }
        }
        let profile = gzip(&nest(groups.clone(), &[2, 3]));
        for body in [nest(profile, &[1, 2, 1]), groups.clone()] {
            let response = lens
                .post("/push.v1.PusherService/Push", "application/proto", body)
                .await;
            assert_eq!(response.status(), 400, "{levels}");
        }
        let json = format!(
            r#"{{"resourceSpans":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        );
        assert_eq!(
            lens.post("/v1/traces", JSON, json.into_bytes())
                .await
                .status(),
            400,
            "{levels}"
        );
    }
    assert_eq!(lens.status("/api/identity").await, 200);
}

#[tokio::test]
async fn what_is_exported_can_be_taken_in_again_and_is_there_once() {
    let lens = Lens::start().await;
    send(
        &lens,
        "/v1/traces",
        &spans(
            "s",
            json!([
                span(
                    "a",
                    "1",
                    json!({"attributes": [{"key": "d", "value": {"doubleValue": "NaN"}}]})
                ),
                span("a", "2", json!({}))
            ]),
        ),
    )
    .await;
    send(&lens, "/v1/logs", &json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "5", "body": {"stringValue": "x"}}]}]}]})).await;
    send(&lens, "/v1/metrics", &json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge("g", json!({"timeUnixNano": now_ns().to_string(), "asInt": 4}))]}]}]})).await;
    let exported = lens.text("/api/export").await;
    assert_eq!(exported.lines().count(), 3, "{exported}");
    let other = Lens::start().await;
    for _ in 0..2 {
        let response = other
            .post(
                "/api/import",
                "application/x-ndjson",
                exported.clone().into_bytes(),
            )
            .await;
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().await.expect("JSON");
        assert_eq!(
            answer,
            json!({"spans": 2, "records": 1, "points": 1, "rejected": 0})
        );
    }
    assert_eq!(other.text("/api/export").await, exported);
    let spoilt = format!("\n{exported}hello\n").into_bytes();
    let refused = other
        .post("/api/import", "application/x-ndjson", spoilt)
        .await;
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
    let huge = |body: &Value| {
        body.to_string()
            .replace("\"HUGE\"", "1e400")
            .replace("\"SMALL\"", "-1e-400")
    };
    let post = async |path: &str, body: Value| -> Value {
        let response = lens.post(path, JSON, huge(&body).into_bytes()).await;
        assert_eq!(response.status(), 200, "{body}");
        response.json().await.expect("JSON")
    };
    let of = |number: &str| json!([{"key": "k", "value": {"doubleValue": number}}]);
    let answer = post(
        "/v1/traces",
        spans(
            "s",
            json!([
                span("a", "1", json!({"attributes": of("HUGE")})),
                span(
                    "a",
                    "2",
                    json!({"attributes": of("SMALL"), "unknown": ["HUGE"]})
                ),
            ]),
        ),
    )
    .await;
    assert_eq!(
        answer["partialSuccess"],
        json!({"rejectedSpans": "1", "errorMessage": "Span: number out of range"})
    );
    assert_eq!(lens.spans("").await.len(), 1);
    let records = json!([{"body": {"doubleValue": "HUGE"}}, {"body": {"stringValue": "kept"}}]);
    let logs =
        json!({"unknown": "HUGE", "resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]});
    let answer = post("/v1/logs", logs).await;
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
    let points = json!([
        {"name": "a", "gauge": {"dataPoints": [{"asDouble": "HUGE"}, {"asDouble": 1}]}},
        {"name": "b", "histogram": {"dataPoints": [{"count": 1, "sum": "HUGE"}, {"count": 1, "sum": 1}]}},
    ]);
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": points}]}]});
    let answer = post("/v1/metrics", metrics).await;
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
        let answer = send(
            &lens,
            "/v1/traces",
            &json!({"resourceSpans": [resource_spans, kept]}),
        )
        .await;
        assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2", "{number}");
        let page = lens.text(&format!("/traces/{}", "b".repeat(32))).await;
        let kept = format!("data-testid=\"trace-spans\">{}<", number + 1);
        assert!(page.contains(&kept), "{number}");
    }
    // Points of two types in one metric: a message keeps one of them.
    let point = |value: i32| json!({"dataPoints": [{"asInt": value, "timeUnixNano": now_ns().to_string()}]});
    let both = json!({"name": "both", "gauge": point(1), "sum": point(2)});
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [both]}]}]});
    let answer = send(&lens, "/v1/metrics", &metrics).await;
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1");
}

#[tokio::test]
async fn texts_that_are_not_utf_8_are_kept_as_far_as_they_can_be_read() {
    let lens = Lens::start().await;
    let item = |id: u8, name: &[u8]| {
        let times = [&[7 << 3 | 1][..], &now_ns().to_le_bytes()].concat();
        [
            field(1, &[0xaa; 16]),
            field(2, &[id; 8]),
            field(5, name),
            times,
            field(
                9,
                &[field(1, name), field(2, &field(1, b"caf\xe9"))].concat(),
            ),
        ]
        .concat()
    };
    let spans = [
        field(2, &item(1, b"na\xefve")),
        field(2, &item(2, b"plain")),
    ]
    .concat();
    let body = field(1, &field(2, &spans));
    let response = lens
        .post("/v1/traces", "application/x-protobuf", body)
        .await;
    assert_eq!(response.status(), 200);
    let answer = String::from_utf8(response.bytes().await.expect("a body").to_vec());
    assert!(answer.expect("text").contains("texts that were not UTF-8"));
    let page = lens.text(&format!("/traces/{}", "a".repeat(32))).await;
    assert!(page.contains("data-testid=\"trace-spans\">2<"));
    assert!(page.contains("na?ve") && page.contains("plain"));

    let json = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "in @ other encoding"}}]}]}]});
    let body: Vec<u8> = json.to_string().into_bytes();
    let body = body
        .into_iter()
        .map(|byte| if byte == b'@' { 0xe9 } else { byte });
    // As editors of Windows begin a file.
    let body = [&b"\xef\xbb\xbf"[..], &body.collect::<Vec<u8>>()].concat();
    let response = lens.post("/v1/logs", JSON, body).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "0");
    let page = lens.text("/logs?q=encoding").await;
    assert!(page.contains("in \u{fffd} other"));
}
