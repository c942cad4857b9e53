//! Spans, the traces they make up, and the edges between services.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::{Amount, Search, aside, first_of, insertion, pieces, push_bounds, push_equal, time_ns};
use crate::attributes::{column, find_renamed, hex, hex_id, searchable, valid_id};
use crate::problem::Problem;

/// What a row counts besides its body: the other columns and the indexes, roughly.
const OVERHEAD_BYTES: usize = 300;
/// Links of one span that can be followed, as many as SDKs keep; the record has all.
const MOST_LINKS: usize = 128;

/// A span ready to be stored.
pub struct SpanRow {
    pub origin: usize,
    // Shared with the statements that bind them, not copied for each.
    service: Arc<str>,
    trace_id: Arc<str>,
    span_id: Arc<str>,
    parent_id: Arc<str>,
    name: Arc<str>,
    kind: i32,
    route: Arc<str>,
    peer: Arc<str>,
    http_status: i64,
    error: bool,
    profiled: bool,
    start_ns: i64,
    end_ns: i64,
    links: Vec<(String, String)>,
    text: Arc<str>,
    body: Vec<u8>,
}

impl SpanRow {
    /// `None` if one of the span's ids is none; `now_ns` stands in for a span without any time.
    pub fn new(origin: usize, service: &Arc<str>, mut span: Span, now_ns: i64) -> Option<Self> {
        if !valid_id(&span.trace_id, 16) || !valid_id(&span.span_id, 8) {
            return None;
        }
        if (span.start_time_unix_nano, span.end_time_unix_nano) == (0, 0) {
            span.end_time_unix_nano = now_ns as u64;
        }
        let (start_ns, end_ns) = times(&span);
        let attribute = |key| find_renamed(&span.attributes, key);
        let peer = match span.kind() {
            SpanKind::Client => attribute("db.system.name"),
            _ => String::new(),
        };
        Some(Self {
            origin,
            service: service.clone(),
            trace_id: hex(&span.trace_id).into(),
            span_id: hex(&span.span_id).into(),
            parent_id: hex_id(&span.parent_span_id, 8).into(),
            name: column(span.name.clone()).into(),
            kind: span.kind,
            route: column(attribute("http.route")).into(),
            peer: column(peer).into(),
            http_status: attribute("http.response.status_code").parse().unwrap_or(0),
            error: is_error(&span),
            profiled: span
                .attributes
                .iter()
                .any(|attribute| attribute.key == "pyroscope.profile.id"),
            start_ns,
            end_ns,
            links: links(&span)
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect(),
            text: searchable(&span.attributes, &[&span.name]).into(),
            body: span.encode_to_vec(),
        })
    }

    fn size(&self) -> i64 {
        (self.body.len() + self.text.len() + OVERHEAD_BYTES) as i64
    }
}

/// Start and end of a span. One without a start is shown where it ended, one that has not ended where it began.
pub fn times(span: &Span) -> (i64, i64) {
    let start = match span.start_time_unix_nano {
        0 => span.end_time_unix_nano,
        start => start,
    };
    (time_ns(start), time_ns(span.end_time_unix_nano.max(start)))
}

/// The links that lead somewhere: senders write what they like into the ids.
pub fn links(span: &Span) -> impl Iterator<Item = &Link> {
    span.links
        .iter()
        .filter(|link| valid_id(&link.trace_id, 16) && valid_id(&link.span_id, 8))
        .take(MOST_LINKS)
}

/// Whether the span says of itself that it failed.
pub fn is_error(span: &Span) -> bool {
    span.status
        .as_ref()
        .is_some_and(|status| status.code() == StatusCode::Error)
}

/// Of spans that are the same, the one that ended last.
const TAKE_THE_PLACE: &str = " ON CONFLICT (trace, span_id, service, kind, start_ns) DO UPDATE SET origin = excluded.origin, parent_id = excluded.parent_id,
     name = excluded.name, route = excluded.route, peer = excluded.peer, http_status = excluded.http_status, error = excluded.error, profiled = excluded.profiled,
     end_ns = excluded.end_ns, was = iif(spans.was = 0, spans.size, spans.was), size = excluded.size, text = excluded.text, body = excluded.body
     WHERE excluded.end_ns > spans.end_ns";

