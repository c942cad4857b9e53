//! Every name that is emitted stands in `telemetry-schema/`: as ours, or as one we take from OpenTelemetry.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use actix_web::{App, HttpResponse, test as call, web};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use signalbox::instruments::CATALOGUE;
use signalbox::telemetry::actix::Instrument;
use signalbox::telemetry::testing::{IDENTITY, capture};

/// Names of the registry's files, by the key they stand under: `key`, `name`, `ref`, and list items.
fn registry() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for folder in ["telemetry", "service"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("telemetry-schema")
            .join(folder);
        for file in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            for item in text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("- "))
            {
                let (key, name) = match item.split_once(": ") {
                    Some(("key", name)) => ("attribute", name),
                    Some(("ref", name)) => ("attribute", name),
                    Some(("name", name)) => ("signal", name),
                    Some(_) => continue,
                    None => ("signal", item),
                };
                names.entry(key).or_default().insert(name.to_owned());
            }
        }
    }
    names
}

/// The name as the service emits it: tests have a prefix of their own.
fn ours(name: &str) -> String {
    match name.strip_prefix(IDENTITY.metric_prefix) {
        Some(rest) if rest.starts_with('.') => format!("signalbox{rest}"),
        _ => name.to_owned(),
    }
}

fn unknown<'a>(known: &BTreeSet<String>, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let names: BTreeSet<_> = names.into_iter().map(ours).collect();
    names
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect()
}

#[test]
fn the_catalogue_is_in_the_schema() {
    let registry = registry();
    assert_eq!(
        unknown(
            &registry["signal"],
            CATALOGUE.iter().map(|metric| metric.name)
        ),
        [""; 0]
    );
    let attributes = CATALOGUE
        .iter()
        .flat_map(|metric| metric.attributes.iter().copied());
    assert_eq!(unknown(&registry["attribute"], attributes), [""; 0]);
}

#[actix_web::test]
async fn what_a_request_emits_is_in_the_schema() {
    let capture = capture();
    let app = App::new().wrap(Instrument::new()).route(
        "/broken/{id}",
        web::get().to(|| async {
            signalbox::telemetry::context::record_exception(&std::io::Error::other("no disk"));
            HttpResponse::InternalServerError().finish()
        }),
    );
    let app = call::init_service(app).await;
    let request = call::TestRequest::get()
        .uri("/broken/7?a=b")
        .insert_header(("host", "localhost:80"))
        .insert_header(("user-agent", "test"))
        .insert_header(("x-forwarded-for", "192.0.2.1"));
    let response = call::call_service(&app, request.to_request()).await;
    let traceresponse = response
        .headers()
        .get("traceresponse")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let trace = traceresponse.split('-').nth(1).unwrap();
    drop(response);

    let registry = registry();
    let spans = capture.spans(trace);
    assert_eq!(spans.len(), 1);
    let events = spans[0].events.iter().flat_map(|event| &event.attributes);
    let attributes = spans[0].attributes.iter().chain(events);
    assert_eq!(
        unknown(
            &registry["attribute"],
            attributes.map(|attribute| attribute.key.as_str())
        ),
        [""; 0]
    );

    let records = capture.records(trace);
    assert_eq!(records.len(), 1);
    let attributes = records[0].attributes_iter().map(|(key, _)| key.as_str());
    assert_eq!(unknown(&registry["attribute"], attributes), [""; 0]);
    assert_eq!(
        unknown(&registry["signal"], records[0].event_name()),
        [""; 0]
    );
    assert_eq!(records[0].event_name(), Some("test.request"));

    let request = capture.metrics();
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    assert_eq!(
        unknown(&registry["attribute"], keys(&resource.attributes)),
        [""; 0]
    );
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    let metrics: Vec<_> = scopes.flat_map(|scope| &scope.metrics).collect();
    assert!(metrics.len() > 25, "{}", metrics.len());
    assert_eq!(
        unknown(
            &registry["signal"],
            metrics.iter().map(|metric| metric.name.as_str())
        ),
        [""; 0]
    );
    for metric in metrics {
        let attributes: Vec<_> = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => sum
                .data_points
                .iter()
                .flat_map(|point| keys(&point.attributes))
                .collect(),
            Data::Gauge(gauge) => gauge
                .data_points
                .iter()
                .flat_map(|point| keys(&point.attributes))
                .collect(),
            Data::Histogram(histogram) => histogram
                .data_points
                .iter()
                .flat_map(|point| keys(&point.attributes))
                .collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            unknown(&registry["attribute"], attributes),
            [""; 0],
            "{}",
            metric.name
        );
    }
}

fn keys(attributes: &[KeyValue]) -> impl Iterator<Item = &str> {
    attributes.iter().map(|attribute| attribute.key.as_str())
}
