//! Lesson: alive is not ready. `/healthz` speaks of the process alone, `/readyz` of what it depends on.
//!
//! Without its database the API cannot serve: 503. It asks by writing, for a database with a full disk answers every
//! question and takes no order. Without cache or worker it serves with less: 200 and `degraded`. Where
//! to look: `signalbox.dependency.up` by `signalbox.dependency.name`, and a WARN record when one goes, an INFO when it is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::{Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::deps::Trouble;
use crate::deps::cache::Cache;
use crate::deps::database::Database;
use crate::deps::worker_client::WorkerClient;
use crate::error::{Error, Kind};
use crate::instruments;
use crate::jobs::Jobs;

/// How long a dependency may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// How old an answer may be: whoever asks more often than that is told the last one, and costs the dependencies nothing.
const FRESH: Duration = Duration::from_secs(1);

/// How often dependencies are checked when nobody asks.
const INTERVAL: Duration = Duration::from_secs(10);

/// What the process depends on. Cheap to clone.
#[derive(Clone)]
pub struct Readiness(Arc<Inner>);

struct Inner {
    dependencies: Vec<(&'static str, Dependency)>,
    /// Whether each answered its last check.
    up: Mutex<BTreeMap<&'static str, bool>>,
    /// What was last answered, and when.
    answered: tokio::sync::Mutex<Option<(Instant, Report)>>,
}

enum Dependency {
    Database(Database),
    Cache(Cache),
    Worker(WorkerClient),
    Queue(Jobs),
}

impl Dependency {
    /// Without it the process cannot serve at all.
    fn is_vital(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    async fn check(&self) -> Result<(), Trouble> {
        match self {
            Self::Database(database) => database.check(CHECK_TIMEOUT).await,
            Self::Cache(cache) => cache.ping(CHECK_TIMEOUT).await,
            Self::Worker(worker) => worker.ping(CHECK_TIMEOUT).await,
            Self::Queue(jobs) => jobs.ping(CHECK_TIMEOUT).await,
        }
    }
}

/// Whether the process can serve.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Report {
    /// `ok`, `degraded` or `unavailable`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Each dependency by its name.
    checks: BTreeMap<&'static str, Check>,
}

/// One dependency.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Check {
    /// `ok`, `away`, or of a database that answers and takes no writes: `full`, `read_only`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Why it is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Readiness {
    /// What the API depends on.
    pub fn of_api(database: Database, cache: Cache, worker: WorkerClient) -> Self {
        Self::new(vec![
            ("database", Dependency::Database(database)),
            ("cache", Dependency::Cache(cache)),
            ("worker", Dependency::Worker(worker)),
        ])
    }

    /// What the worker depends on.
    pub fn of_worker(jobs: Jobs) -> Self {
        Self::new(vec![("queue", Dependency::Queue(jobs))])
    }

    fn new(dependencies: Vec<(&'static str, Dependency)>) -> Self {
        let readiness = Self(Arc::new(Inner {
            dependencies,
            up: Mutex::new(BTreeMap::new()),
            answered: tokio::sync::Mutex::new(None),
        }));
        let observed = readiness.clone();
        instruments::observe_dependencies(move || {
            let up = observed.0.up.lock().unwrap_or_else(PoisonError::into_inner);
            up.iter().map(|(name, up)| (*name, *up)).collect()
        });
        readiness
    }

    /// Checks every few seconds as long as the system runs, so that the metric is current when nobody asks.
    pub fn watch(&self) {
        let readiness = self.clone();
        actix_web::rt::spawn(async move {
            let mut tick = tokio::time::interval(INTERVAL);
            loop {
                tick.tick().await;
                readiness.report().await;
            }
        });
    }

    /// The last answer while it is fresh, else a new one; those who ask meanwhile wait for it.
    async fn answer(&self) -> Report {
        let mut answered = self.0.answered.lock().await;
        match &*answered {
            Some((at, report)) if at.elapsed() < FRESH => report.clone(),
            _ => {
                let report = self.report().await;
                *answered = Some((Instant::now(), report.clone()));
                report
            }
        }
    }

    /// Checks every dependency now, all at once.
    async fn report(&self) -> Report {
        let checks = self.0.dependencies.iter().map(async |(name, dependency)| {
            let outcome = dependency.check().await;
            self.remember(name, &outcome);
            (*name, dependency.is_vital(), outcome)
        });
        let checks = futures_util::future::join_all(checks).await;
        let status = if checks
            .iter()
            .any(|(_, vital, outcome)| *vital && outcome.is_err())
        {
            "unavailable"
        } else if checks.iter().any(|(_, _, outcome)| outcome.is_err()) {
            "degraded"
        } else {
            "ok"
        };
        let checks = checks.into_iter().map(|(name, _, outcome)| {
            let (status, reason) = match outcome {
                Ok(()) => ("ok", None),
                Err(trouble) => (trouble.status, Some(trouble.reason)),
            };
            (name, Check { status, reason })
        });
        Report {
            status,
            checks: checks.collect(),
        }
    }

    fn remember(&self, name: &'static str, outcome: &Result<(), Trouble>) {
        let mut up = self.0.up.lock().unwrap_or_else(PoisonError::into_inner);
        let before = up.insert(name, outcome.is_ok());
        drop(up);
        match outcome {
            Ok(()) if before == Some(false) => {
                tracing::info!(signalbox.dependency.name = name, "{name} answers again");
            }
            Err(Trouble { status, reason }) if before != Some(false) => {
                tracing::warn!(
                    signalbox.dependency.name = name,
                    "{name} is {status}: {reason}"
                );
            }
            _ => {}
        }
    }
}

/// Whether the process is alive.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Alive, whatever it depends on.
#[utoipa::path(get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "The process is alive", body = Alive)))]
pub async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Ready to serve, or why not.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Ready, perhaps degraded", body = Report),
        (status = 503, description = "Not ready; `checks` says why", body = crate::error::Problem, content_type = "application/problem+json"),
    ))]
pub async fn readyz(readiness: Data<Readiness>) -> Result<Json<Report>, Error> {
    let report = readiness.answer().await;
    if report.status == "unavailable" {
        let failing = report
            .checks
            .iter()
            .filter(|(_, check)| check.status != "ok");
        let failing = failing.map(|(name, check)| format!("{name} is {}", check.status));
        let detail = failing.collect::<Vec<_>>().join(", ");
        let error = Error::new(Kind::DependencyUnavailable, detail);
        return Err(error.with("checks", &report.checks));
    }
    Ok(Json(report))
}