/// Stores the spans and makes the rows of their traces. Of a span that is already there, the one that ended last stays: a retry changes
/// nothing, and a span that was sent when it began is replaced once it has ended.
pub async fn insert(
    connection: &mut SqliteConnection,
    rows: &[SpanRow],
    origins: &[i64],
) -> sqlx::Result<Amount> {
    let last: i64 = sqlx::query_scalar(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'spans'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let traces = Traces::of(connection, rows, last).await?;
    let is_known = |row: &SpanRow| traces.known.contains(&traces.numbers[&*row.trace_id]);
    let (of_known, of_new): (Vec<_>, Vec<_>) = rows
        .iter()
        .zip(last + 1..)
        .partition(|(row, _)| is_known(row));
    let mut stored = 0;
    for (chunk, conflict) in pieces(&of_new)
        .map(|chunk| (chunk, ""))
        .chain(pieces(&of_known).map(|chunk| (chunk, TAKE_THE_PLACE)))
    {
        let begin = "INSERT OR FAIL INTO spans (id, origin, trace, span_id, parent_id, service, name, kind, route, peer, caller, http_status, error,
             profiled, start_ns, end_ns, size, text, body)";
        let mut query = insertion(begin, chunk.len(), conflict);
        for (row, id) in chunk {
            query = query
                .bind(*id)
                .bind(origins[row.origin])
                .bind(traces.numbers[&*row.trace_id])
                .bind(row.span_id.clone())
                .bind(row.parent_id.clone())
                .bind(row.service.clone())
                .bind(row.name.clone())
                .bind(row.kind)
                .bind(row.route.clone())
                .bind(row.peer.clone())
                .bind(traces.caller(row))
                .bind(row.http_status)
                .bind(row.error)
                .bind(row.profiled)
                .bind(row.start_ns)
                .bind(row.end_ns)
                .bind(row.size())
                .bind(row.text.clone())
                .bind(&row.body);
        }
        let done = query.execute(&mut *connection).await?;
        stored += done.rows_affected();
    }
    for row in rows {
        for (trace_id, span_id) in &row.links {
            sqlx::query("INSERT OR IGNORE INTO links VALUES (?, ?, ?, ?)")
                .bind(traces.numbers[&*row.trace_id])
                .bind(row.span_id.clone())
                .bind(trace_id)
                .bind(span_id)
                .execute(&mut *connection)
                .await?;
        }
    }
    traces.store_new(connection).await?;
    let mut added = Amount::default();
    let whole = |(id, _): &(&i64, _)| !traces.known.contains(id);
    for (_, trace) in traces.new.iter().filter(whole) {
        added.rows += trace.spans as u64;
        added.bytes += trace.bytes as u64;
    }
    if !traces.known.is_empty() {
        let stored = stored - added.rows;
        let more = update_known(connection, &traces.known, last, stored).await?;
        added.rows += more.rows;
        // May be less than before: then it wraps, and so does the sum that it is added to.
        added.bytes = added.bytes.wrapping_add(more.bytes);
    }
    Ok(added)
}

