//! The HTTP side: webhooks in, OnCall's names for the rest, and one page for people.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ALLOW, CONTENT_SECURITY_POLICY, ContentType};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, ResponseError, Route, web};
use serde::{Deserialize, Serialize};

use super::book::{Book, Incident, MAX_BYTES, Refusal, State};
use super::file;
use super::notice::{Alertmanager, Formatted, Notice};

/// The largest notification taken, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Everything comes from here, nothing is inline, nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'";

/// The book, and the file it is kept in.
pub struct Desk {
    book: Mutex<Book>,
    path: PathBuf,
    grafana: Option<String>,
}

impl Desk {
    pub fn open(path: PathBuf, grafana: Option<String>) -> io::Result<Self> {
        let book = Mutex::new(file::load(&path)?);
        Ok(Self {
            book,
            path,
            grafana,
        })
    }

    /// Makes a change and returns only when it is on the disk; a change that cannot be written is not made.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Book, u64) -> Result<T, Refusal>,
    ) -> Result<T, Trouble> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut book = self.book.lock().map_err(|_| Trouble::Poisoned)?;
        let mut next = book.clone();
        let result = change(&mut next, now.as_millis() as u64)?;
        next.shrink(MAX_BYTES)?;
        file::save(&self.path, &next)?;
        *book = next;
        Ok(result)
    }
}

/// Why the desk does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Unwritten(#[from] io::Error),
    #[error("an earlier change panicked")]
    Poisoned,
}

impl ResponseError for Trouble {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Refused(Refusal::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Refused(Refusal::Resolved(_)) => StatusCode::CONFLICT,
            Self::Refused(Refusal::TooLong) => StatusCode::BAD_REQUEST,
            Self::Refused(Refusal::Full) | Self::Unwritten(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Poisoned => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Runs it on a thread that may wait: for the disk, or for another change that does.
async fn at_the_desk<T: Send + 'static>(
    desk: web::Data<Desk>,
    work: impl FnOnce(&Desk) -> Result<T, Trouble> + Send + 'static,
) -> actix_web::Result<web::Json<T>> {
    let done = web::block(move || work(&desk)).await?;
    Ok(web::Json(done?))
}

/// Every change needs a JSON body: no page of another site can send one without being asked about it first.
pub fn routes(service: &mut web::ServiceConfig) {
    let get = |path, handler: Route| {
        let other = web::to(async || only("GET, HEAD"));
        web::resource(path)
            .route(handler.method(Method::GET))
            .default_service(other)
    };
    let post = |path, handler: Route| {
        let other = web::to(async || only("POST"));
        web::resource(path)
            .route(handler.method(Method::POST))
            .default_service(other)
    };
    service
        .app_data(web::JsonConfig::default().limit(MAX_BODY))
        .service(post("/alertmanager", web::to(alertmanager)))
        .service(post(
            "/integrations/v1/alertmanager/{token}",
            web::to(alertmanager),
        ))
        .service(post(
            "/integrations/v1/alertmanager/{token}/",
            web::to(alertmanager),
        ))
        .service(post(
            "/integrations/v1/formatted_webhook/{token}",
            web::to(formatted),
        ))
        .service(post(
            "/integrations/v1/formatted_webhook/{token}/",
            web::to(formatted),
        ))
        .service(get("/api/v1/alert_groups", web::to(list)))
        .service(post(
            "/api/v1/alert_groups/{id}/acknowledge",
            web::to(acknowledge),
        ))
        .service(post("/api/v1/alert_groups/{id}/resolve", web::to(resolve)))
        .service(get("/healthz", web::to(HttpResponse::NoContent)))
        .service(get("/", web::to(page)))
        .service(get("/page.css", web::to(style)))
        .service(get("/page.js", web::to(script)));
}

/// The answer to a method that a path does not have.
fn only(methods: &'static str) -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header((ALLOW, methods))
        .body(format!("allowed here: {methods}\n"))
}

/// Middleware: HEAD is routed as GET. The server leaves the body out, because the connection knows what was asked.
pub async fn head_as_get(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}

/// A request whose `Host` is none of the receiver's names.
#[derive(Debug, thiserror::Error)]
#[error("the host {0:?} is not one of this receiver's names; INCIDENTS_ALLOWED_HOSTS adds one")]
pub struct HostNotAllowed(pub String);

impl ResponseError for HostNotAllowed {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

/// What a notification led to.
#[derive(Serialize)]
struct Noted {
    /// Absent where it was only the end of something unknown.
    id: Option<u64>,
}

async fn alertmanager(
    desk: web::Data<Desk>,
    sent: web::Json<Alertmanager>,
) -> actix_web::Result<web::Json<Noted>> {
    noted(desk, sent.into_inner().into()).await
}

async fn formatted(
    desk: web::Data<Desk>,
    sent: web::Json<Formatted>,
) -> actix_web::Result<web::Json<Noted>> {
    noted(desk, sent.into_inner().into()).await
}

async fn noted(desk: web::Data<Desk>, notice: Notice) -> actix_web::Result<web::Json<Noted>> {
    at_the_desk(desk, |desk| {
        let id = desk.change(|book, now_ms| book.notified(notice, now_ms))?;
        Ok(Noted { id })
    })
    .await
}

#[derive(Deserialize)]
struct Filter {
    state: Option<State>,
}

#[derive(Serialize)]
struct List {
    count: usize,
    /// Newest first.
    results: Vec<Incident>,
    grafana: Option<String>,
}

async fn list(
    desk: web::Data<Desk>,
    filter: web::Query<Filter>,
) -> actix_web::Result<web::Json<List>> {
    at_the_desk(desk, move |desk| {
        let book = desk.book.lock().map_err(|_| Trouble::Poisoned)?;
        let wanted =
            |incident: &&Incident| filter.state.is_none_or(|state| incident.state == state);
        let results: Vec<Incident> = book
            .incidents
            .iter()
            .rev()
            .filter(wanted)
            .cloned()
            .collect();
        Ok(List {
            count: results.len(),
            results,
            grafana: desk.grafana.clone(),
        })
    })
    .await
}

/// Who acts; a name for the record, nothing is checked.
#[derive(Deserialize)]
struct By {
    #[serde(default = "somebody")]
    by: String,
}

fn somebody() -> String {
    "somebody".into()
}

async fn acknowledge(
    desk: web::Data<Desk>,
    id: web::Path<u64>,
    by: web::Json<By>,
) -> actix_web::Result<web::Json<Incident>> {
    let (id, by) = (*id, by.into_inner().by);
    at_the_desk(desk, move |desk| {
        desk.change(|book, now_ms| book.acknowledge(id, by, now_ms).cloned())
    })
    .await
}

async fn resolve(
    desk: web::Data<Desk>,
    id: web::Path<u64>,
    by: web::Json<By>,
) -> actix_web::Result<web::Json<Incident>> {
    let (id, by) = (*id, by.into_inner().by);
    at_the_desk(desk, move |desk| {
        desk.change(|book, now_ms| book.resolve(id, by, now_ms).cloned())
    })
    .await
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(include_str!("page.html"))
}

async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css")
        .body(include_str!("page.css"))
}

async fn script() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript")
        .body(include_str!("page.js"))
}
