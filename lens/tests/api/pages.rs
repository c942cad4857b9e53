use std::collections::BTreeSet;

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Histogram, HistogramDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use serde_json::Value as Json;

use crate::metrics::{CUMULATIVE, DELTA, counter, export as export_metrics, metric, number};
use crate::profiles::{CPU, profile, push};
use crate::support::{Lens, failed, int, now_ns, record, span, string};

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

fn trace() -> String {
    "01".repeat(16)
}

/// What stands between the tags.
pub fn visible(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for character in html.chars() {
        match character {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            _ if !inside => text.push(character),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_list_of_traces_shows_name_status_errors_and_leads_to_the_trace() {
    let lens = filled().await;
    let page = lens.text("/traces?status=error").await;
    assert_eq!(page.matches("data-testid=\"trace-row\"").count(), 1);
    assert!(page.contains(&format!("href=\"/traces/{}\"", trace())));
    assert!(page.contains("<option value=\"/demo/work\">"), "a filter");
    let text = visible(&page);
    assert!(
        text.contains("GET /demo/work shop-api")
            && text.contains("500 1 error")
            && text.contains("40 ms"),
        "{text}"
    );
    assert!(text.contains("{ status = error }"), "{text}");
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
        let everything = format!("href=\"{path}?range=all\"");
        let (_, link) = page.split_once("data-testid=\"empty\"").expect(path);
        assert!(link.contains(&everything), "{path}: {link}");
        let page = lens.text(&format!("{path}?range=all")).await;
        assert!(page.contains(&shown), "{path}");
        let page = lens
            .text(&format!("{path}?range=all&q=no-such-thing"))
            .await;
        assert!(!page.contains("data-testid=\"everything\""), "{path}");
    }
}

#[tokio::test]
async fn the_overview_leads_to_the_failed_and_to_the_slowest_requests_of_a_service() {
    let lens = filled().await;
    let page = lens.text("/?range=1h").await;
    let (_, row) = page.split_once("data-service=\"shop-api\"").expect("a row");
    let row = row.split("</tr>").next().unwrap_or_default();
    for (shown, path) in [
        ("100.0 %", "/traces?service=shop-api&status=error&range=1h"),
        ("40 ms", "/traces?service=shop-api&sort=duration&range=1h"),
    ] {
        let (link, _) = row.split_once(&format!(">{shown}</a>")).expect(shown);
        let href = format!("href=\"{}\"", path.replace('&', "&amp;"));
        assert!(
            link.rsplit("<a ")
                .next()
                .is_some_and(|link| link.starts_with(&href)),
            "{row}"
        );
        let list = lens.text(path).await;
        assert_eq!(list.matches("data-testid=\"trace-row\"").count(), 1);
        assert!(visible(&list).contains("GET /demo/work"), "{path}");
    }
    // Of services that failed in nothing there is nothing to list.
    let (_, row) = page
        .split_once("data-service=\"shop-worker\"")
        .expect("a row");
    let row = row.split("</tr>").next().unwrap_or_default();
    assert!(
        row.contains("0.0 %") && !row.contains("status=error"),
        "{row}"
    );
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
    assert_eq!(overview.matches("data-testid=\"service-row\"").count(), 50);
    assert!(visible(&overview).contains("Only the 50 services with the most requests are shown."));
    let list = lens.text("/traces").await;
    assert!(visible(&list).contains("only the first 200"), "{list}");
}

#[tokio::test]
async fn only_a_list_by_time_has_newer_and_older_pages() {
    let lens = filled().await;
    for (sort, before, behind) in [("", "Newer", "Older"), ("duration", "Previous", "Next")] {
        let first = lens.text(&format!("/traces?limit=1&sort={sort}")).await;
        let second = lens
            .text(&format!("/traces?limit=1&sort={sort}&page=2"))
            .await;
        let pager = |page: &str| {
            let (_, pager) = page.split_once("class=\"pager\"").expect("a pager");
            visible(pager.split("</p>").next().unwrap_or_default())
        };
        assert_eq!(pager(&first), format!("from 1 to 1 {behind}"));
        assert_eq!(pager(&second), format!("{before} from 2 to 2"));
        // New traces move no page but the first, and the range stays the one that was chosen.
        let first = lens
            .text(&format!("/traces?limit=1&sort={sort}&range=1h"))
            .await;
        let link = |page: &str, name: &str| {
            let (before, _) = page
                .split_once(&format!("data-testid=\"{name}\""))
                .expect(name);
            let (_, link) = before.rsplit_once("href=\"").expect("a link");
            link.split('"')
                .next()
                .unwrap_or_default()
                .replace("&amp;", "&")
        };
        let older = link(&first, "traces-older");
        assert!(
            older.contains("range=1h") && older.contains("until_ms=1"),
            "{older}"
        );
        assert!(
            older.contains("page=2") && !older.contains("to_ms"),
            "{older}"
        );
        let newer = link(&lens.text(&older).await, "traces-newer");
        assert!(
            newer.contains("range=1h") && !newer.contains("until_ms"),
            "{newer}"
        );
    }
}

#[tokio::test]
async fn a_trace_shows_its_spans_events_logs_and_links_both_ways() {
    let lens = filled().await;
    let page = lens.text(&format!("/traces/{}", trace())).await;
    assert_eq!(page.matches("data-testid=\"span\"").count(), 5);
    assert!(page.contains(&format!("id=\"span-{}\"", "03".repeat(8))));
    let text = visible(&page);
    for expected in [
        "Spans 5",
        "Errors 1",
        "it broke",
        "exception.message out of stock",
        "http.route /demo/work",
        "payment refused",
        "Continued by process jobs",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let job = lens.text(&format!("/traces/{}", "02".repeat(16))).await;
    assert!(
        job.contains(&format!(
            "href=\"/traces/{}#span-{}\"",
            trace(),
            "05".repeat(8)
        )),
        "the link leads back"
    );
    assert!(visible(&job).contains("process jobs continues from GET /demo/work shop-api"));
}

#[tokio::test]
async fn a_span_with_samples_leads_to_its_flame_graph_and_back() {
    let lens = filled().await;
    let id = "01".repeat(8);
    assert!(
        !lens
            .text(&format!("/traces/{}", trace()))
            .await
            .contains("span-profile-link")
    );
    let pushed = profile(
        CPU,
        now_ns(),
        &[
            ("app::main;app::burn", 70_000_000, &id),
            ("app::main;app::other", 30_000_000, ""),
        ],
    );
    push(&lens, "shop-api", &pushed, true).await;
    let page = lens.text(&format!("/traces/{}", trace())).await;
    let href = format!("/profiles?type=cpu&amp;service=shop-api&amp;profile_id={id}");
    assert!(page.contains(&href), "{href}");
    let page = lens.text(&href.replace("&amp;", "&")).await;
    let text = visible(&page);
    assert!(
        text.contains("app::burn") && !text.contains("app::other"),
        "{text}"
    );
    assert!(
        text.contains("Total 70 ms") && text.contains("Samples of one span only: GET /demo/work"),
        "{text}"
    );
    assert!(page.contains(&format!("href=\"/traces/{}#span-{id}\"", trace())));
    assert!(visible(&lens.text("/profiles?type=cpu").await).contains("Total 100 ms"));
}

#[tokio::test]
async fn the_flame_graph_of_a_span_is_waited_for() {
    let lens = Lens::start().await;
    let id = "01".repeat(8);
    let path = format!("/profiles?type=cpu&service=shop-api&profile_id={id}");
    let page = lens.text(&path).await;
    assert!(
        page.contains("<body data-signals=\"profiles traces\">")
            && page.contains(&format!("hx-get=\"{}\"", path.replace('&', "&amp;"))),
        "it asks for itself when samples or the span arrive"
    );
    let text = visible(&page);
    assert!(
        text.contains("Samples of one span only.") && text.contains("this page waits"),
        "{text}"
    );
    // Another span's samples are no reason to show anything.
    let of = |span: &str| profile(CPU, now_ns(), &[("app::burn", 7, span)]);
    push(&lens, "shop-api", &of(&"02".repeat(8)), true).await;
    assert!(visible(&lens.text(&path).await).contains("this page waits"));
    push(&lens, "shop-api", &of(&id), true).await;
    let page = lens.text(&path).await;
    assert!(visible(&page).contains("Total 7 ns Profiles 1 From"));
    assert!(!page.contains("profile-trace-link"));
    lens.export_spans("shop-api", vec![span(1, 1, 0, "GET /demo/cpu", 40)])
        .await;
    let page = lens.text(&path).await;
    assert!(page.contains(&format!(
        "href=\"/traces/{}#span-{id}\" data-testid=\"profile-trace-link\"",
        trace()
    )));
}

#[tokio::test]
async fn a_record_shows_its_fields_and_leads_to_its_span() {
    let lens = filled().await;
    let page = lens
        .text("/logs?q=payment&level=error&field=order.id=4711")
        .await;
    assert_eq!(page.matches("data-testid=\"log-row\"").count(), 1);
    assert!(page.contains("<mark>payment</mark> refused"));
    assert!(page.contains(&format!(
        "href=\"/traces/{}#span-{}\"",
        trace(),
        "01".repeat(8)
    )));
    let text = visible(&page);
    assert!(text.contains(r#"{service_name=~&quot;.+&quot;} |~ &quot;(?i)payment&quot; | detected_level=&quot;error&quot; | order_id=&quot;4711&quot;"#), "{text}");
    assert!(
        visible(&lens.text("/logs?q=nothing-like-it").await)
            .contains("No record passes these filters.")
    );
}

#[tokio::test]
async fn services_show_who_calls_whom() {
    let lens = filled().await;
    let page = lens.text("/services").await;
    let edges: BTreeSet<(String, String)> = page
        .split("data-testid=\"edge\"")
        .skip(1)
        .map(|row| {
            let value = |name: &str| {
                row.split(&format!("{name}=\""))
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .expect("an attribute")
                    .to_owned()
            };
            (value("data-from"), value("data-to"))
        })
        .collect();
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(
        edges,
        BTreeSet::from([edge("shop-api", "shop-worker"), edge("shop-api", "sqlite")])
    );
    assert_eq!(
        page.matches("data-testid=\"edge\"").count(),
        3,
        "a call, a message and the database"
    );
}

#[tokio::test]
async fn the_overview_counts_what_arrived_and_shows_the_bounds() {
    let lens = filled().await;
    let text = visible(&lens.text("/").await);
    assert!(text.contains("Traces 6 spans"), "{text}");
    assert!(text.contains("Logs 1 records"), "{text}");
    assert!(
        text.contains("Traces 6 of 200,000 spans") && text.contains("of 256 MiB"),
        "{text}"
    );
    assert!(
        text.contains("shop-api 1 1/min 100.0 % 40 ms 40 ms"),
        "one request, which failed: {text}"
    );
}

/// The values of a chart's line that are known.
fn line(data: &Json, chart: &str, label: &str) -> Vec<f64> {
    let charts = data["charts"].as_array().expect("charts");
    let chart = charts
        .iter()
        .find(|one| one["id"] == chart)
        .unwrap_or_else(|| panic!("{chart}: {data}"));
    let line = chart["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .find(|line| line["label"] == label)
        .unwrap_or_else(|| panic!("{label}: {chart}"));
    line["values"]
        .as_array()
        .expect("values")
        .iter()
        .filter_map(Json::as_f64)
        .collect()
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
    export_metrics(
        &lens,
        "shop",
        vec![
            counter("requests", CUMULATIVE, cumulative.to_vec()),
            counter("requests", DELTA, delta.to_vec()),
        ],
    )
    .await;
    let data: Json = lens
        .json("/metrics/data?name=requests&by=http.route&minutes=15")
        .await;
    let counted =
        |label: &str| (line(&data, "rate", label).iter().sum::<f64>() * 10.0).round() as i64;
    assert_eq!((counted("/a"), counted("/b")), (100, 40));
    assert_eq!(line(&data, "rate", "/a"), [2.0, 2.0, 0.0, 0.0, 3.0, 3.0]);
    let only: Json = lens
        .json("/metrics/data?name=requests&by=http.route&only=http.route=/b")
        .await;
    assert_eq!(only["charts"][0]["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        lens.status("/metrics/data?name=requests&minutes=0").await,
        400
    );
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
    let histogram = Data::Histogram(Histogram {
        data_points: vec![point],
        aggregation_temporality: CUMULATIVE,
    });
    export_metrics(&lens, "shop", vec![metric("duration", "s", histogram)]).await;
    let data: Json = lens.json("/metrics/data?name=duration").await;
    assert_eq!(line(&data, "rate", "shop"), [5.0]);
    // By hand: p50 is the 25th of 50, the 15th of the 30 between 0.1 and 0.5; p95 the 7.5th of 10 between 0.5 and 1; p99 the 9.5th.
    let near = |got: Vec<f64>, expected: f64| {
        assert!(
            got.len() == 1 && (got[0] - expected).abs() < 1e-9,
            "{got:?} is not {expected}"
        )
    };
    near(line(&data, "quantiles", "p50"), 0.3);
    near(line(&data, "quantiles", "p95"), 0.875);
    near(line(&data, "quantiles", "p99"), 0.975);
    let dot = &data["charts"][0]["exemplars"][0];
    assert_eq!(
        (
            dot["trace_id"].as_str(),
            dot["span_id"].as_str(),
            dot["value"].as_f64()
        ),
        (
            Some("07".repeat(16).as_str()),
            Some("08".repeat(8).as_str()),
            Some(0.42)
        )
    );
    let text = visible(&lens.text("/metrics?name=duration").await);
    assert!(
        text.contains("50 · p50 300 ms (100 ms–500 ms) · p95 875 ms (500 ms–1 s)"),
        "{text}"
    );
    assert!(
        text.contains("histogram_quantile(0.95, sum by (le) (rate(duration_seconds_bucket[1m])))"),
        "{text}"
    );
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
    push(
        &lens,
        nasty,
        &profile(CPU, now_ns(), &[(nasty, 5, "")]),
        false,
    )
    .await;
    for path in [
        "/",
        "/traces",
        &format!("/traces/{}", trace()),
        "/logs?q=script",
        "/metrics",
        "/profiles",
        "/services",
        "/traces?service=%3Cscript%3E%22",
    ] {
        let page = lens.text(path).await;
        assert!(!page.contains("<script>"), "{path}");
        assert!(
            !page.contains("style=\""),
            "{path}: the policy forbids inline styles"
        );
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
        assert!(
            !page.contains("src=\"http")
                && !page.contains("href=\"http")
                && !page.contains("//cdn"),
            "{path}"
        );
        for asset in page.split('"').filter(|text| text.starts_with("/assets/")) {
            let response = lens.get(asset).await;
            assert_eq!(response.status(), 200, "{asset}");
            assert!(
                response.headers()["cache-control"]
                    .to_str()
                    .expect("text")
                    .contains("immutable"),
                "{asset}"
            );
        }
    }
    assert_eq!(
        lens.get("/assets/inter.woff2").await.headers()["content-type"],
        "font/woff2"
    );
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
        (&format!("/traces/{}", trace()), 404),
        ("/traces?min_ms=soon", 400),
        ("/logs?level=loud", 400),
    ] {
        let response = lens.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "text/html; charset=utf-8",
            "{path}"
        );
        assert!(
            response
                .text()
                .await
                .expect("a body")
                .contains("data-testid=\"problem\""),
            "{path}"
        );
    }
}