/// Makes the rows of these traces again from what is stored, and finds the callers of their spans. Says what they grew by: the spans whose id is
/// greater than `last`, and those that took the place of another if `stored` is more than these.
async fn update_known(
    connection: &mut SqliteConnection,
    traces: &HashSet<i64>,
    last: i64,
    stored: u64,
) -> sqlx::Result<Amount> {
    let traces: Vec<&i64> = traces.iter().collect();
    let traces = json_list(&traces);
    let (new, mut bytes): (i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(size), 0) FROM spans WHERE id > ? AND trace IN (SELECT value FROM json_each(?))",
    )
    .bind(last)
    .bind(&traces)
    .fetch_one(&mut *connection)
    .await?;
    if stored > new as u64 {
        let grown: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(size - was), 0) FROM spans WHERE was <> 0 AND id <= ? AND trace IN (SELECT value FROM json_each(?))",
        )
        .bind(last)
        .bind(&traces)
        .fetch_one(&mut *connection)
        .await?;
        bytes += grown;
        sqlx::query(
            "UPDATE spans SET was = 0 WHERE was <> 0 AND trace IN (SELECT value FROM json_each(?))",
        )
        .bind(&traces)
        .execute(&mut *connection)
        .await?;
    }
    // A server or consumer span was called by its parent, or by the client that it shares its id with.
    sqlx::query(
        "UPDATE spans SET caller = p.service FROM spans p
         WHERE spans.trace IN (SELECT value FROM json_each(?)) AND spans.kind IN (2, 5) AND spans.caller = ''
         AND p.trace = spans.trace AND p.span_id IN (spans.parent_id, spans.span_id) AND p.kind IN (3, 4) AND p.service <> spans.service",
    )
    .bind(&traces)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE traces SET root_id = of.root_id, start_ns = of.start_ns, end_ns = of.end_ns, spans = of.spans, errors = of.errors, bytes = of.bytes, services = of.services
         FROM (SELECT trace,
                (SELECT root.id FROM spans root WHERE root.trace = s.trace ORDER BY root.parent_id <> '', root.start_ns, root.kind <> 3 LIMIT 1) AS root_id,
                min(start_ns) AS start_ns, max(end_ns) AS end_ns, count(*) AS spans, sum(error) AS errors, sum(size) AS bytes,
                group_concat(DISTINCT char(10) || service || char(10)) AS services
                FROM spans s WHERE trace IN (SELECT value FROM json_each(?)) GROUP BY trace) of
         WHERE traces.id = of.trace",
    )
    .bind(traces)
    .execute(connection)
    .await?;
    Ok(Amount {
        rows: new as u64,
        bytes: bytes as u64,
    })
}

/// The traces of a batch. What the rows of a new one say follows from the batch alone, and most traces come whole.
struct Traces<'a> {
    /// By trace id.
    numbers: HashMap<&'a str, i64>,
    /// By number: one that is new gets the next, in the order of arrival.
    new: BTreeMap<i64, NewTrace<'a>>,
    /// Those that have spans already, or two of the same id in this batch: one may take the other's place.
    known: HashSet<i64>,
    /// By trace id and span id.
    spans: HashMap<(&'a str, &'a str), &'a SpanRow>,
}

/// A row of `traces`.
struct NewTrace<'a> {
    root: &'a SpanRow,
    root_id: i64,
    start_ns: i64,
    end_ns: i64,
    spans: i64,
    errors: i64,
    bytes: i64,
    services: String,
}

impl<'a> Traces<'a> {
    /// Of rows whose ids follow upon `last`.
    async fn of(
        connection: &mut SqliteConnection,
        rows: &'a [SpanRow],
        last: i64,
    ) -> sqlx::Result<Self> {
        // 0 until it has its number.
        let mut numbers: HashMap<&str, i64> = rows.iter().map(|row| (&*row.trace_id, 0)).collect();
        let ids: Vec<&&str> = numbers.keys().collect();
        let found: Vec<(String, i64)> = sqlx::query_as(
            "SELECT trace_id, id FROM traces WHERE trace_id IN (SELECT value FROM json_each(?))",
        )
        .bind(json_list(&ids))
        .fetch_all(&mut *connection)
        .await?;
        let known: HashSet<i64> = found.iter().map(|(_, number)| *number).collect();
        for (trace_id, number) in found {
            if let Some(place) = numbers.get_mut(trace_id.as_str()) {
                *place = number;
            }
        }
        let first: i64 = sqlx::query_scalar("SELECT coalesce(max(id), 0) + 1 FROM traces")
            .fetch_one(connection)
            .await?;
        let mut traces = Self {
            numbers,
            known,
            new: BTreeMap::new(),
            spans: HashMap::with_capacity(rows.len()),
        };
        for (row, id) in rows.iter().zip(last + 1..) {
            let number = traces.numbers.entry(&row.trace_id).or_default();
            if *number == 0 {
                *number = first + traces.new.len() as i64;
            }
            let number = *number;
            let of_id = traces.spans.insert((&*row.trace_id, &*row.span_id), row);
            if of_id.is_some() {
                traces.known.insert(number);
            }
            if number >= first {
                let trace = traces.new.entry(number);
                trace.or_insert_with(|| NewTrace::of(row, id)).add(row, id);
            }
        }
        Ok(traces)
    }

