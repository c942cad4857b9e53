use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, HistogramDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use serde_json::Value as Json;

use crate::metrics::{CUMULATIVE, DELTA, counter, export as export_metrics, histogram, number};
use crate::profiles::{CPU, profile, push};
use crate::support::{
    Lens, count, failed, has, header, hex, int, now_ns, record, span, string, visible,
};

const S: u64 = 1_000_000_000;

/// A trace of two services, a database call, a failure and a job linked to it.
async fn filled() -> Lens {
    let lens = Lens::start().await;
    let began = now_ns();
    // All at once, whenever they are sent: the trace lasts as long as its root.
    let span = |trace, number, parent, name: &str, ms| Span {
        start_time_unix_nano: began,
        end_time_unix_nano: began + ms * 1_000_000,
        ..span(trace, number, parent, name, ms)
    };
    let mut root = failed(span(1, 1, 0, "GET /demo/work", 40));
    root.attributes = vec![
        string("http.route", "/demo/work"),
        int("http.response.status_code", 500),
    ];
    root.events = vec![Event {
        time_unix_nano: root.start_time_unix_nano,
        name: "exception".to_owned(),
        attributes: vec![string("exception.message", "out of stock")],
        ..Event::default()
    }];
    let mut call = span(1, 2, 1, "GET /quotes", 20);
    call.kind = 3;
    let mut select = span(1, 4, 1, "SELECT products", 5);
    select.kind = 3;
    select.attributes = vec![string("db.system.name", "sqlite")];
    let mut send = span(1, 5, 1, "send jobs", 2);
    send.kind = 4;
    lens.export_spans("shop-api", vec![root, call, select, send])
        .await;
    let mut job = span(2, 6, 0, "process jobs", 7);
    job.kind = 5;
    job.links = vec![Link {
        trace_id: vec![1; 16],
        span_id: vec![5; 8],
        ..Link::default()
    }];
    lens.export_spans("shop-worker", vec![span(1, 3, 2, "GET /quotes", 10), job])
        .await;
    let refused = LogRecord {
        attributes: vec![string("order.id", "4711")],
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        ..record("payment refused", 17)
    };
    lens.export_records("shop-api", vec![refused]).await;
    lens
}

/// A link to the first trace, or to what has this id on its page.
fn link_to(place: &str) -> String {
    format!("href=\"/traces/{}{place}\"", hex(1, 16))
}

#[tokio::test]
async fn the_list_of_traces_shows_name_status_errors_and_leads_to_the_trace() {
    let lens = filled().await;
    let page = lens.text("/traces?status=error").await;
    assert_eq!(count(&page, "trace-row"), 1);
    let (link, filter) = (link_to(""), "<option value=\"/demo/work\">");
    has(&page, &[&link, filter]);
    let row = ["GET /demo/work shop-api", "500 1 error", "40 ms"];
    has(&visible(&page), &row);
    has(&visible(&page), &["{ status = error }"]);
}

#[tokio::test]
async fn a_time_without_anything_leads_to_everything_that_is_kept() {
    let lens = filled().await;
    for (path, kept) in [
        ("/services", "edge"),
        ("/traces", "trace-row"),
        ("/logs", "log-row"),
        ("/", "service-row"),
    ] {
        let shown = format!("data-testid=\"{kept}\"");
        let page = lens.text(&format!("{path}?from_ms=1&to_ms=2")).await;
        assert!(!page.contains(&shown), "{path}");
        let (_, link) = page.split_once("data-testid=\"empty\"").expect(path);
        has(link, &[&format!("href=\"{path}?range=all\"")]);
        has(&lens.text(&format!("{path}?range=all")).await, &[&shown]);
        let nothing = format!("{path}?range=all&q=no-such-thing");
        assert_eq!(count(&lens.text(&nothing).await, "everything"), 0, "{path}");
    }
}

