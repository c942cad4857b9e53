//! What no exporter should send, and yet some will: it is taken or refused, and every page goes on answering.

use lens::Settings;
use lens::pprof::Profile;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, NumberDataPoint, exemplar,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prost::Message;
use serde_json::Value as Json;

use crate::metrics::{
    CUMULATIVE, DELTA, counter, exponential, export as export_metrics, gauge, number,
    request_of as metrics_of,
};
use crate::pages::line;
use crate::profiles::{CPU, profile, push, shows};
use crate::support::{
    Lens, PROTOBUF, count, has, hex, logs_of, names, now_ns, request_of, span, string, visible,
};

const S: u64 = 1_000_000_000;
/// The first time that an `i64` does not hold, and the last that OTLP can tell.
const BEYOND: [u64; 2] = [1 << 63, u64::MAX];

/// Every page and every answer of the API there is, with what these tests send in it.
async fn everything_answers(lens: &Lens) {
    lens.export_spans("api", vec![span(1, 99, 0, "ordinary", 1)])
        .await;
    for path in [
        "/",
        "/traces",
        "/traces?status=error&min_ms=1",
        "/logs",
        "/metrics?name=requests",
        "/metrics?name=size",
        "/metrics/data?name=requests",
        "/metrics/data?name=size&range=all",
        "/profiles",
        "/profiles?type=cpu&from_ms=0",
        "/profiles?type=heap&from_ms=0&frames=own",
        "/services",
        "/live",
        "/api/traces",
        "/api/logs",
        "/api/metrics?points=1000",
        "/api/profiles",
        &format!("/traces/{}", hex(1, 16)),
        &format!("/api/traces/{}", hex(1, 16)),
    ] {
        assert_eq!(lens.status(path).await, 200, "{path}");
    }
}

#[tokio::test]
async fn ids_that_are_none_lead_nowhere() {
    let lens = Lens::start().await;
    let link = |trace_id: &[u8], span_id: &[u8]| Link {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        ..Link::default()
    };
    let mut linked = span(1, 1, 0, "linked", 5);
    linked.links = vec![
        link(&[], &[]),
        link(&[9; 3], &[8; 8]),
        link(&[0; 16], &[8; 8]),
        link(&[9; 16], &[8; 7]),
        link(&[9; 16], &[8; 8]),
    ];
    // Some senders write "no parent" as zeros.
    linked.parent_span_id = vec![0; 8];
    linked.attributes = vec![string("pyroscope.profile.id", "none")];
    lens.export_spans("api", vec![linked]).await;
    let page = lens.trace(1).await;
    assert_eq!(count(&page, "link-out"), 1);
    has(&visible(&page), &["linked continues from trace 09090909…"]);
    let target = format!("href=\"/traces/{}#span-{}\"", hex(9, 16), hex(8, 8));
    has(&page, &[&target]);
    assert!(!page.contains("span-profile-link"));
    assert!(!lens.seen("/traces").await.contains("parent not here yet"));
    lens.export_spans("worker", vec![span(9, 8, 0, "target", 1)])
        .await;
    let page = lens.trace(9).await;
    has(&visible(&page), &["Continued by linked api"]);

    let record = |trace_id: Vec<u8>| LogRecord {
        time_unix_nano: now_ns(),
        span_id: vec![1; 8],
        trace_id,
        ..LogRecord::default()
    };
    lens.export_records("api", vec![record(vec![7; 3])]).await;
    let page = lens.text("/logs").await;
    has(&visible(&page), &["Not written inside a trace."]);
    assert!(!page.contains("log-trace-link"));
    everything_answers(&lens).await;
}