    /// Service that called a server or consumer span: its parent's, if that is another.
    fn caller(&self, row: &SpanRow) -> Arc<str> {
        let parent = self.spans.get(&(&*row.trace_id, &*row.parent_id));
        let calls = |parent: &&&SpanRow| {
            matches!((parent.kind, row.kind), (3 | 4, 2 | 5)) && parent.service != row.service
        };
        parent
            .filter(calls)
            .map(|parent| parent.service.clone())
            .unwrap_or_default()
    }

    async fn store_new(&self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let new: Vec<(&i64, &NewTrace)> = self.new.iter().collect();
        for chunk in pieces(&new) {
            let begin = "INSERT OR FAIL INTO traces (id, trace_id, root_id, start_ns, end_ns, spans, errors, bytes, services)";
            let mut query = insertion(begin, chunk.len(), "");
            for (id, trace) in chunk {
                query = query
                    .bind(**id)
                    .bind(trace.root.trace_id.clone())
                    .bind(trace.root_id)
                    .bind(trace.start_ns)
                    .bind(trace.end_ns)
                    .bind(trace.spans)
                    .bind(trace.errors)
                    .bind(trace.bytes)
                    .bind(&trace.services);
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

impl<'a> NewTrace<'a> {
    fn of(root: &'a SpanRow, root_id: i64) -> Self {
        Self {
            root,
            root_id,
            start_ns: root.start_ns,
            end_ns: root.end_ns,
            spans: 0,
            errors: 0,
            bytes: 0,
            services: String::new(),
        }
    }

    fn add(&mut self, row: &'a SpanRow, id: i64) {
        // As `update_known` says it in SQL.
        let order = |row: &SpanRow| (!row.parent_id.is_empty(), row.start_ns, row.kind != 3);
        if order(row) < order(self.root) {
            (self.root, self.root_id) = (row, id);
        }
        self.start_ns = self.start_ns.min(row.start_ns);
        self.end_ns = self.end_ns.max(row.end_ns);
        self.spans += 1;
        self.errors += i64::from(row.error);
        self.bytes += row.size();
        let service = format!("\n{}\n", row.service);
        if !self.services.contains(&service) {
            self.services.push_str(&service);
        }
    }
}

/// Lets the oldest traces go, together about `rows` spans.
pub async fn evict(connection: &mut SqliteConnection, rows: u64) -> sqlx::Result<Amount> {
    // Ends with the first trace by which enough spans are gone; a trace has at least one.
    let last: i64 = sqlx::query_scalar(
        "SELECT coalesce(max(id), 0) FROM (SELECT id, sum(spans) OVER (ORDER BY id) - spans AS before
                               FROM (SELECT id, spans FROM traces ORDER BY id LIMIT ?1)) WHERE before < ?1",
    )
    .bind(rows as i64)
    .fetch_one(&mut *connection)
    .await?;
    let (rows, bytes): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(spans), 0), coalesce(sum(bytes), 0) FROM traces WHERE id <= ?",
    )
    .bind(last)
    .fetch_one(&mut *connection)
    .await?;
    for sql in [
        "DELETE FROM spans WHERE trace <= ?",
        "DELETE FROM links WHERE trace <= ?",
        "DELETE FROM traces WHERE id <= ?",
    ] {
        sqlx::query(sql)
            .bind(last)
            .execute(&mut *connection)
            .await?;
    }
    Ok(Amount {
        rows: rows as u64,
        bytes: bytes as u64,
    })
}

/// A list as SQLite's `json_each` reads it.
pub fn json_list<T: serde::Serialize>(items: &[T]) -> String {
    serde_json::to_string(items).unwrap_or_else(|_| "[]".to_owned())
}

/// Which traces to list. Empty texts do not filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub trace_id: String,
    /// A service that has a span in the trace.
    pub service: String,
    /// `http.route` or name of a span in the trace.
    pub route: String,
    /// What one span, or the resource it came from, must have: attributes with a value, and texts that occur in its name or attributes.
    pub search: Search,
    /// A span of the trace.
    pub span_id: String,
    /// Whether a span failed.
    pub failed: Option<bool>,
    pub min_ns: Option<i64>,
    pub max_ns: Option<i64>,
    /// Start of the trace, both inclusive.
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
    pub sort: Sort,
    /// Traces left out at the beginning of the list.
    pub offset: u32,
    pub limit: u32,
}