#[tokio::test]
async fn the_overview_leads_to_the_failed_and_to_the_slowest_requests_of_a_service() {
    let lens = filled().await;
    let page = lens.text("/?range=1h").await;
    let row_of = |service: &str| {
        let begin = format!("data-service=\"{service}\"");
        let (_, row) = page.split_once(&begin).expect(service);
        row.split("</tr>").next().unwrap_or_default()
    };
    let row = row_of("shop-api");
    for (shown, path) in [
        ("100.0 %", "/traces?service=shop-api&status=error&range=1h"),
        ("40 ms", "/traces?service=shop-api&sort=duration&range=1h"),
    ] {
        let (link, _) = row.split_once(&format!(">{shown}</a>")).expect(shown);
        let href = format!("href=\"{}\"", path.replace('&', "&amp;"));
        let last = link.rsplit("<a ").next().unwrap_or_default();
        assert!(last.starts_with(&href), "{row}");
        let list = lens.text(path).await;
        assert_eq!(count(&list, "trace-row"), 1);
        has(&visible(&list), &["GET /demo/work"]);
    }
    // Of services that failed in nothing there is nothing to list.
    let row = row_of("shop-worker");
    has(row, &["0.0 %"]);
    assert!(!row.contains("status=error"), "{row}");
}

#[tokio::test]
async fn lists_of_services_that_are_cut_say_so() {
    let lens = Lens::start().await;
    for number in 0..201 {
        let request = span(1, 1 + number, 0, "GET /", 1);
        lens.export_spans(&format!("service-{number}"), vec![request])
            .await;
    }
    let overview = lens.text("/?range=all").await;
    assert_eq!(count(&overview, "service-row"), 50);
    let cut = "Only the 50 services with the most requests are shown.";
    has(&visible(&overview), &[cut]);
    has(&lens.seen("/traces").await, &["only the first 200"]);
}

#[tokio::test]
async fn only_a_list_by_time_has_newer_and_older_pages() {
    let lens = filled().await;
    for (sort, before, behind) in [("", "Newer", "Older"), ("duration", "Previous", "Next")] {
        let list = format!("/traces?limit=1&sort={sort}");
        let pager = async |list: &str| {
            let page = lens.text(list).await;
            let (_, pager) = page.split_once("class=\"pager\"").expect("a pager");
            let (pager, _) = pager.split_once("</p>").expect("its end");
            pager.replace("&amp;", "&")
        };
        let first = pager(&list).await;
        assert_eq!(visible(&first), format!("from 1 to 1 {behind}"));
        let second = pager(&format!("{list}&page=2")).await;
        assert_eq!(visible(&second), format!("{before} from 2 to 2"));
        // New traces move no page but the first, and the range stays the one that was chosen.
        let link = |pager: &str, name: &str| {
            let (before, _) = pager.split_once(name).expect(name);
            let (_, link) = before.rsplit_once("href=\"").expect("a link");
            link.split('"').next().unwrap_or_default().to_owned()
        };
        let first = pager(&format!("{list}&range=1h")).await;
        let older = link(&first, "traces-older");
        has(&older, &["range=1h", "until_ms=1", "page=2"]);
        assert!(!older.contains("to_ms"), "{older}");
        let newer = link(&pager(&older).await, "traces-newer");
        has(&newer, &["range=1h"]);
        assert!(!newer.contains("until_ms"), "{newer}");
    }
}

#[tokio::test]
async fn a_trace_shows_its_spans_events_logs_and_links_both_ways() {
    let lens = filled().await;
    let page = lens.trace(1).await;
    assert_eq!(count(&page, "span"), 5);
    has(&page, &[&format!("id=\"span-{}\"", hex(3, 8))]);
    let shown = [
        "Spans 5",
        "Errors 1",
        "it broke",
        "exception.message out of stock",
        "http.route /demo/work",
        "payment refused",
        "Continued by process jobs",
    ];
    has(&visible(&page), &shown);
    let job = lens.trace(2).await;
    has(&job, &[&link_to(&format!("#span-{}", hex(5, 8)))]);
    let from = "process jobs continues from GET /demo/work shop-api";
    has(&visible(&job), &[from]);
}

