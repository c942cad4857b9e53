//! A job, as it travels: by Redis stream or by `POST /jobs`.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::deps::now_ms;

/// Bytes of a job in the stream. Longer ones are not read: whoever can write to Redis can put anything there.
const MAX_BYTES: usize = 64 * 1024;

/// One job: the invoice of an order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Unique name of the job, at most 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    pub id: String,
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub order_id: i64,
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub total_cents: i64,
    /// When it was handed over, in milliseconds since 1970.
    #[schema(minimum = 0)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub sent_ms: i64,
    /// Id of the request that caused it.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub request_id: Option<String>,
    /// W3C context of the span that handed it over.
    #[serde(default)]
    pub context: HashMap<String, String>,
}

impl Job {
    /// The invoice of an order.
    pub fn invoice(order_id: i64, total_cents: i64, request_id: Option<String>) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            order_id,
            total_cents,
            sent_ms: now_ms(),
            request_id,
            context: HashMap::new(),
        }
    }

    /// What is outside its bounds, if anything. Jobs come from outside the process.
    pub fn check(&self) -> Result<(), &'static str> {
        let short = |text: &str| !text.is_empty() && text.len() <= 64;
        if !short(&self.id) {
            return Err("id must have 1 to 64 characters");
        }
        if self.order_id < 1 {
            return Err("order_id must be at least 1");
        }
        if !(1..=1_000_000_000).contains(&self.total_cents) {
            return Err("total_cents must be 1 to 1000000000");
        }
        if self.sent_ms < 0 {
            return Err("sent_ms must be at least 0");
        }
        if self.request_id.as_ref().is_some_and(|id| id.len() > 64) {
            return Err("request_id must have at most 64 characters");
        }
        if self.context.len() > 8 {
            return Err("context must have at most 8 members");
        }
        Ok(())
    }

    /// How long ago it was handed over, by the two processes' clocks.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(u64::try_from(now_ms() - self.sent_ms).unwrap_or(0))
    }

    /// Reads a job that came from outside the process. `None` if it is none, or not within its bounds.
    pub fn read(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let job: Self = serde_json::from_slice(text).ok()?;
        job.check().is_ok().then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job with `context` in its place.
    fn text(context: &str) -> String {
        format!(r#"{{"id":"j","order_id":1,"total_cents":1,"sent_ms":0,"context":{context}}}"#)
    }

    #[test]
    fn jobs_are_read_within_bounds_of_depth_and_size() {
        let fit = text(r#"{"traceparent":"00-1"}"#);
        let job = Job::read(fit.as_bytes()).expect("a job");
        assert_eq!(
            (job.order_id, job.context["traceparent"].as_str()),
            (1, "00-1")
        );
        let deep = "[".repeat(30_000) + &"]".repeat(30_000);
        let large = text(&format!(r#"{{"tracestate":"{}"}}"#, "x".repeat(MAX_BYTES)));
        for wrong in [text(&deep), large, String::new(), "null".to_owned()] {
            assert!(Job::read(wrong.as_bytes()).is_none(), "{:.60}", wrong);
        }
        // A member that nobody knows is skipped without a stack, however deep it is.
        let unknown = text("{}").replace("\"id\"", &format!("\"unknown\":{deep},\"id\""));
        assert!(Job::read(unknown.as_bytes()).is_some());
    }
}