#[tokio::test]
async fn times_that_no_clock_shows_are_the_latest_there_is() {
    let lens = Lens::start().await;
    let event = |time_unix_nano| Event {
        time_unix_nano,
        ..Event::default()
    };
    for (number, start, end) in [
        (1, BEYOND[0], BEYOND[1]),
        (2, BEYOND[1], 0),
        (3, 0, BEYOND[0]),
        (4, 1, 0),
    ] {
        let late = |trace| Span {
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            events: BEYOND.map(event).to_vec(),
            ..span(trace, number, 0, "late", 0)
        };
        lens.export_spans("api", vec![late(1), late(number + 1)])
            .await;
    }
    let record = |time_unix_nano| LogRecord {
        time_unix_nano,
        trace_id: vec![1; 16],
        ..LogRecord::default()
    };
    lens.export_records("api", BEYOND.map(record).to_vec())
        .await;
    let now = now_ns();
    let exemplar = |time_unix_nano| Exemplar {
        time_unix_nano,
        trace_id: vec![1; 16],
        value: Some(exemplar::Value::AsDouble(1.0)),
        ..Exemplar::default()
    };
    let sizes = ExponentialHistogramDataPoint {
        start_time_unix_nano: now - 60 * S,
        time_unix_nano: now - 20 * S,
        count: 1,
        zero_count: 1,
        exemplars: vec![exemplar(BEYOND[0]), exemplar(BEYOND[1]), exemplar(now)],
        ..ExponentialHistogramDataPoint::default()
    };
    let requests = [
        (0, BEYOND[0]),
        (BEYOND[0], BEYOND[1]),
        (BEYOND[1], now - 20 * S),
    ];
    let requests = requests.map(|(start, time)| number(start, time, 60, vec![]));
    let metrics = vec![
        counter("requests", DELTA, requests.to_vec()),
        exponential("size", DELTA, vec![sizes]),
    ];
    export_metrics(&lens, "api", metrics).await;
    for (time_nanos, duration_nanos) in [
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
        (now as i64, i64::MAX),
    ] {
        for measure in [CPU, ("inuse_space", "bytes")] {
            let pushed = Profile {
                time_nanos,
                duration_nanos,
                ..profile(measure, 0, &[("main", 7, "")])
            };
            push(&lens, "api", &pushed, false).await;
        }
    }

    everything_answers(&lens).await;
    let got: ExportTraceServiceRequest = lens.json(&format!("/api/traces/{}", hex(5, 16))).await;
    let got = &got.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(
        (got.start_time_unix_nano, got.end_time_unix_nano),
        (1, 0),
        "what came in goes out equal"
    );
    let page = visible(&lens.trace(2).await);
    has(&page, &["Started 2116-02-20 23:53:38.427 Duration 1 ns"]);
    has(&lens.seen("/logs").await, &["23:53:38.427"]);
    // Two exemplars are of a time that is not drawn, and only one point is of now.
    let data: Json = lens.json("/metrics/data?name=size").await;
    let exemplars = data["charts"][0]["exemplars"].as_array();
    assert_eq!(exemplars.map(Vec::len), Some(1));
    let data: Json = lens.json("/metrics/data?name=requests").await;
    let rates = line(&data, "rate", "api");
    assert_eq!(rates, [6.0], "60 in the one step of 10 s that they end in");
    has(&lens.seen("/profiles?from_ms=0").await, &["Total 21 ns"]);
}

#[tokio::test]
async fn numbers_that_are_none_are_called_so_and_drawn_as_gaps() {
    let lens = Lens::start().await;
    let now = now_ns();
    let gauge_of = |name: &str, value: f64| {
        let point = NumberDataPoint {
            time_unix_nano: now - 20 * S,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        };
        gauge(name, "s", point)
    };
    let extreme = |(scale, offset, ago)| ExponentialHistogramDataPoint {
        start_time_unix_nano: now - 120 * S,
        time_unix_nano: now - ago * S,
        count: 3,
        scale,
        zero_threshold: f64::NAN,
        positive: Some(Buckets {
            offset,
            bucket_counts: vec![1, 1],
        }),
        negative: Some(Buckets {
            offset,
            bucket_counts: vec![1],
        }),
        ..ExponentialHistogramDataPoint::default()
    };
    let sizes = [
        (20, i32::MAX, 40),
        (-20, i32::MIN, 30),
        (i32::MAX, i32::MAX, 20),
        (i32::MIN, -1, 10),
    ];
    let metrics = vec![
        gauge_of("nan", f64::NAN),
        gauge_of("inf", f64::INFINITY),
        gauge_of("behind", -0.25),
        exponential("size", CUMULATIVE, sizes.map(extreme).to_vec()),
    ];
    export_metrics(&lens, "api", metrics).await;
    for (name, shown) in [("nan", "NaN"), ("inf", "inf"), ("behind", "-250 ms")] {
        let page = lens.seen(&format!("/metrics?name={name}")).await;
        has(&page, &[&format!("Series Value At api {shown} ")]);
    }
    let data: Json = lens.json("/metrics/data?name=nan").await;
    assert!(line(&data, "value", "api").is_empty(), "{data}");
    everything_answers(&lens).await;
}

#[tokio::test]
async fn a_profile_of_any_numbers_is_drawn() {
    let lens = Lens::start().await;
    let now = now_ns();
    let extremes = [
        ("main;a", i64::MAX, ""),
        ("main;b", i64::MAX, ""),
        ("main;c", i64::MIN, ""),
        ("main;d", -5, "neither a span id"),
    ];
    push(&lens, "api", &profile(CPU, now, &extremes), true).await;
    push(&lens, "api", &profile(CPU, now, &[]), true).await;
    let kept = [("main;a", i64::MAX), ("main;b", i64::MAX)];
    shows(&lens, "/api/profiles/cpu", &kept).await;
    // A location whose lines are read again for each of its mentions would be 25 million frames.
    let mut bomb = profile(CPU, now, &[("leaf", 3, "")]);
    bomb.location[0].line = bomb.location[0].line.repeat(5000);
    bomb.sample[0].location_id = vec![1; 5000];
    push(&lens, "deep", &bomb, true).await;
    let deep = [(&*vec!["leaf"; 2000].join(";"), 3)];
    shows(&lens, "/api/profiles/cpu?service=deep", &deep).await;
    everything_answers(&lens).await;
}

