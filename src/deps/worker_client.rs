//! The second process, by HTTP: quotes, and jobs where no stream is configured.
//!
//! Every call is a CLIENT span and carries the W3C context, so the worker's spans join the caller's trace.

use std::time::Duration;

use reqwest::{Client, Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::deps::Trouble;
use crate::deps::job::Job;
use crate::error::causes;
use crate::settings::Settings;
use signalbox_telemetry::client::send;

/// Bytes of an answer that are read, unzipped.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// What shipping an order costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    #[schema(example = "rail")]
    pub carrier: String,
    #[schema(minimum = 1)]
    pub shipping_cents: i64,
    #[schema(minimum = 1)]
    pub days: i64,
}

/// Why the worker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the worker does not answer: {}", causes(.0))]
    Away(#[from] reqwest::Error),
    #[error("the worker answered {0}")]
    Refused(StatusCode),
    #[error("the worker's answer is not what was asked for: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the worker's answer has more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the worker's URL is wrong: {0}")]
    Url(String),
}

impl WorkerError {
    /// `error.type`: a closed set.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Away(error) if error.is_timeout() => "timeout",
            Self::Away(_) => "unavailable",
            Self::Refused(StatusCode::SERVICE_UNAVAILABLE) => "full",
            Self::Answer(_) | Self::TooLarge => "answer",
            Self::Refused(_) | Self::Url(_) => "_OTHER",
        }
    }
}

/// The worker. Cheap to clone. Its URL may hold credentials, so it has no `Debug`.
#[derive(Clone)]
pub struct WorkerClient {
    client: Client,
    base: reqwest::Url,
}

impl WorkerClient {
    /// A client of the worker that settings name; it may be away.
    pub fn new(settings: &Settings) -> Result<Self, WorkerError> {
        let base = reqwest::Url::parse(settings.worker_url.expose())
            .map_err(|error| WorkerError::Url(error.to_string()))?;
        // The client of a plain URL wants a TLS provider too. An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .timeout(settings.worker_timeout)
            .connect_timeout(settings.worker_timeout)
            // The worker is a part of this deployment: the proxies of HTTP_PROXY and its kin are for the way out.
            .no_proxy();
        if base.scheme() != "https" {
            // Otherwise a system without authorities, as a small image is, could not even speak plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build()?;
        Ok(Self { client, base })
    }

    fn request(&self, method: Method, segments: &[&str], request_id: Option<&str>) -> Request {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let mut request = Request::new(method, url);
        if let Some(id) = request_id.and_then(|id| id.parse().ok()) {
            request.headers_mut().insert("x-request-id", id);
        }
        request
    }

    /// Asks what shipping costs.
    pub async fn quote(
        &self,
        sku: &str,
        quantity: i64,
        request_id: Option<&str>,
    ) -> Result<Quote, WorkerError> {
        let mut request = self.request(Method::GET, &["quotes", sku], request_id);
        request
            .url_mut()
            .query_pairs_mut()
            .append_pair("quantity", &quantity.to_string());
        let response = send(&self.client, request, "/quotes/{sku}").await?;
        read(accepted(response)?).await
    }

    /// Hands a job over; accepted means that it waits in the worker.
    pub async fn post_job(&self, job: &Job) -> Result<(), WorkerError> {
        let mut request = self.request(Method::POST, &["jobs"], job.request_id.as_deref());
        let body = serde_json::to_vec(job).unwrap_or_default();
        *request.body_mut() = Some(body.into());
        let json = reqwest::header::HeaderValue::from_static("application/json");
        request
            .headers_mut()
            .insert(reqwest::header::CONTENT_TYPE, json);
        let response = send(&self.client, request, "/jobs").await?;
        accepted(response).map(drop)
    }

    /// Whether it answers, within `deadline`. Leaves no span here.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Trouble> {
        let mut request = self.request(Method::GET, &["healthz"], None);
        *request.timeout_mut() = Some(deadline);
        let response = self.client.execute(request).await;
        let response = response.map_err(reqwest::Error::without_url);
        let outcome = response.map_err(WorkerError::Away).and_then(accepted);
        outcome
            .map(drop)
            .map_err(|error| Trouble::away(error.to_string()))
    }
}

/// The answer as JSON, read within its bound whatever length it claims; serde_json bounds its depth.
async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, WorkerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)?
    {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(WorkerError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body)?)
}

fn accepted(response: Response) -> Result<Response, WorkerError> {
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(WorkerError::Refused(response.status()))
    }
}
