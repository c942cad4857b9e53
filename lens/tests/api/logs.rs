use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::support::{Lens, int, logs_of, record, string};

async fn bodies(lens: &Lens, query: &str) -> Vec<String> {
    let request: ExportLogsServiceRequest = lens.json(&format!("/api/logs{query}")).await;
    let records = request
        .resource_logs
        .into_iter()
        .flat_map(|of| of.scope_logs)
        .flat_map(|of| of.log_records);
    records
        .map(|record| match record.body.and_then(|body| body.value) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn what_comes_in_goes_out_equal() {
    let lens = Lens::start().await;
    let mut sent = record("card declined", 17);
    sent.trace_id = vec![0xab; 16];
    sent.span_id = vec![0xcd; 8];
    sent.attributes = vec![string("user", "ann"), int("attempt", 3)];
    sent.event_name = "payment.declined".to_owned();
    let request = logs_of("shop", vec![sent]);
    lens.export("/v1/logs", &request).await;
    let query = format!("/api/logs?trace_id={}", "ab".repeat(16));
    assert_eq!(lens.json::<ExportLogsServiceRequest>(&query).await, request);
}

#[tokio::test]
async fn records_are_found_by_words_level_service_field_and_ids() {
    let lens = Lens::start().await;
    let mut declined = record("Card declined for order 4711", 17);
    declined.trace_id = vec![1; 16];
    declined.span_id = vec![2; 8];
    declined.attributes = vec![string("signalbox.request.id", "r-77"), int("attempt", 3)];
    let mut retried = record("order retried", 13);
    retried.trace_id = vec![1; 16];
    retried.span_id = vec![3; 8];
    retried.attributes = vec![int("attempt", 33)];
    lens.export_records("shop", vec![declined, retried]).await;
    let mut noted = record("noted", 1);
    noted.attributes = vec![
        string("trace_id", &"07".repeat(16)),
        string("the note", "a \"b\""),
    ];
    let rest = vec![noted, record("started", 9)];
    lens.export_records("worker", rest).await;

    let (declined, retried, started) = ("Card declined for order 4711", "order retried", "started");
    let noted = "noted";
    let trace = "01".repeat(16);
    for (query, expected) in [
        (String::new(), vec![started, noted, retried, declined]),
        ("?q=order".into(), vec![retried, declined]),
        ("?q=ord%20decl".into(), vec![declined]),
        ("?q=%22declined%20for%22".into(), vec![declined]),
        ("?q=%22for%20declined%22".into(), vec![]),
        ("?q=r-77".into(), vec![declined]),
        ("?q=%22%20OR%20%22*".into(), vec![]),
        ("?level=error".into(), vec![declined]),
        ("?level=info".into(), vec![started]),
        ("?service=worker".into(), vec![started, noted]),
        ("?field=attempt=3".into(), vec![declined]),
        ("?field=signalbox.request.id=r-77".into(), vec![declined]),
        ("?field=signalbox.request.id=r-7".into(), vec![]),
        (
            "?field=service.version=1.2.3&q=order".into(),
            vec![retried, declined],
        ),
        (format!("?trace_id={trace}"), vec![retried, declined]),
        (
            format!("?trace_id={trace}&span_id={}", "03".repeat(8)),
            vec![retried],
        ),
        (format!("?trace_id={}", "00".repeat(16)), vec![]),
        (format!("?q={trace}"), vec![retried, declined]),
        (format!("?q=traceID={trace}"), vec![retried, declined]),
        (format!("?q=span_id={}", "02".repeat(8)), vec![declined]),
        (format!("?q={}", "07".repeat(16)), vec![noted]),
        (format!("?q=trace_id={}", "07".repeat(16)), vec![noted]),
        (
            "?q=%22the%20note%22=%22a%20%5C%22b%5C%22%22".into(),
            vec![noted],
        ),
        ("?limit=1".into(), vec![started]),
    ] {
        assert_eq!(bodies(&lens, &query).await, expected, "{query}");
    }
    for query in ["level=loud", "field=attempt", "trace_id=1", "limit=none"] {
        let status = lens.status(&format!("/api/logs?{query}")).await;
        assert_eq!(status, 400, "{query}");
    }
}

#[tokio::test]
async fn the_oldest_records_go_and_are_found_no_more() {
    let lens = Lens::start_with(|settings| settings.bounds.logs.rows = 3).await;
    for number in 1..=5 {
        let message = record(&format!("message {number}"), 9);
        lens.export_records("shop", vec![message]).await;
    }
    for query in ["", "?q=message"] {
        let kept = bodies(&lens, query).await;
        assert_eq!(kept, ["message 5", "message 4", "message 3"], "{query}");
    }
}

#[tokio::test]
async fn a_batch_of_many_records_is_indexed_record_by_record() {
    let lens = Lens::start().await;
    let records = (0..250)
        .map(|number| record(&format!("number{number:03}"), 9))
        .collect();
    lens.export_records("shop", records).await;
    for number in [0, 99, 100, 249] {
        let word = format!("number{number:03}");
        assert_eq!(bodies(&lens, &format!("?q={word}")).await, [word]);
    }
}
