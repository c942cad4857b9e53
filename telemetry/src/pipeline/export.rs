//! How the stock exporters of `opentelemetry-otlp` leave the process: metrics always, spans and records where they are
//! asked for. One blocking HTTP client a signal, on the exporter's own thread.
use std::fmt;
use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Compression, Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};

use super::answer::{partial_success, read_answer};
use super::exemplars::Store;
use super::health::{Cause, Signal};
use crate::base::proxy::goes_direct;
use crate::base::secret_url::SecretUrl;
use crate::base::settings::Otlp;
use crate::{Error, causes};

/// Gives an exporter its transport and destination. It retries for nearly the default timeout of 10 s, which outlasts
/// most restarts of a collector. Metrics are read anew at the next interval, so that their totals survive a longer outage.
///
/// The exporter reads headers and compression from the environment once more, and cannot be told not to. It finds what
/// our settings found there.
pub(crate) fn over_http<B: WithExportConfig + WithHttpConfig>(
    builder: B,
    otlp: &Otlp,
    transport: StockTransport,
) -> B {
    let builder = builder
        .with_http_client(transport)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(otlp.endpoint.expose())
        .with_timeout(otlp.timeout)
        .with_headers(otlp.headers.iter().cloned().collect())
        .with_retry_policy(
            RetryPolicy::recommended()
                .with_max_retries(8)
                .with_initial_delay(Duration::from_millis(200)),
        );
    match otlp.gzip {
        true => builder.with_compression(Compression::Gzip),
        false => builder,
    }
}

/// Sends the exporter's requests and tells the signal's counts how each ended.
pub(crate) struct StockTransport {
    client: reqwest::blocking::Client,
    otlp: Otlp,
    signal: Arc<Signal>,
    /// For metrics: the exemplars to put into each request. The SDK makes none.
    exemplars: Option<Arc<Store>>,
}

impl fmt::Debug for StockTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StockTransport")
    }
}

impl StockTransport {
    pub(crate) fn new(
        otlp: &Otlp,
        signal: &Arc<Signal>,
        exemplars: Option<Arc<Store>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            client: client(otlp)?,
            otlp: otlp.clone(),
            signal: Arc::clone(signal),
            exemplars,
        })
    }

    fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exemplars = match &self.exemplars {
            Some(store) => add_exemplars(store, &mut request)?.map(|newest| (store, newest)),
            None => None,
        };
        let request = reqwest::blocking::Request::try_from(request)?;
        let until = Instant::now() + self.otlp.timeout;
        let response = match self.client.execute(request) {
            Ok(response) => response,
            Err(error) => {
                let (cause, message) = cause(error, &self.otlp.endpoint);
                self.signal.attempt(Some((cause, message.clone())));
                return Err(message.into());
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let refusal = refusal(status.as_u16());
        match partial_success(&read_answer(response, until)) {
            Some(partial) if partial.rejected > 0 && refusal.is_none() => {
                self.signal.reject(partial.rejected, partial.message);
            }
            _ => self.signal.attempt(refusal),
        }
        if let Some((store, newest)) = exemplars
            && status.is_success()
        {
            store.arrived(newest);
        }
        // Without the body, which the exporter would decode without any bound on its depth.
        let mut response = Response::builder().status(status).body(Bytes::new())?;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

// What `async_trait` would write; the crate is not worth a dependency for one method.
impl HttpClient for StockTransport {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move { self.send(request) })
    }
}

/// Why a request to `url` got no answer.
pub(crate) fn cause(error: reqwest::Error, url: &SecretUrl) -> (Cause, String) {
    let cause = if error.is_timeout() {
        Cause::Timeout
    } else {
        Cause::Connection
    };
    // The error's own URL would be printed with its query, which may hold a key.
    (cause, format!("{url}: {}", causes(&error.without_url())))
}

/// What an answer's status means when it is no success.
pub(crate) fn refusal(status: u16) -> Option<(Cause, String)> {
    let cause = match status {
        200..=299 => return None,
        429 | 500.. => Cause::Unavailable,
        _ => Cause::Refused,
    };
    Some((cause, format!("status {status}")))
}

/// Builds the client on a thread of its own: a blocking client must not be built inside an async runtime.
pub(crate) fn client(otlp: &Otlp) -> Result<reqwest::blocking::Client, Error> {
    // A TLS client needs one, also where nothing else has chosen it yet; a second installation keeps the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let otlp = otlp.clone();
    let build = move || {
        let mut builder = reqwest::blocking::Client::builder()
            .timeout(otlp.timeout)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &otlp.certificate {
            let unfit = |reason: String| {
                let variable = "OTEL_EXPORTER_OTLP_CERTIFICATE, or that of the signal";
                Error(format!("{variable}: {}: {reason}", file.display()))
            };
            let authorities = reqwest::Certificate::from_pem_bundle(&read(file)?)
                .map_err(|error| unfit(causes(&error)))?;
            // With none nobody would be trusted, and nothing ever sent.
            if authorities.is_empty() {
                return Err(unfit("no certificate in PEM format".to_owned()));
            }
            builder = builder.tls_certs_only(authorities);
        }
        let endpoint = reqwest::Url::parse(otlp.endpoint.expose()).ok();
        // Reading the system's authorities costs tens of milliseconds of every start.
        if endpoint.as_ref().is_none_or(|url| url.scheme() != "https") {
            builder = builder.tls_certs_only([]);
        }
        if endpoint.is_some_and(|url| url.host_str().is_some_and(goes_direct)) {
            builder = builder.no_proxy();
        }
        if let Some((key, certificate)) = &otlp.client_identity {
            let pem = [read(certificate)?, read(key)?].concat();
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|error| Error(format!("{}: {error}", certificate.display())))?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| {
            Error(format!(
                "HTTP client for {}: {}",
                otlp.endpoint,
                causes(&error.without_url())
            ))
        })
    };
    let thread = std::thread::Builder::new().spawn(build);
    let thread = thread.map_err(|error| Error(format!("no thread for an HTTP client: {error}")))?;
    let client = thread.join();
    client.map_err(|_| Error("the thread that builds the HTTP client panicked".to_owned()))?
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| Error(format!("{}: {error}", file.display())))
}

/// Puts exemplars into metrics that are encoded already.
fn add_exemplars(
    exemplars: &Store,
    request: &mut Request<Bytes>,
) -> Result<Option<u64>, HttpError> {
    let encoding = request.headers().get(CONTENT_ENCODING);
    let gzip = encoding.is_some_and(|value| value == "gzip");
    let Some((body, newest)) = exemplars.add_new_to_encoded(request.body(), gzip)? else {
        return Ok(None);
    };
    let length = HeaderValue::from(body.len());
    request.headers_mut().insert(CONTENT_LENGTH, length);
    *request.body_mut() = Bytes::from(body);
    Ok(Some(newest))
}
