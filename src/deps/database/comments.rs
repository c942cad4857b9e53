//! Statements of sampled requests carry their trace to the database, as an SQL comment: `/*traceparent='00-…-01'*/`.
//! <https://google.github.io/sqlcommenter/spec/>
//!
//! What the database shows of a session (`pg_stat_activity`, `SHOW PROCESSLIST`) then names the span that waits there, and
//! a collector that reads it can lead to the trace. The comment stands at the front, where a text that is cut off keeps it.
//! A marked text is new each time, so it is not kept prepared; texts that are not marked are.

use signalbox_telemetry::context;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::settings;

/// Which statements are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comments {
    /// None.
    Off,
    /// Those of spans that are exported.
    OfSampled,
}

impl Comments {
    /// As settings ask for.
    pub fn of(settings: &settings::Database) -> Self {
        if settings.comments {
            Self::OfSampled
        } else {
            Self::Off
        }
    }

    /// `text` as it is sent, and whether it is worth being kept prepared. Must be called inside the statement's span.
    pub fn mark(self, text: &'static str) -> (SqlStr, bool) {
        let ids = match self {
            Self::Off => None,
            Self::OfSampled => context::current().filter(|ids| ids.sampled),
        };
        match ids {
            Some(ids) => {
                let (trace, span) = (ids.trace_id, ids.span_id);
                let marked = format!("/*traceparent='00-{trace}-{span}-01'*/ {text}");
                (AssertSqlSafe(marked).into_sql_str(), false)
            }
            None => (text.into_sql_str(), true),
        }
    }
}