#[tokio::test]
async fn profiles_are_merged_until_the_sum_is_as_much_as_an_answer_holds() {
    let lens = Lens::start().await;
    let now = now_ns();
    let older = profile(CPU, now - 20 * S, &[("main;older", 5, "")]);
    let mut large = profile(CPU, now - 10 * S, &[("main", 3, "")]);
    let texts = (0..130_000).map(|number| format!("{number:0>110}"));
    large.string_table.extend(texts);
    for pushed in [large, older] {
        push(&lens, "api", &pushed, true).await;
    }
    let page = lens.seen("/profiles?type=cpu").await;
    has(&page, &["Total 3 ns Profiles 2, the oldest 1 left out"]);
}

#[tokio::test]
async fn an_answer_holds_so_much_and_a_page_shows_so_much_of_a_text() {
    let lens = Lens::start_with(|settings| settings.max_body_bytes = 16 << 20).await;
    for number in 1..=5 {
        let mut large = span(1, number, 0, &format!("large {number}"), 1);
        large.attributes = vec![string("filler", &"x".repeat(8_000_000))];
        let body = request_of("api", vec![large]).encode_to_vec();
        assert_eq!(lens.sent("/v1/traces", PROTOBUF, body).await, 200);
    }
    lens.export_spans("worker", vec![span(2, 1, 0, "small", 1)])
        .await;
    assert_eq!(
        names(&lens.spans("?limit=1000").await),
        ["small"],
        "whole traces, the newest first"
    );
    let page = lens.trace(1).await;
    assert!(page.len() < 200_000, "{} bytes", page.len());
    let page = visible(&page);
    let cut = "Shown are the first 4 of 5 spans.";
    has(&page, &["Spans 5 Errors 0", cut]);
    assert_eq!(page.matches("x… (7.63 MiB in all)").count(), 4);
}

#[tokio::test]
async fn a_request_that_would_become_much_more_than_it_is_is_413() {
    let lens = Lens::start_with(|settings| settings.max_decoded_bytes = 1_000_000).await;
    let repeated = |spans: Vec<Span>, scopes: usize, filler: usize| {
        let mut request = request_of("api", spans);
        let of_resource = &mut request.resource_spans[0];
        let attributes = &mut of_resource.resource.as_mut().expect("one").attributes;
        attributes.push(string("filler", &"x".repeat(filler)));
        of_resource.scope_spans = vec![of_resource.scope_spans.remove(0); scopes];
        request.encode_to_vec()
    };
    for (body, status) in [
        (repeated(vec![Span::default(); 100_001], 1, 0), 413),
        (repeated(vec![Span::default(); 1000], 1, 0), 200),
        (repeated(vec![Span::default()], 200, 10_000), 413),
        (repeated(vec![Span::default()], 50, 10_000), 200),
    ] {
        assert_eq!(lens.sent("/v1/traces", PROTOBUF, body).await, status);
    }
    let points = vec![NumberDataPoint::default(); 100_001];
    let body = metrics_of("api", vec![counter("requests", DELTA, points)]).encode_to_vec();
    assert_eq!(lens.sent("/v1/metrics", PROTOBUF, body).await, 413);
    let body = logs_of("api", vec![LogRecord::default(); 100_001]).encode_to_vec();
    assert_eq!(lens.sent("/v1/logs", PROTOBUF, body).await, 413);
}

#[tokio::test]
async fn what_every_point_of_a_series_shares_counts_too() {
    let bound = |settings: &mut Settings| settings.bounds.points.bytes = 200_000;
    let send = async |lens: &Lens, value: i64| {
        let large = vec![string("filler", &value.to_string().repeat(20_000))];
        let points = vec![number(0, now_ns(), value, large)];
        let metric = counter(&format!("c{value}"), CUMULATIVE, points);
        export_metrics(lens, "api", vec![metric]).await;
    };
    let kept = async |lens: &Lens| {
        let page = lens.text("/metrics").await;
        let names = ["c1", "c2", "c3", "c4", "c5", "c6"].into_iter();
        let kept = names.filter(|name| page.contains(&format!("data-name=\"{name}\"")));
        kept.collect::<Vec<_>>().join(" ")
    };
    let lens = Lens::start_with(bound).await;
    for value in 1..=5 {
        send(&lens, value).await;
    }
    // Three times 20,000 bytes each: three fit, four do not.
    assert_eq!(kept(&lens).await, "c3 c4 c5");
    // And is counted again after a restart.
    let lens = Lens::start_in(lens.stop().await, bound).await;
    send(&lens, 6).await;
    assert_eq!(kept(&lens).await, "c4 c5 c6");
}

#[tokio::test]
async fn what_is_asked_may_hold_any_character() {
    let lens = Lens::start().await;
    let record = LogRecord {
        time_unix_nano: now_ns(),
        attributes: vec![string("order", "4711 paid")],
        ..LogRecord::default()
    };
    lens.export_records("api", vec![record]).await;
    for (query, found) in [
        ("q=4711%00paid", 1),
        ("q=%00", 1),
        ("q=%22", 1),
        ("field=order%00=4711+paid", 1),
        ("field=%00=%00", 0),
        ("field==x", 0),
    ] {
        let page = lens.text(&format!("/logs?{query}")).await;
        assert_eq!(count(&page, "log-row"), found, "{query}");
    }
}