#[tokio::test]
async fn a_span_with_samples_leads_to_its_flame_graph_and_back() {
    let lens = filled().await;
    let id = hex(1, 8);
    assert!(!lens.trace(1).await.contains("span-profile-link"));
    let stacks = [
        ("app::main;app::burn", 70_000_000, id.as_str()),
        ("app::main;app::other", 30_000_000, ""),
    ];
    let pushed = profile(CPU, now_ns(), &stacks);
    push(&lens, "shop-api", &pushed, true).await;
    let href = format!("/profiles?type=cpu&amp;service=shop-api&amp;profile_id={id}");
    has(&lens.trace(1).await, &[&href]);
    let page = lens.text(&href.replace("&amp;", "&")).await;
    let of = "Samples of one span only: GET /demo/work";
    has(&visible(&page), &["app::burn", "Total 70 ms", of]);
    assert!(!visible(&page).contains("app::other"), "{page}");
    has(&page, &[&link_to(&format!("#span-{id}"))]);
    has(&lens.seen("/profiles?type=cpu").await, &["Total 100 ms"]);
}

#[tokio::test]
async fn the_flame_graph_of_a_span_is_waited_for() {
    let lens = Lens::start().await;
    let id = hex(1, 8);
    let path = format!("/profiles?type=cpu&service=shop-api&profile_id={id}");
    let page = lens.text(&path).await;
    // It asks for itself when samples or the span arrive.
    let (body, get) = (
        "<body data-signals=\"profiles traces\">",
        format!("hx-get=\"{}\"", path.replace('&', "&amp;")),
    );
    has(&page, &[body, &get]);
    let waits = "this page waits";
    has(&visible(&page), &["Samples of one span only.", waits]);
    // Another span's samples are no reason to show anything.
    let of = |span: &str| profile(CPU, now_ns(), &[("app::burn", 7, span)]);
    push(&lens, "shop-api", &of(&hex(2, 8)), true).await;
    has(&lens.seen(&path).await, &[waits]);
    push(&lens, "shop-api", &of(&id), true).await;
    let page = lens.text(&path).await;
    has(&visible(&page), &["Total 7 ns Profiles 1 From"]);
    assert_eq!(count(&page, "profile-trace-link"), 0);
    lens.export_spans("shop-api", vec![span(1, 1, 0, "GET /demo/cpu", 40)])
        .await;
    let link = link_to(&format!("#span-{id}")) + " data-testid=\"profile-trace-link\"";
    has(&lens.text(&path).await, &[&link]);
}

#[tokio::test]
async fn a_record_shows_its_fields_and_leads_to_its_span() {
    let lens = filled().await;
    let page = lens
        .text("/logs?q=payment&level=error&field=order.id=4711")
        .await;
    assert_eq!(count(&page, "log-row"), 1);
    let span = link_to(&format!("#span-{}", hex(1, 8)));
    has(&page, &["<mark>payment</mark> refused", &span]);
    has(
        &visible(&page),
        &[
            r#"{service_name=~&quot;.+&quot;} |~ &quot;(?i)payment&quot; | detected_level=&quot;error&quot; | order_id=&quot;4711&quot;"#,
        ],
    );
    let nothing = lens.seen("/logs?q=nothing-like-it").await;
    has(&nothing, &["No record passes these filters."]);
}

#[tokio::test]
async fn services_show_who_calls_whom() {
    let lens = filled().await;
    let page = lens.text("/services").await;
    let edges = page.split("data-testid=\"edge\" ").skip(1);
    let mut edges: Vec<&str> = edges.filter_map(|row| row.split('>').next()).collect();
    edges.sort_unstable();
    assert_eq!(
        edges,
        [
            "data-from=\"shop-api\" data-to=\"shop-worker\"",
            "data-from=\"shop-api\" data-to=\"shop-worker\"",
            "data-from=\"shop-api\" data-to=\"sqlite\""
        ],
        "a call, a message and the database"
    );
}

