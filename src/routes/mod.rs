//! The whole API on one page. One lesson a file: its doc comment says what to look for and where.

pub mod api;
pub mod console;
pub mod demo;
pub mod faults;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod ping;
pub mod pprof;
pub mod worker;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{Resource, Route, guard, web};

use crate::error::{Error, Kind};
use crate::faults::inject::inject;
use crate::limits::{body_too_large, deadline};

/// What `signalbox serve` answers.
pub fn api(config: &mut web::ServiceConfig) {
    config
        .service(page("/", console::page))
        .service(page("/console.css", console::style))
        .service(page("/console.js", console::script))
        .service(page("/console/faro/{file}", console::faro::script))
        .service(page("/links", console::links))
        .service(page("/go/{signal}/{trace_id}", console::go::go))
        .service(faulty("/ping", get().to(ping::ping)))
        .service(faulty("/api", get().to(api::api)))
        .service(faulty("/demo/logs", get().to(demo::logs::logs)))
        .service(faulty("/demo/work", get().to(demo::work::work)))
        .service(faulty("/demo/work-error", get().to(demo::work::work_error)))
        .service(faulty("/demo/cpu", get().to(demo::cpu::cpu)))
        .service(faulty("/demo/cpu-error", get().to(demo::cpu::cpu_error)))
        .service(faulty("/demo/lock", get().to(demo::lock::lock)))
        .service(faulty("/demo/memory", get().to(demo::memory::memory)))
        .service(faulty(
            "/demo/memory-error",
            get().to(demo::memory::memory_error),
        ))
        .service(
            at("/faults", &[Method::GET, Method::PUT, Method::DELETE])
                .route(get().to(faults::show))
                .route(web::put().to(faults::set))
                .route(web::delete().to(faults::reset))
                .wrap(from_fn(deadline)),
        )
        .configure(operations)
        .service(page("/openapi.json", openapi::api_document))
        .service(page("/docs/{file:.*}", openapi::docs));
}

/// What `signalbox worker` answers.
pub fn worker(config: &mut web::ServiceConfig) {
    config
        .service(page("/quotes/{sku}", worker::quote))
        .service(
            at("/jobs", &[Method::POST])
                .route(web::post().to(worker::job))
                .wrap(from_fn(deadline)),
        )
        .configure(operations)
        .service(page("/openapi.json", openapi::worker_document));
}

/// What both answer to those who run them.
fn operations(config: &mut web::ServiceConfig) {
    config
        .service(page("/healthz", health::healthz))
        .service(page("/readyz", health::readyz))
        .service(page("/metrics", metrics::metrics))
        .service(long("/debug/pprof/profile", get().to(pprof::profile)))
        .service(long("/debug/pprof/heap", get().to(pprof::heap)))
        .service(long("/debug/pprof/flamegraph", get().to(pprof::flamegraph)));
}

/// GET, and HEAD, which is the same without the body: the server leaves that out.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path that answers `methods`, HEAD where it answers GET, and says so to others.
fn at(path: &str, methods: &[Method]) -> Resource {
    let names = methods.iter().map(|method| match *method {
        Method::GET => "GET, HEAD",
        ref other => other.as_str(),
    });
    let allow = names.collect::<Vec<_>>().join(", ");
    web::resource(path).default_service(web::to(move || {
        let detail = format!("this path answers {allow}");
        let allow = HeaderValue::from_str(&allow);
        let error = Error::new(Kind::MethodNotAllowed, detail);
        let error = match allow {
            Ok(allow) => error.header(header::ALLOW, allow),
            Err(_) => error,
        };
        std::future::ready(Err::<actix_web::HttpResponse, Error>(error))
    }))
}

/// A GET (and HEAD) within the deadline.
fn page<F, Args>(path: &str, handler: F) -> Resource<impl Endpoint>
where
    F: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    at(path, &[Method::GET])
        .route(get().to(handler))
        .wrap(from_fn(deadline))
}

/// A GET within the deadline into which faults can be injected.
fn faulty(path: &str, route: Route) -> Resource<impl Endpoint> {
    at(path, &[Method::GET])
        .route(route)
        .wrap(from_fn(inject))
        .wrap(from_fn(deadline))
}

/// A GET that bounds its time itself.
fn long(path: &str, route: Route) -> Resource {
    at(path, &[Method::GET]).route(route)
}

/// What actix calls a resource with middleware.
trait Endpoint:
    ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<Self::Body>,
        Error = actix_web::Error,
        InitError = (),
    > + 'static
{
    type Body: MessageBody + 'static;
}

impl<T, B> Endpoint for T
where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
{
    type Body = B;
}

/// Every path that is not above.
pub async fn nothing_here() -> Result<actix_web::HttpResponse, Error> {
    Err(Error::new(Kind::NotFound, "nothing is served at this path"))
}

/// Malformed queries, paths and bodies become errors of ours.
pub fn extractors(config: &mut web::ServiceConfig, body_bytes: usize) {
    config
        .app_data(web::QueryConfig::default().error_handler(|error, _| Error::from(error).into()))
        .app_data(web::PathConfig::default().error_handler(|error, _| Error::from(error).into()))
        .app_data(
            web::JsonConfig::default()
                .limit(body_bytes)
                .error_handler(move |error, _| {
                    let error = Error::from(error);
                    if error.kind() == Kind::BodyTooLarge {
                        return body_too_large(body_bytes).into();
                    }
                    error.into()
                }),
        );
}

/// Headers of every answer that does not set its own: nothing is sniffed, framed or loaded.
pub fn security_headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ))
        .add((header::CACHE_CONTROL, "no-store"))
}
