//! Log records and their full-text index.

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::traces::json_list;
use super::{Amount, aside, first_of, time_ns};
use crate::attributes::{flat_json, hex_id, text};
use crate::problem::Problem;

const OVERHEAD_BYTES: usize = 200;
const ROWS_A_STATEMENT: usize = 100;
/// Text of one record that can be searched; the record itself is kept whole.
const SEARCHED_BYTES: usize = 16 * 1024;

/// A log record ready to be stored.
pub struct LogRow {
    pub origin: usize,
    service: String,
    time_ns: i64,
    severity: i32,
    trace_id: String,
    span_id: String,
    attributes: String,
    text: String,
    body: Vec<u8>,
}

impl LogRow {
    /// `now_ns` stands in for a record without any time.
    pub fn new(origin: usize, service: &str, record: &LogRecord, now_ns: i64) -> Self {
        let time = [record.time_unix_nano, record.observed_time_unix_nano]
            .into_iter()
            .find(|time| *time != 0);
        // "key value" side by side, so that a search for one field is a search for a phrase.
        let mut searched = String::new();
        for attribute in &record.attributes {
            searched.extend([&attribute.key, " ", &text(attribute.value.as_ref()), "\n"]);
        }
        searched.push_str(&text(record.body.as_ref()));
        searched.truncate(searched.floor_char_boundary(SEARCHED_BYTES));
        Self {
            origin,
            service: service.to_owned(),
            time_ns: time.map_or(now_ns, time_ns),
            severity: record.severity_number,
            trace_id: hex_id(&record.trace_id, 16),
            span_id: hex_id(&record.span_id, 8),
            attributes: flat_json(&record.attributes),
            text: searched,
            body: record.encode_to_vec(),
        }
    }

    fn size(&self) -> i64 {
        (self.body.len() + self.attributes.len() + self.text.len() + OVERHEAD_BYTES) as i64
    }
}

pub async fn insert(
    connection: &mut SqliteConnection,
    rows: &[LogRow],
    origins: &[i64],
) -> sqlx::Result<Amount> {
    let mut added = Amount::default();
    for chunk in rows.chunks(ROWS_A_STATEMENT) {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
            "INSERT INTO logs (origin, service, time_ns, severity, trace_id, span_id, attributes, size, body) ",
        );
        query.push_values(chunk, |mut values, row| {
            values
                .push_bind(origins[row.origin])
                .push_bind(&row.service)
                .push_bind(row.time_ns)
                .push_bind(row.severity)
                .push_bind(&row.trace_id)
                .push_bind(&row.span_id)
                .push_bind(&row.attributes)
                .push_bind(row.size())
                .push_bind(&row.body);
        });
        let last = query
            .build()
            .execute(&mut *connection)
            .await?
            .last_insert_rowid();
        // There is one writer, so the rows of one statement have consecutive ids.
        let first = last - chunk.len() as i64 + 1;
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO logs_text (rowid, text) ");
        query.push_values((first..).zip(chunk), |mut values, (id, row)| {
            values.push_bind(id).push_bind(&row.text);
        });
        query.build().execute(&mut *connection).await?;
        added.rows += chunk.len() as u64;
        added.bytes += chunk.iter().map(|row| row.size() as u64).sum::<u64>();
    }
    Ok(added)
}

/// Lets the oldest records go.
pub async fn evict(connection: &mut SqliteConnection, rows: u64) -> sqlx::Result<Amount> {
    let gone: Vec<(i64, i64)> = sqlx::query_as(
        "DELETE FROM logs WHERE id IN (SELECT id FROM logs ORDER BY id LIMIT ?) RETURNING id, size",
    )
    .bind(rows as i64)
    .fetch_all(&mut *connection)
    .await?;
    let (ids, sizes): (Vec<i64>, Vec<i64>) = gone.into_iter().unzip();
    sqlx::query("DELETE FROM logs_text WHERE rowid IN (SELECT value FROM json_each(?))")
        .bind(json_list(&ids))
        .execute(connection)
        .await?;
    Ok(Amount::of(&sizes))
}

/// Which records to list. Empty texts do not filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Words that all must occur in the body or the attributes; each matches from its beginning, `"several words"` as they stand.
    pub text: String,
    pub service: String,
    /// Lowest and highest severity number.
    pub severity: Option<(i32, i32)>,
    /// An attribute of the record or its resource, and its value.
    pub field: Option<(String, String)>,
    pub trace_id: String,
    pub span_id: String,
    /// Both inclusive.
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
    /// Only records that arrived before the one with this id.
    pub before: Option<i64>,
    pub limit: u32,
}

/// A record as it is listed.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: i64,
    pub origin: i64,
    pub service: String,
    pub time_ns: i64,
    pub record: LogRecord,
}

/// Id, origin, service, time and record.
type Row = (i64, i64, String, i64, Vec<u8>);

