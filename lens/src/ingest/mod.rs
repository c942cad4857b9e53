//! What is sent in: OTLP over HTTP and Pyroscope's push. Bodies are bounded before and after decompression.

mod otlp;
mod profiles;

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use crate::method::post;
use crate::pprof::{self, Unreadable};
use crate::problem::Problem;
use crate::settings::Settings;

/// Time a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Bodies decoded at a time: their number bounds what decompressed bodies hold together.
const DECODED_AT_A_TIME: usize = 2;

/// Limits of a body.
pub struct Limits {
    body_bytes: usize,
    decoded_bytes: usize,
    turns: Semaphore,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            body_bytes: settings.max_body_bytes,
            decoded_bytes: settings.max_decoded_bytes,
            turns: Semaphore::new(DECODED_AT_A_TIME),
        }
    }
}

/// The routes.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(post("/v1/{signal:traces|logs|metrics}", otlp::take))
        .service(post("/push.v1.PusherService/Push", profiles::push))
        .service(post("/ingest", profiles::ingest))
        .service(post("/api/import", otlp::import));
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// Only types that a web page of another origin cannot send without asking, which lens then does not allow.
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        match header_value(request, header::CONTENT_TYPE)
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/x-protobuf" | "application/protobuf" | "application/proto" => {
                Ok(Self::Protobuf)
            }
            "application/json" => Ok(Self::Json),
            other => Err(Problem::UnsupportedMediaType(format!(
                "content type {other:?} is not supported: application/x-protobuf and application/json are"
            ))),
        }
    }
}

fn header_value(request: &HttpRequest, name: header::HeaderName) -> &str {
    request
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Reads the body, decompresses it and hands it to `decode`, off the threads that serve requests.
async fn decoded<T: Send + 'static>(
    request: &HttpRequest,
    mut payload: web::Payload,
    limits: &web::Data<Limits>,
    decode: impl FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let encoding = header_value(request, header::CONTENT_ENCODING).to_ascii_lowercase();
    let gzipped = match encoding.trim() {
        "gzip" | "x-gzip" => true,
        "" | "identity" => false,
        other => {
            return Err(Problem::UnsupportedMediaType(format!(
                "content encoding {other:?} is not supported: gzip and identity are"
            )));
        }
    };
    let most = limits.body_bytes;
    let told = header_value(request, header::CONTENT_LENGTH)
        .parse()
        .unwrap_or(0);
    let read = async {
        let mut body = Vec::with_capacity(most.min(told));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::BadRequest(format!("the body could not be read: {error}"))
            })?;
            if body.len() + chunk.len() > most {
                return Err(Problem::TooLarge(format!(
                    "the body has more than {most} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    let body = tokio::time::timeout(BODY_TIME, read)
        .await
        .map_err(|_| Problem::Slow)??;
    let _turn = limits.turns.acquire().await.map_err(|_| Problem::Busy)?;
    let most = limits.decoded_bytes;
    web::block(move || {
        if gzipped {
            decode(&gunzip(&body, most)?)
        } else {
            decode(&body)
        }
    })
    .await
    .map_err(|_| Problem::Busy)?
}

/// Decompresses at most so many bytes.
fn gunzip(body: &[u8], most: usize) -> Result<Vec<u8>, Problem> {
    pprof::gunzip(body, most).map_err(|error| match error {
        Unreadable::TooLarge(_) => Problem::TooLarge(format!(
            "the body has more than {most} bytes when decompressed"
        )),
        Unreadable::Gzip(error) => Problem::BadRequest(format!("the body is not gzip: {error}")),
        error => Problem::BadRequest(error.to_string()),
    })
}