/// The order of the list, the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Time,
    Duration,
    Spans,
    Errors,
}

/// One line of the list. Service, name and status are its root span's.
#[derive(Clone, Debug)]
pub struct Summary {
    pub trace_id: String,
    pub service: String,
    pub name: String,
    pub http_status: i64,
    pub start_ns: i64,
    pub end_ns: i64,
    pub spans: i64,
    pub errors: i64,
    /// What its spans count against their bound.
    pub bytes: i64,
    /// Whether that span has a parent which has not arrived.
    pub orphan: bool,
}

from_row!(Summary: trace_id, service, name, http_status, start_ns, end_ns, spans, errors, bytes, orphan);

impl Summary {
    pub fn duration(&self) -> i64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

const SUMMARY: &str = "SELECT t.trace_id, root.service, root.name, root.http_status, t.start_ns, t.end_ns, t.spans, t.errors, t.bytes,
     root.parent_id <> '' AS orphan FROM traces t JOIN spans root ON root.id = t.root_id WHERE ";

/// One trace, `None` if none of its spans is there.
pub async fn one(pool: &SqlitePool, trace_id: &str) -> sqlx::Result<Option<Summary>> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(SUMMARY);
    query.push("t.trace_id = ").push_bind(trace_id);
    query.build_query_as().fetch_optional(pool).await
}

/// The traces that pass the filter, in its order.
pub async fn list(pool: &SqlitePool, filter: &Filter) -> sqlx::Result<Vec<Summary>> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(SUMMARY);
    query.push("1");
    push_equal(&mut query, &[("t.trace_id", &filter.trace_id)]);
    if !filter.service.is_empty() {
        query
            .push(" AND instr(t.services, ")
            .push_bind(format!("\n{}\n", filter.service))
            .push(") > 0");
    }
    if !(filter.route.is_empty() && filter.span_id.is_empty() && filter.search.is_empty()) {
        query.push(" AND EXISTS (SELECT 1 FROM spans s WHERE s.trace = t.id");
        if !filter.route.is_empty() {
            query
                .push(" AND (s.route = ")
                .push_bind(&filter.route)
                .push(" OR s.name = ")
                .push_bind(&filter.route)
                .push(")");
        }
        push_equal(&mut query, &[("s.span_id", &filter.span_id)]);
        filter.search.push(&mut query, "s");
        query.push(")");
    }
    query.push(match filter.failed {
        None => "",
        Some(true) => " AND t.errors > 0",
        Some(false) => " AND t.errors = 0",
    });
    let bounds = [
        ("t.end_ns - t.start_ns >=", filter.min_ns),
        ("t.end_ns - t.start_ns <=", filter.max_ns),
        ("t.start_ns >=", filter.from_ns),
        ("t.start_ns <=", filter.to_ns),
    ];
    push_bounds(&mut query, &bounds);
    query.push(match filter.sort {
        Sort::Time => " ORDER BY ",
        Sort::Duration => " ORDER BY t.end_ns - t.start_ns DESC, ",
        Sort::Spans => " ORDER BY t.spans DESC, ",
        Sort::Errors => " ORDER BY t.errors DESC, ",
    });
    query
        .push("t.start_ns DESC, t.trace_id LIMIT ")
        .push_bind(filter.limit)
        .push(" OFFSET ")
        .push_bind(filter.offset);
    query.build_query_as().fetch_all(pool).await
}

