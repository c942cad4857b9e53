//! The marked requests: one trace id and one request id of our own, and a status that nobody else asks for.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Client;
use tokio::time::sleep;

use super::super::send::sample::random_id;
use super::read::Reader;
use crate::http;

/// How many requests are counted.
pub const COUNTED: f64 = 3.0;

/// How long after one request that follows up the next one does.
const AGAIN: Duration = Duration::from_secs(5);

pub struct Marked {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The span that the requests say called them, which no store ever sees.
    pub caller: String,
    pub request_id: String,
    /// Of the CPU samples of `/demo/cpu`, as its answer named them; absent if it did not.
    pub profile_id: Option<String>,
    /// Status asked of `/api`: 230 to 299, which no load sends.
    pub status: u32,
    /// Requests counted with that status before.
    pub counted_before: f64,
    /// When the first was sent.
    pub time: Duration,
}

impl Marked {
    /// Sends `/demo/work`, `/demo/cpu` and three of `/api`, all of one trace.
    pub async fn send(client: &Client, api: &str, store: &Reader) -> Result<Self, String> {
        let run = random_id();
        let status = 230 + u32::from_str_radix(&run[..4], 16).unwrap_or_default() % 70;
        let counted_before = store.counted(status).await.unwrap_or_default();
        let mut marked = Self {
            trace_id: random_id() + &run,
            caller: random_id(),
            request_id: format!("verify-{run}"),
            profile_id: None,
            status,
            counted_before,
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        };
        let work = format!("{api}/demo/work");
        marked.get(client, &work, 200).await?;
        // With it the trace lasts longer than what systems/sampling calls slow (400 ms): it is never among the dropped.
        let cpu = format!("{api}/demo/cpu?ms=500");
        marked.profile_id = marked.get(client, &cpu, 200).await?;
        for _ in 0..COUNTED as u32 {
            let url = format!("{api}/api?sc={status}&delay_ms=0");
            marked.get(client, &url, status).await?;
        }
        Ok(marked)
    }

    /// Sends `/demo/work` once more, unmarked. A rate is made of two samples, and the series of a service that has just started
    /// begins with the marked request.
    /// And, where tail sampling is on, one that fails: its trace is kept for sure.
    pub async fn follow_up(client: &Client, api: &str, sampled: bool) -> Result<(), String> {
        let work = Some(("/demo/work", 200));
        let failed = sampled.then_some(("/api?sc=500&delay_ms=0", 500));
        for (path, expected) in work.into_iter().chain(failed) {
            let url = format!("{api}{path}");
            let answer = client.get(&url).send().await;
            let answer = answer.map_err(|error| format!("{url}: {}", http::cause(&error)))?;
            let status = answer.status().as_u16();
            if status != expected {
                return Err(format!("{url} answered {status}"));
            }
        }
        Ok(())
    }

    /// Follows up every few seconds until it is dropped. Of several copies of the service each has series of its own, and nobody
    /// chooses which of them answers: two requests to one are needed, a metrics export apart. One that fails is told by others.
    pub async fn keep_following_up(client: &Client, api: &str, sampled: bool) -> Infallible {
        loop {
            sleep(AGAIN).await;
            let _ = Self::follow_up(client, api, sampled).await;
        }
    }

    /// The answer's profile id, if it has one.
    async fn get(
        &self,
        client: &Client,
        url: &str,
        expected: u32,
    ) -> Result<Option<String>, String> {
        let answer = client
            .get(url)
            .header(
                "traceparent",
                format!("00-{}-{}-01", self.trace_id, self.caller),
            )
            .header("x-request-id", &self.request_id)
            .send()
            .await
            .map_err(|error| {
                format!(
                    "{url}: {}; is it up? `make logs-signalbox-api`",
                    http::cause(&error)
                )
            })?;
        if u32::from(answer.status().as_u16()) != expected {
            return Err(format!(
                "{url} answered {}; `make logs-signalbox-api`",
                answer.status()
            ));
        }
        let header = |name| {
            let value = answer.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        if !header("traceresponse").contains(&self.trace_id) {
            return Err(format!(
                "{url} did not continue the trace: is tracing switched off (OTEL_TRACES_EXPORTER, OTEL_SDK_DISABLED)?"
            ));
        }
        if header("x-request-id") != self.request_id {
            return Err(format!("{url} did not keep the request id"));
        }
        Ok(Some(header("x-profile-id").to_owned()).filter(|id| !id.is_empty()))
    }
}
