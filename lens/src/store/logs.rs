//! Log records.

use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::{Amount, Search, aside, first_of, insertion, pieces, push_bounds, push_equal, time_ns};
use crate::attributes::{hex_id, searchable, text};
use crate::problem::Problem;

const OVERHEAD_BYTES: usize = 200;

/// A log record ready to be stored.
pub struct LogRow {
    pub origin: usize,
    // Shared with the statements that bind them, not copied for each.
    service: Arc<str>,
    time_ns: i64,
    severity: i32,
    trace_id: Arc<str>,
    span_id: Arc<str>,
    text: Arc<str>,
    body: Vec<u8>,
}

impl LogRow {
    /// `now_ns` stands in for a record without any time.
    pub fn new(origin: usize, service: &Arc<str>, record: &LogRecord, now_ns: i64) -> Self {
        let time = [record.time_unix_nano, record.observed_time_unix_nano]
            .into_iter()
            .find(|time| *time != 0);
        let texts = [&*record.event_name, &text(record.body.as_ref())];
        Self {
            origin,
            service: service.clone(),
            time_ns: time.map_or(now_ns, time_ns),
            severity: severity(record),
            trace_id: hex_id(&record.trace_id, 16).into(),
            span_id: hex_id(&record.span_id, 8).into(),
            text: searchable(&record.attributes, &texts).into(),
            body: record.encode_to_vec(),
        }
    }

    fn size(&self) -> i64 {
        (self.body.len() + self.text.len() + OVERHEAD_BYTES) as i64
    }
}

/// The severity number, or what the severity's text says where there is none; 0 if neither does.
pub fn severity(record: &LogRecord) -> i32 {
    if record.severity_number > 0 {
        return record.severity_number;
    }
    match record.severity_text.trim().to_ascii_lowercase().as_str() {
        "trace" | "verbose" | "finest" => 1,
        "debug" | "fine" => 5,
        "info" | "information" | "informational" | "log" => 9,
        "notice" => 10,
        "warn" | "warning" => 13,
        "error" | "err" | "severe" => 17,
        "crit" | "critical" | "alert" => 18,
        "fatal" | "panic" | "emerg" | "emergency" => 21,
        _ => 0,
    }
}

pub async fn insert(
    connection: &mut SqliteConnection,
    rows: &[LogRow],
    origins: &[i64],
) -> sqlx::Result<Amount> {
    let mut added = Amount::default();
    for chunk in pieces(rows) {
        let begin = "INSERT OR FAIL INTO logs (origin, service, time_ns, severity, trace_id, span_id, size, text, body)";
        let mut query = insertion(begin, chunk.len(), "");
        for row in chunk {
            query = query
                .bind(origins[row.origin])
                .bind(row.service.clone())
                .bind(row.time_ns)
                .bind(row.severity)
                .bind(row.trace_id.clone())
                .bind(row.span_id.clone())
                .bind(row.size())
                .bind(row.text.clone())
                .bind(&row.body);
        }
        query.execute(&mut *connection).await?;
        added.rows += chunk.len() as u64;
        added.bytes += chunk.iter().map(|row| row.size() as u64).sum::<u64>();
    }
    Ok(added)
}

/// Keeps the records that are not stored yet: an import must not double what is there, while of two equal records that a program sends both count.
pub async fn retain_new(pool: &SqlitePool, rows: &mut Vec<LogRow>) -> sqlx::Result<()> {
    let mut new = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM logs WHERE time_ns = ? AND body = ?)")
                .bind(row.time_ns)
                .bind(&row.body)
                .fetch_one(pool)
                .await?;
        if !known {
            new.push(row);
        }
    }
    *rows = new;
    Ok(())
}

/// Which records to list. Empty texts do not filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub search: Search,
    pub service: String,
    /// Lowest and highest severity number.
    pub severity: Option<(i32, i32)>,
    pub trace_id: String,
    pub span_id: String,
    /// Texts that may be ids, of a trace or a span, and these: a record must have the one or be of the other.
    pub alike: Vec<(String, (String, String))>,
    /// Both inclusive.
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
    /// Only records that are older than the one with this time and id.
    pub before: Option<(i64, i64)>,
    /// The oldest of those that pass first, instead of the newest.
    pub oldest_first: bool,
    pub limit: u32,
}