/// The first spans of some traces, each with its origin, in the order of their start: at most so many, and no more than one answer holds.
pub async fn spans<T: serde::Serialize>(
    pool: &SqlitePool,
    trace_ids: &[T],
    most: u32,
) -> Result<Vec<(i64, Span)>, Problem> {
    let rows = sqlx::query_as(
        "SELECT origin, body FROM spans WHERE trace IN (SELECT id FROM traces WHERE trace_id IN (SELECT value FROM json_each(?))) ORDER BY start_ns, id LIMIT ?",
    )
    .bind(json_list(trace_ids))
    .bind(most)
    .fetch(pool);
    let (rows, _) = first_of(rows, |(_, body): &(i64, Vec<u8>)| body.len()).await?;
    aside(move || {
        rows.into_iter()
            .filter_map(|(origin, body)| Some((origin, Span::decode(body.as_slice()).ok()?)))
            .collect()
    })
    .await
}

/// A span elsewhere that links into a trace.
#[derive(Clone, Debug)]
pub struct BackLink {
    pub trace_id: String,
    pub span_id: String,
    pub service: String,
    pub name: String,
}

from_row!(BackLink: trace_id, span_id, service, name);

/// Spans of other traces that link into this one.
pub async fn links_into(pool: &SqlitePool, trace_id: &str) -> sqlx::Result<Vec<BackLink>> {
    sqlx::query_as(
        "SELECT t.trace_id, l.span_id, s.service, s.name FROM links l
         JOIN traces t ON t.id = l.trace JOIN spans s ON s.trace = l.trace AND s.span_id = l.span_id
         WHERE l.to_trace_id = ?1 AND t.trace_id <> ?1 ORDER BY s.start_ns LIMIT 100",
    )
    .bind(trace_id)
    .fetch_all(pool)
    .await
}

/// Values that the filters of the list can take.
pub async fn choices(pool: &SqlitePool) -> sqlx::Result<(Vec<String>, Vec<String>)> {
    let services =
        sqlx::query_scalar("SELECT DISTINCT service FROM origins ORDER BY service LIMIT 200")
            .fetch_all(pool)
            .await?;
    // From one route in the index to the next, instead of through all rows of each.
    let routes = sqlx::query_scalar(
        "WITH RECURSIVE served (service, kind, route) AS (
             SELECT service, kind, '' FROM (SELECT DISTINCT service FROM origins), (SELECT 2 AS kind UNION ALL SELECT 5)
             UNION ALL
             SELECT service, kind, (SELECT min(s.route) FROM spans s INDEXED BY spans_served
                 WHERE s.service = served.service AND s.kind = served.kind AND s.kind IN (2, 5) AND s.route > served.route)
             FROM served WHERE route IS NOT NULL
         )
         SELECT DISTINCT route FROM served WHERE route <> '' ORDER BY route LIMIT 200",
    )
    .fetch_all(pool)
    .await?;
    Ok((services, routes))
}

/// Calls from one service to another, or to a database.
#[derive(Clone, Debug)]
pub struct Edge {
    pub caller: String,
    pub callee: String,
    /// Whether the callee is known only by its name on the caller's spans.
    pub external: bool,
    /// Whether the calls are messages, which the caller does not wait for.
    pub messages: bool,
    pub calls: i64,
    pub errors: i64,
    /// Mean duration, as the callee saw it or, of an external one, the caller.
    pub mean_ns: f64,
}

from_row!(Edge: caller, callee, external, messages, calls, errors, mean_ns);

/// Edges listed.
pub const MOST_EDGES: usize = 100;

/// Edges from the spans that started in this time (of kinds 2 server, 3 client, 4 producer, 5 consumer): server and consumer spans with a caller, consumer spans that link to a producer, and client spans that name a database. The inner groups are those of the indexes, which need no sorting.
pub async fn edges(
    pool: &SqlitePool,
    (from_ns, to_ns): (Option<i64>, Option<i64>),
) -> sqlx::Result<Vec<Edge>> {
    sqlx::query_as(
        "SELECT caller, callee, external, messages, sum(calls) AS calls, sum(errors) AS errors, sum(duration) / sum(calls) AS mean_ns FROM (
             SELECT caller, service AS callee, 0 AS external, kind = 5 AS messages, count(*) AS calls, sum(error) AS errors, total(end_ns - start_ns) AS duration
             FROM spans INDEXED BY spans_served WHERE kind IN (2, 5) AND caller <> '' AND start_ns BETWEEN ?1 AND ?2 GROUP BY service, kind, route, caller
             UNION ALL
             SELECT p.service, c.service, 0, 1, count(*), sum(c.error), total(c.end_ns - c.start_ns)
             FROM links l CROSS JOIN spans c ON c.trace = l.trace AND c.span_id = l.span_id
             JOIN traces t ON t.trace_id = l.to_trace_id JOIN spans p ON p.trace = t.id AND p.span_id = l.to_span_id
             WHERE c.start_ns BETWEEN ?1 AND ?2 AND c.kind IN (2, 5) AND p.service <> c.service GROUP BY 1, 2
             UNION ALL
             SELECT service, peer, 1, 0, count(*), sum(error), total(end_ns - start_ns) FROM spans WHERE peer <> '' AND start_ns BETWEEN ?1 AND ?2
             GROUP BY service, peer
         ) GROUP BY caller, callee, external, messages ORDER BY calls DESC LIMIT 100",
    )
    .bind(from_ns.unwrap_or(0))
    .bind(to_ns.unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
}

