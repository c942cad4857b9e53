//! Lesson: the contract. `GET /openapi.json` describes every route, bound and error status; `/docs/` lets you try it.
//!
//! What every route may answer and take is added here once, instead of at each route.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::{Modify, OpenApi};

use super::{api, console, demo, faults, health, metrics, ping, pprof, worker};
use crate::error::{Error, Kind, PROBLEM_JSON, Problem};

/// What `signalbox serve` answers.
#[derive(OpenApi)]
#[openapi(
    info(title = "Signalbox", description = "A demo REST service that instruments itself completely. HEAD is answered wherever GET is."),
    paths(
        ping::ping, api::api, demo::logs::logs, demo::work::work, demo::work::work_error, demo::cpu::cpu,
        demo::cpu::cpu_error, demo::lock::lock, demo::memory::memory, demo::memory::memory_error, faults::show, faults::set,
        faults::reset, health::healthz, health::readyz, metrics::metrics, pprof::profile, pprof::heap,
        pprof::flamegraph, console::links, console::go::go,
    ),
    components(schemas(Problem, console::go::Signal)),
    modifiers(&Everywhere),
)]
pub struct ApiDocument;

/// What `signalbox worker` answers.
#[derive(OpenApi)]
#[openapi(
    info(title = "Signalbox worker", description = "What the API calls and hands jobs to. HEAD is answered wherever GET is."),
    paths(
        worker::quote, worker::job, health::healthz, health::readyz, metrics::metrics, pprof::profile, pprof::heap,
        pprof::flamegraph,
    ),
    components(schemas(Problem)),
    modifiers(&Everywhere),
)]
pub struct WorkerDocument;

/// What every operation has.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.put,
                &mut item.post,
                &mut item.delete,
            ];
            for operation in operations.into_iter().flatten() {
                complete(operation);
            }
        }
    }
}

fn complete(operation: &mut Operation) {
    let of = |tag: &str| operation.tags.iter().flatten().any(|own| own == tag);
    let mut refusals = vec![
        (
            "400",
            "Not allowed; `detail` says what is. Without a body if the head could not be read",
        ),
        ("405", "Not with this method; `Allow` says which"),
        ("413", "The body is too large"),
        ("414", "Path and query are too long"),
        (
            "431",
            "The headers are too large. Without a body if the head is",
        ),
        ("500", "Something failed"),
        ("503", "Overloaded, or a dependency is away"),
        ("504", "It took too long"),
    ];
    if !of("operations") {
        refusals.push(("429", "Too many requests"));
    }
    if of("demo") {
        refusals.push(("507", "The database has no room left"));
        let parameters = operation.parameters.get_or_insert_default();
        parameters.extend(fault_parameters().map(RefOr::T));
    }
    if operation.request_body.is_some() {
        refusals.push((
            "415",
            "The body is no JSON, or encoded in a way that is not read",
        ));
        refusals.push(("422", "Values of the body are not allowed"));
    }
    let responses = &mut operation.responses.responses;
    // Answered by the HTTP library: without a body, and without the headers of those below.
    let unread =
        ResponseBuilder::new().description("The head of the request was not complete in time");
    for (status, description) in refusals {
        responses.entry(status.to_owned()).or_insert_with(|| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new()
                .description(description)
                .content(PROBLEM_JSON, content.build());
            RefOr::T(response.build())
        });
    }
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            for (name, meaning) in [
                ("traceresponse", "W3C context of the answer's server span"),
                (
                    "x-request-id",
                    "The caller's id if it is fit, else a new one",
                ),
            ] {
                let text = ObjectBuilder::new().schema_type(Type::String).build();
                let header = HeaderBuilder::new()
                    .schema(Some(text))
                    .description(Some(meaning));
                let header = RefOr::T(header.build());
                response.headers.insert(name.to_owned(), header);
            }
        }
    }
    responses.insert("408".to_owned(), RefOr::T(unread.build()));
}

/// How a request asks for faults.
fn fault_parameters() -> [Parameter; 2] {
    let parameter = |name: &str, place: ParameterIn| {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(crate::faults::plan::PATTERN))
            .build();
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(Required::False)
            .example(Some("latency_ms=20".into()))
            .description(Some(
                "Faults of this request, as `latency_ms=200`; several are separated by commas",
            ))
            .schema(Some(schema))
            .build()
    };
    [
        parameter(crate::faults::plan::PARAMETER, ParameterIn::Query),
        parameter(crate::faults::plan::HEADER, ParameterIn::Header),
    ]
}

/// Written once a process: the documents do not change.
static API: LazyLock<String> = LazyLock::new(|| text(&ApiDocument::openapi()));
static WORKER: LazyLock<String> = LazyLock::new(|| text(&WorkerDocument::openapi()));

/// A document as indented JSON.
pub fn text(document: &Document) -> String {
    document.to_pretty_json().unwrap_or_default()
}

/// The document of the API.
pub async fn api_document() -> HttpResponse {
    json(&API)
}

/// The document of the worker.
pub async fn worker_document() -> HttpResponse {
    json(&WORKER)
}

fn json(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text)
}

static UI: LazyLock<Arc<utoipa_swagger_ui::Config<'static>>> =
    LazyLock::new(|| Arc::new(utoipa_swagger_ui::Config::from("/openapi.json")));

/// The page to try it, from files inside the program.
pub async fn docs(file: web::Path<String>) -> Result<HttpResponse, Error> {
    let found = utoipa_swagger_ui::serve(&file, UI.clone())
        .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    let file = found.ok_or_else(|| Error::new(Kind::NotFound, "nothing is served at this path"))?;
    // The page sets styles from its scripts and draws its icons from data URLs; everything else is ours.
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, file.content_type))
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .body(file.bytes.into_owned()))
}