impl Filter {
    fn push(&self, query: &mut QueryBuilder<Sqlite>) {
        let equal = [
            ("l.service", self.service.as_str()),
            ("l.trace_id", &self.trace_id),
            ("l.span_id", &self.span_id),
        ];
        push_equal(query, &equal);
        if !self.trace_id.is_empty() {
            query.push(" AND l.trace_id <> ''"); // says to SQLite that the partial index will do
        }
        for (text, (trace_id, span_id)) in &self.alike {
            let (column, id) = match trace_id.is_empty() {
                true => ("span_id", span_id),
                false => ("trace_id", trace_id),
            };
            query
                .push(" AND (instr(l.text, ")
                .push_bind(text.to_lowercase())
                .push(format!(") > 0 OR l.{column} = "))
                .push_bind(id.clone())
                .push(")");
        }
        if let Some((lowest, highest)) = self.severity {
            query
                .push(" AND l.severity BETWEEN ")
                .push_bind(lowest)
                .push(" AND ")
                .push_bind(highest);
        }
        let bounds = [("l.time_ns >=", self.from_ns), ("l.time_ns <=", self.to_ns)];
        push_bounds(query, &bounds);
        self.search.push(query, "l");
    }
}

/// A record as it is listed.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: i64,
    pub origin: i64,
    pub service: String,
    pub time_ns: i64,
    /// As [`severity`] says.
    pub severity: i32,
    pub record: LogRecord,
}

/// Id, origin, service, time and record.
type Row = (i64, i64, String, i64, Vec<u8>);

fn entry((id, origin, service, time_ns, body): Row) -> Option<Entry> {
    let record = LogRecord::decode(body.as_slice()).ok()?;
    Some(Entry {
        id,
        origin,
        service,
        time_ns,
        severity: severity(&record),
        record,
    })
}

/// The records that pass the filter by their own time, newest first, no more than one answer holds; and whether there may be more.
pub async fn list(pool: &SqlitePool, filter: &Filter) -> Result<(Vec<Entry>, bool), Problem> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
        "SELECT l.id, l.origin, l.service, l.time_ns, l.body FROM logs l WHERE 1",
    );
    filter.push(&mut query);
    if let Some((time_ns, id)) = filter.before {
        query
            .push(" AND (l.time_ns, l.id) < (")
            .push_bind(time_ns)
            .push(", ")
            .push_bind(id)
            .push(")");
    }
    query
        .push(if filter.oldest_first {
            " ORDER BY l.time_ns, l.id LIMIT "
        } else {
            " ORDER BY l.time_ns DESC, l.id DESC LIMIT "
        })
        .push_bind(filter.limit);
    let rows = query.build_query_as().fetch(pool);
    let (mut rows, cut) = first_of(rows, |row: &Row| row.4.len()).await?;
    if filter.oldest_first {
        rows.reverse();
    }
    let more = cut || rows.len() == filter.limit as usize;
    let entries = aside(move || rows.into_iter().filter_map(entry).collect()).await?;
    Ok((entries, more))
}

/// Time and service of a record.
pub async fn place(pool: &SqlitePool, id: i64) -> sqlx::Result<Option<(i64, String)>> {
    sqlx::query_as("SELECT time_ns, service FROM logs WHERE id = ?")
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// How many records of a level there are in a step of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    pub step: i64,
    /// Severity number over 4, rounded up: 0 for none, 1 for trace … 6 for fatal.
    pub level: i64,
    pub count: i64,
}

from_row!(Volume: step, level, count);

/// The volume of the records that pass the filter, in steps since `from_ns`.
pub async fn volume(
    pool: &SqlitePool,
    filter: &Filter,
    from_ns: i64,
    step_ns: i64,
) -> sqlx::Result<Vec<Volume>> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT (l.time_ns - ");
    query
        .push_bind(from_ns)
        .push(") / ")
        .push_bind(step_ns)
        .push(" AS step, min((l.severity + 3) / 4, 6) AS level, count(*) AS count FROM logs l WHERE 1");
    filter.push(&mut query);
    query.push(" GROUP BY 1, 2 ORDER BY 1, 2");
    query.build_query_as().fetch_all(pool).await
}

/// First and last time of all records, `None` if there are none.
pub async fn extent(pool: &SqlitePool) -> sqlx::Result<Option<(i64, i64)>> {
    let (first, last): (Option<i64>, Option<i64>) =
        sqlx::query_as("SELECT (SELECT min(time_ns) FROM logs), (SELECT max(time_ns) FROM logs)")
            .fetch_one(pool)
            .await?;
    Ok(first.zip(last))
}

/// Names of the attributes that the newest records have, for suggestions.
pub async fn fields(pool: &SqlitePool) -> Result<Vec<String>, Problem> {
    let newest = Filter {
        limit: 300,
        ..Filter::default()
    };
    let (entries, _) = list(pool, &newest).await?;
    let keys = entries
        .into_iter()
        .flat_map(|entry| entry.record.attributes);
    let names: std::collections::BTreeSet<String> = keys.map(|attribute| attribute.key).collect();
    Ok(names.into_iter().take(100).collect())
}