/// Service and name of the root spans of these traces, by trace id.
pub async fn names(
    pool: &SqlitePool,
    trace_ids: &[String],
) -> sqlx::Result<HashMap<String, (String, String)>> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT t.trace_id, root.service, root.name FROM traces t JOIN spans root ON root.id = t.root_id
         WHERE t.trace_id IN (SELECT value FROM json_each(?))",
    )
    .bind(json_list(trace_ids))
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(trace_id, service, name)| (trace_id, (service, name)))
        .collect())
}

/// Trace id, service and name of the newest span with this id; one that does not say that it has samples takes longer to find.
pub async fn of_span(
    pool: &SqlitePool,
    span_id: &str,
) -> sqlx::Result<Option<(String, String, String)>> {
    for sql in [
        "SELECT t.trace_id, s.service, s.name FROM spans s JOIN traces t ON t.id = s.trace WHERE s.span_id = ? AND s.profiled ORDER BY s.id DESC LIMIT 1",
        "SELECT t.trace_id, s.service, s.name FROM spans s INDEXED BY spans_by_trace JOIN traces t ON t.id = s.trace WHERE s.span_id = ? ORDER BY s.id DESC LIMIT 1",
    ] {
        let found = sqlx::query_as(sql)
            .bind(span_id.to_ascii_lowercase())
            .fetch_optional(pool)
            .await?;
        if found.is_some() || span_id.is_empty() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// How a service did, by the requests and messages it served.
#[derive(Clone, Debug)]
pub struct Health {
    pub service: String,
    pub requests: i64,
    pub errors: i64,
    pub mean_ns: f64,
    pub slowest_ns: i64,
}

from_row!(Health: service, requests, errors, mean_ns, slowest_ns);

/// Services listed.
pub const MOST_SERVICES: usize = 50;

/// How the services did in this time, those with the most requests first.
pub async fn health(
    pool: &SqlitePool,
    (from_ns, to_ns): (Option<i64>, Option<i64>),
) -> sqlx::Result<Vec<Health>> {
    sqlx::query_as(
        "SELECT service, count(*) AS requests, sum(error) AS errors, avg(end_ns - start_ns) AS mean_ns, max(end_ns - start_ns) AS slowest_ns
         FROM spans INDEXED BY spans_served WHERE kind IN (2, 5) AND start_ns BETWEEN ? AND ? GROUP BY service ORDER BY requests DESC LIMIT 50",
    )
    .bind(from_ns.unwrap_or(0))
    .bind(to_ns.unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
}

/// The part of this time that there are spans of, in minutes: rates are of it, so that a demo that has just begun is not watered down. Never less
/// than one.
pub async fn minutes_covered(
    pool: &SqlitePool,
    (from_ns, to_ns): (Option<i64>, Option<i64>),
    now_ns: i64,
) -> sqlx::Result<f64> {
    let first: Option<i64> = sqlx::query_scalar("SELECT min(start_ns) FROM traces")
        .fetch_one(pool)
        .await?;
    let from_ns = first.unwrap_or(now_ns).max(from_ns.unwrap_or(0));
    let length = to_ns.unwrap_or(now_ns).saturating_sub(from_ns);
    Ok((length as f64 / 60e9).max(1.0))
}