fn entry((id, origin, service, time_ns, body): Row) -> Option<Entry> {
    Some(Entry {
        id,
        origin,
        service,
        time_ns,
        record: LogRecord::decode(body.as_slice()).ok()?,
    })
}

/// The last arrived records that pass the filter, newest first, no more than one answer holds; and whether there may be older ones.
pub async fn list(pool: &SqlitePool, filter: &Filter) -> Result<(Vec<Entry>, bool), Problem> {
    let expression = full_text(&filter.text);
    let searched = !expression.is_empty();
    let mut query: QueryBuilder<Sqlite> =
        QueryBuilder::new("SELECT l.id, l.origin, l.service, l.time_ns, l.body FROM ");
    if searched {
        query
            .push("logs_text x JOIN logs l ON l.id = x.rowid WHERE logs_text MATCH ")
            .push_bind(expression);
    } else {
        query.push("logs l WHERE 1");
    }
    for (value, sql) in [
        (&filter.service, " AND l.service = "),
        (&filter.trace_id, " AND l.trace_id = "),
        (&filter.span_id, " AND l.span_id = "),
    ] {
        if !value.is_empty() {
            query.push(sql).push_bind(value);
        }
    }
    if !filter.trace_id.is_empty() {
        query.push(" AND l.trace_id <> ''"); // says to SQLite that the partial index will do
    }
    if let Some((lowest, highest)) = filter.severity {
        query
            .push(" AND l.severity BETWEEN ")
            .push_bind(lowest)
            .push(" AND ")
            .push_bind(highest);
    }
    if let Some((key, value)) = &filter.field {
        let path = json_path(key);
        query.push(" AND (l.origin IN (SELECT id FROM origins WHERE json_extract(attributes, ");
        query
            .push_bind(path.clone())
            .push(") = ")
            .push_bind(value)
            .push(") OR (");
        if has_words(value) && value.len() < SEARCHED_BYTES / 4 {
            // The index narrows down what the exact comparison then decides.
            query.push("l.id IN (SELECT rowid FROM logs_text WHERE logs_text MATCH ");
            query
                .push_bind(quoted(&format!("{key} {value}")))
                .push(") AND ");
        }
        query
            .push("json_extract(l.attributes, ")
            .push_bind(path)
            .push(") = ")
            .push_bind(value)
            .push("))");
    }
    for (bound, sql) in [
        (filter.from_ns, " AND l.time_ns >= "),
        (filter.to_ns, " AND l.time_ns <= "),
        (filter.before, " AND l.id < "),
    ] {
        if let Some(bound) = bound {
            query.push(sql).push_bind(bound);
        }
    }
    query
        .push(if searched {
            " ORDER BY x.rowid DESC LIMIT "
        } else {
            " ORDER BY l.id DESC LIMIT "
        })
        .push_bind(filter.limit);
    let rows = query.build_query_as().fetch(pool);
    let (rows, cut) = first_of(rows, |row: &Row| row.4.len()).await?;
    let more = cut || rows.len() == filter.limit as usize;
    let entries = aside(move || rows.into_iter().filter_map(entry).collect()).await?;
    Ok((entries, more))
}

/// Names of the attributes that the newest records have, for suggestions.
pub async fn fields(pool: &SqlitePool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT DISTINCT f.key FROM (SELECT attributes FROM logs ORDER BY id DESC LIMIT 500) l, json_each(l.attributes) f ORDER BY f.key LIMIT 100",
    )
    .fetch_all(pool)
    .await
}

/// Turns what a person typed into an FTS5 expression in which no character has a meaning that was not asked for; empty if no word is left.
fn full_text(typed: &str) -> String {
    let mut terms = Vec::new();
    // Every second piece stood between quotation marks.
    for (number, piece) in typed.split('"').enumerate() {
        if number % 2 == 1 {
            terms.extend(has_words(piece).then(|| quoted(piece)));
        } else {
            terms.extend(
                piece
                    .split_whitespace()
                    .filter(|word| has_words(word))
                    .map(|word| format!("{}*", quoted(word))),
            );
        }
    }
    terms.join(" AND ")
}

fn has_words(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

fn quoted(phrase: &str) -> String {
    format!("\"{}\"", phrase.replace(['"', '\0'], " "))
}

fn json_path(key: &str) -> String {
    format!("$.\"{}\"", key.replace(['"', '\\', '\0'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_has_no_syntax_but_quotation_marks() {
        assert_eq!(full_text("time out"), r#""time"* AND "out"*"#);
        assert_eq!(
            full_text(r#""card declined" NEAR(a"#),
            r#""card declined" AND "NEAR(a"*"#
        );
        assert_eq!(full_text("-- * \""), "");
        assert_eq!(full_text("a\0b"), r#""a b"*"#);
    }
}
