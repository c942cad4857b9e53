//! The open-loop engine: requests are due at fixed moments, whatever the service does.
//!
//! As many senders as there may be requests at once; each takes the next due moment, waits for it, sends, and reports. A slow
//! service keeps all of them busy, so that sends become late: their latency counts from the moment they were due, which is what
//! a user who arrived then would have felt. One that is [`Plan::patience`] late is not sent any more and counts as missed.
//! Nothing queues, so memory is bounded. Moments are kept to tokio's timer step of 1 ms, which is part of each latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::{Client, Request};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::record::{Ids, Outcome, Sample};
use crate::http;

/// Later than this is worth mentioning: well above the timer's step.
const LATE: Duration = Duration::from_millis(20);
const REPORTS_UNDER_WAY: usize = 1024;

pub struct Plan {
    /// Each with the index of its endpoint; sent in this order, again and again.
    pub requests: Vec<(usize, Request)>,
    /// Requests a second.
    pub rate: f64,
    /// Requests in all.
    pub total: u64,
    /// Requests at once.
    pub concurrency: usize,
    /// How late a request may be sent.
    pub patience: Duration,
}

pub enum Report {
    Sent { sample: Sample, late: bool },
    Missed,
}

/// A running load; dropping it stops it.
pub struct Engine {
    pub reports: mpsc::Receiver<Report>,
    _senders: JoinSet<()>,
}

impl Engine {
    /// Sends to the plan's end, or until this future is dropped, for whoever needs no reports.
    pub async fn run(mut self) {
        while self.reports.recv().await.is_some() {}
    }
}

pub fn start(plan: Plan, client: Client) -> Engine {
    let (report, reports) = mpsc::channel(REPORTS_UNDER_WAY);
    let senders = plan.total.min(plan.concurrency as u64);
    let shared = Arc::new(Shared {
        plan,
        client,
        begin: Instant::now(),
        next: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for _ in 0..senders {
        tasks.spawn(Arc::clone(&shared).send_in_turn(report.clone()));
    }
    Engine {
        reports,
        _senders: tasks,
    }
}

struct Shared {
    plan: Plan,
    client: Client,
    begin: Instant,
    next: AtomicU64,
}

impl Shared {
    async fn send_in_turn(self: Arc<Self>, report: mpsc::Sender<Report>) {
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            if turn >= self.plan.total {
                return;
            }
            let due = self.begin + Duration::from_secs_f64(turn as f64 / self.plan.rate);
            sleep_until(due).await;
            let lateness = due.elapsed();
            let news = if lateness > self.plan.patience {
                Report::Missed
            } else {
                Report::Sent {
                    sample: self.send(turn, due).await,
                    late: lateness > LATE,
                }
            };
            if report.send(news).await.is_err() {
                return; // nobody listens any more
            }
        }
    }

    async fn send(&self, turn: u64, due: Instant) -> Sample {
        let round = self.plan.requests.len() as u64;
        let (endpoint, request) = &self.plan.requests[(turn % round) as usize];
        let (begin, sent_at) = (Instant::now(), SystemTime::now());
        let outcome = match request.try_clone() {
            Some(request) => self
                .exchange(request)
                .await
                .unwrap_or_else(|error| Outcome::Failure(http::cause(&error))),
            None => Outcome::Failure("the request cannot be repeated".into()),
        };
        Sample {
            endpoint: *endpoint,
            sent_at,
            latency: due.elapsed(),
            took: begin.elapsed(),
            outcome,
        }
    }

    /// Reads the body to its end and keeps none of it.
    async fn exchange(&self, request: Request) -> reqwest::Result<Outcome> {
        let mut response = self.client.execute(request).await?;
        let outcome = Outcome::Answer {
            status: response.status().as_u16(),
            ids: Ids::from_headers(response.headers()),
        };
        while response.chunk().await?.is_some() {}
        Ok(outcome)
    }
}