#[tokio::test]
async fn the_overview_counts_what_arrived_and_shows_the_bounds() {
    let lens = filled().await;
    let shown = [
        "Traces 6 spans",
        "Logs 1 records",
        "Traces 6 of 200,000 spans",
        "of 256 MiB",
        "shop-api 1 1/min 100.0 % 40 ms 40 ms", // one request, which failed
    ];
    has(&lens.seen("/").await, &shown);
}

/// The values of a chart's line that are known.
pub fn line(data: &Json, chart: &str, label: &str) -> Vec<f64> {
    let all = |list: &'_ Json| list.as_array().expect("a list").clone();
    let mut charts = all(&data["charts"]).into_iter();
    let chart = charts.find(|one| one["id"] == chart).expect(chart);
    let mut lines = all(&chart["lines"]).into_iter();
    let line = lines.find(|line| line["label"] == label).expect(label);
    let values = all(&line["values"]).into_iter();
    values.filter_map(|value| value.as_f64()).collect()
}

#[tokio::test]
async fn a_counter_is_drawn_as_what_was_counted_whatever_its_temporality() {
    let lens = Lens::start().await;
    let end = now_ns() / (10 * S) * (10 * S) - 10 * S;
    let start = end - 60 * S;
    let route = |name: &str| vec![string("http.route", name)];
    let cumulative = [(20, 40), (40, 40), (60, 100)]
        .map(|(after, value)| number(start, start + after * S, value, route("/a")));
    let delta = [(0, 20, 30), (20, 40, 10)]
        .map(|(from, to, value)| number(start + from * S, start + to * S, value, route("/b")));
    let metrics = vec![
        counter("requests", CUMULATIVE, cumulative.to_vec()),
        counter("requests", DELTA, delta.to_vec()),
    ];
    export_metrics(&lens, "shop", metrics).await;
    let path = "/metrics/data?name=requests&by=http.route";
    let data: Json = lens.json(&format!("{path}&range=15m")).await;
    let counted =
        |label: &str| (line(&data, "rate", label).iter().sum::<f64>() * 10.0).round() as i64;
    assert_eq!((counted("/a"), counted("/b")), (100, 40));
    assert_eq!(line(&data, "rate", "/a"), [2.0, 2.0, 0.0, 0.0, 3.0, 3.0]);
    let only: Json = lens.json(&format!("{path}&only=http.route=/b")).await;
    assert_eq!(only["charts"][0]["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!(lens.status(&format!("{path}&range=0m")).await, 400);
}

#[tokio::test]
async fn a_histogram_is_drawn_with_its_quantiles_and_exemplars() {
    let lens = Lens::start().await;
    let time = now_ns() / (10 * S) * (10 * S) - 10 * S;
    let exemplar = Exemplar {
        time_unix_nano: time - 5,
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        value: Some(ExemplarValue::AsDouble(0.42)),
        ..Exemplar::default()
    };
    let point = HistogramDataPoint {
        start_time_unix_nano: time - 10 * S,
        time_unix_nano: time,
        count: 50,
        sum: Some(9.0),
        bucket_counts: vec![10, 30, 10, 0],
        explicit_bounds: vec![0.1, 0.5, 1.0],
        exemplars: vec![exemplar],
        ..HistogramDataPoint::default()
    };
    export_metrics(&lens, "shop", vec![histogram("duration", point)]).await;
    let data: Json = lens.json("/metrics/data?name=duration").await;
    assert_eq!(line(&data, "rate", "shop"), [5.0]);
    // By hand: p50 is the 25th of 50, the 15th of the 30 between 0.1 and 0.5; p95 the 7.5th of 10 between 0.5 and 1; p99 the 9.5th.
    for (label, expected) in [("p50", 0.3), ("p95", 0.875), ("p99", 0.975)] {
        let got = line(&data, "quantiles", label);
        let near = got.len() == 1 && (got[0] - expected).abs() < 1e-9;
        assert!(near, "{got:?} is not {expected}");
    }
    let dot = &data["charts"][0]["exemplars"][0];
    assert_eq!(dot["trace_id"], hex(7, 16));
    assert_eq!(dot["span_id"], hex(8, 8));
    assert_eq!(dot["value"], 0.42);
    let shown = [
        "50 · p50 300 ms (100 ms–500 ms) · p95 875 ms (500 ms–1 s)",
        "histogram_quantile(0.95, sum by (le) (rate(duration_seconds_bucket[1m])))",
    ];
    has(&lens.seen("/metrics?name=duration").await, &shown);
}

#[tokio::test]
async fn what_others_wrote_is_text_and_never_markup() {
    let lens = Lens::start().await;
    let nasty = "<script>alert(1)</script>\"'&";
    let mut span = span(1, 1, 0, nasty, 1);
    span.attributes = vec![string(nasty, nasty), string("http.route", nasty)];
    lens.export_spans(nasty, vec![span]).await;
    let record = LogRecord {
        attributes: vec![string(nasty, nasty)],
        ..record(nasty, 0)
    };
    lens.export_records(nasty, vec![record]).await;
    let point = number(1, now_ns(), 1, vec![string(nasty, nasty)]);
    export_metrics(&lens, nasty, vec![counter(nasty, CUMULATIVE, vec![point])]).await;
    let pushed = profile(CPU, now_ns(), &[(nasty, 5, "")]);
    push(&lens, nasty, &pushed, false).await;
    for path in [
        "/",
        "/traces",
        &format!("/traces/{}", hex(1, 16)),
        "/logs?q=script",
        "/metrics",
        "/profiles",
        "/services",
        "/traces?service=%3Cscript%3E%22",
    ] {
        let page = lens.text(path).await;
        // The policy forbids inline styles.
        for forbidden in ["<script>", "style=\""] {
            assert!(!page.contains(forbidden), "{path} {forbidden}");
        }
    }
}

#[tokio::test]
async fn pages_load_only_what_lens_itself_has() {
    let lens = filled().await;
    for path in [
        "/",
        "/traces",
        "/logs",
        "/metrics",
        "/profiles",
        "/services",
    ] {
        let page = lens.text(path).await;
        for foreign in ["src=\"http", "href=\"http", "//cdn"] {
            assert!(!page.contains(foreign), "{path} {foreign}");
        }
        for asset in page.split('"').filter(|text| text.starts_with("/assets/")) {
            let response = lens.get(asset).await;
            assert_eq!(response.status(), 200, "{asset}");
            has(header(&response, "cache-control"), &["immutable"]);
        }
    }
    let font = lens.get("/assets/inter.woff2").await;
    assert_eq!(header(&font, "content-type"), "font/woff2");
    assert_eq!(lens.status("/assets/nothing.js").await, 404);
}

#[tokio::test]
async fn a_page_is_asked_for_again_only_when_something_arrived() {
    let lens = Lens::start().await;
    let before: Json = lens.json("/live").await;
    assert_eq!(before, lens.json::<Json>("/live").await);
    lens.export_spans("api", vec![span(1, 1, 0, "a", 1)]).await;
    let after: Json = lens.json("/live").await;
    assert_ne!(before["traces"], after["traces"]);
    assert_eq!(before["logs"], after["logs"]);
}

#[tokio::test]
async fn problems_of_pages_are_pages() {
    let lens = Lens::start().await;
    for (path, status) in [
        ("/traces/xyz", 400),
        (&format!("/traces/{}", hex(1, 16)), 404),
        ("/traces?min_ms=soon", 400),
        ("/logs?level=loud", 400),
    ] {
        let response = lens.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        let content_type = header(&response, "content-type");
        assert_eq!(content_type, "text/html; charset=utf-8", "{path}");
        let page = response.text().await.expect("a body");
        assert_eq!(count(&page, "problem"), 1, "{path}");
    }
}
