//! How OTLP leaves the process: one blocking HTTP client a signal, on the exporter's own thread.
use std::fmt;
use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Compression, Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse,
    metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};

use crate::base::settings::Otlp;
use crate::pipeline::exemplars::Store;
use crate::pipeline::health::{Cause, Signal};
use crate::{Error, causes};

/// Reads how many items an accepted request lost, and why.
type PartialSuccess = fn(&[u8]) -> Option<(i64, String)>;

pub(crate) fn rejected_spans(body: &[u8]) -> Option<(i64, String)> {
    let partial = ExportTraceServiceResponse::decode(body)
        .ok()?
        .partial_success?;
    Some((partial.rejected_spans, partial.error_message))
}

pub(crate) fn rejected_logs(body: &[u8]) -> Option<(i64, String)> {
    let partial = ExportLogsServiceResponse::decode(body)
        .ok()?
        .partial_success?;
    Some((partial.rejected_log_records, partial.error_message))
}

pub(crate) fn rejected_points(body: &[u8]) -> Option<(i64, String)> {
    let partial = ExportMetricsServiceResponse::decode(body)
        .ok()?
        .partial_success?;
    Some((partial.rejected_data_points, partial.error_message))
}

/// Gives an exporter its transport and destination. It retries for nearly the default timeout of 10 s, which outlasts
/// most restarts of a collector; the batch waits on the exporter's thread, what comes meanwhile in the bounded queue.
///
/// The exporter reads headers and compression from the environment once more, and cannot be told not to. It finds what
/// our settings found there.
pub(crate) fn over_http<B: WithExportConfig + WithHttpConfig>(
    builder: B,
    otlp: &Otlp,
    transport: Transport,
) -> B {
    let builder = builder
        .with_http_client(transport)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&otlp.endpoint)
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
pub(crate) struct Transport {
    client: reqwest::blocking::Client,
    signal: Arc<Signal>,
    partial_success: PartialSuccess,
    /// For metrics: the exemplars to put into each request. The SDK makes none.
    exemplars: Option<Arc<Store>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    pub(crate) fn new(
        otlp: &Otlp,
        signal: &Arc<Signal>,
        partial_success: PartialSuccess,
        exemplars: Option<Arc<Store>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            client: client(otlp)?,
            signal: Arc::clone(signal),
            partial_success,
            exemplars,
        })
    }

    fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exemplars = match &self.exemplars {
            Some(store) => add_exemplars(store, &mut request)?.map(|newest| (store, newest)),
            None => None,
        };
        let request = reqwest::blocking::Request::try_from(request)?;
        let answer = self.client.execute(request).map(|response| {
            let (status, headers) = (response.status(), response.headers().clone());
            // A collector's answer is some bytes long; whatever else answers must not fill our memory.
            let mut body = Vec::new();
            let read = response.take(64 * 1024).read_to_end(&mut body);
            (status, headers, read.map(|_| body))
        });
        let (status, headers, body) = match answer {
            Ok((status, headers, Ok(body))) => (status, headers, body),
            Ok((_, _, Err(error))) => {
                self.signal
                    .attempt(Some((Cause::Connection, error.to_string())));
                return Err(error.into());
            }
            Err(error) => {
                self.signal.attempt(Some(cause(&error)));
                return Err(error.into());
            }
        };
        self.note(status.as_u16(), &body);
        if let Some((store, newest)) = exemplars
            && status.is_success()
        {
            store.arrived(newest);
        }
        let mut response = Response::builder().status(status).body(Bytes::from(body))?;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn note(&self, status: u16, body: &[u8]) {
        let refusal = refusal(status);
        match (self.partial_success)(body) {
            Some((rejected, message)) if rejected > 0 && refusal.is_none() => {
                self.signal.reject(rejected.unsigned_abs(), message);
            }
            _ => self.signal.attempt(refusal),
        }
    }
}

// What `async_trait` would write; the crate is not worth a dependency for one method.
impl HttpClient for Transport {
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

/// Why a request of ours got no answer.
pub(crate) fn cause(error: &reqwest::Error) -> (Cause, String) {
    let cause = if error.is_timeout() {
        Cause::Timeout
    } else {
        Cause::Connection
    };
    (cause, causes(error))
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
    let otlp = otlp.clone();
    std::thread::spawn(move || {
        let mut builder = reqwest::blocking::Client::builder()
            .timeout(otlp.timeout)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &otlp.certificate {
            let authorities = reqwest::Certificate::from_pem_bundle(&read(file)?)
                .map_err(|error| Error(format!("{}: {error}", file.display())))?;
            builder = builder.tls_certs_only(authorities);
        }
        // Reading the system's authorities costs tens of milliseconds of every start.
        if !otlp.endpoint.starts_with("https:") {
            builder = builder.tls_certs_only([]);
        }
        if let Some((key, certificate)) = &otlp.client_identity {
            let pem = [read(certificate)?, read(key)?].concat();
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|error| Error(format!("{}: {error}", certificate.display())))?;
            builder = builder.identity(identity);
        }
        builder
            .build()
            .map_err(|error| Error(format!("HTTP client for {}: {error}", otlp.endpoint)))
    })
    .join()
    .map_err(|_| Error("the thread that builds the HTTP client panicked".to_owned()))?
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| Error(format!("{}: {error}", file.display())))
}

/// Decodes the metrics, adds the exemplars and encodes them again: once per export interval, not per request served.
fn add_exemplars(
    exemplars: &Store,
    request: &mut Request<Bytes>,
) -> Result<Option<u64>, HttpError> {
    let gzip = request
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value == "gzip");
    let mut body = Vec::new();
    if gzip {
        GzDecoder::new(request.body().as_ref()).read_to_end(&mut body)?;
    } else {
        body.extend_from_slice(request.body());
    }
    let mut metrics = ExportMetricsServiceRequest::decode(body.as_slice())?;
    let Some(newest) = exemplars.add_new_to(&mut metrics) else {
        return Ok(None);
    };
    let mut body = metrics.encode_to_vec();
    if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&body)?;
        body = encoder.finish()?;
    }
    request
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *request.body_mut() = Bytes::from(body);
    Ok(Some(newest))
}
