//! Profiles as they were pushed, and which spans they have samples of.

use std::collections::BTreeSet;

use prost::Message;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::traces::json_list;
use super::{ANSWER_BYTES, Amount, LATEST_NS, aside, evict_oldest, push_bounds, push_equal};
use crate::attributes::{column, is_hex};
use crate::pprof::{LabelPair, Merged, Profile, RawProfileSeries, Unreadable};
use crate::problem::Problem;

const OVERHEAD_BYTES: usize = 300;
/// Labels of one profile's samples that can be chosen from; all can be asked for.
const MOST_SAMPLE_LABELS: usize = 100;
/// Profiles merged into one answer: the newest of those asked for. An hour of two services at one push per 10 s is 720.
pub const MOST_MERGED: u32 = 1000;
/// Profiles in memory at a time.
const READ_AT_A_TIME: usize = 16;

/// A pushed profile ready to be stored.
pub struct ProfileRow {
    service: String,
    kind: String,
    labels: String,
    time_ns: i64,
    duration_ns: i64,
    total: i64,
    /// Spans it has samples of, 16 hexadecimal digits each.
    spans: Vec<String>,
    /// `name=value` of the other labels its samples have.
    sample_labels: Vec<String>,
    body: Vec<u8>,
}

impl ProfileRow {
    /// The rows of a series. `budget` is what its profiles may decompress to, in bytes, and is lowered by what they do; `now_ns` stands in for a
    /// profile without time.
    pub fn of_series(
        series: RawProfileSeries,
        budget: &mut usize,
        now_ns: i64,
    ) -> Result<Vec<Self>, Unreadable> {
        let label = |name: &str| {
            let label = series.labels.iter().find(|label| label.name == name);
            label.map(|label| label.value.clone())
        };
        let service = label("service_name").map_or_else(|| "unknown_service".to_owned(), column);
        let pair = |label: &LabelPair| (label.name.clone(), label.value.clone().into());
        let labels: serde_json::Map<_, _> = series.labels.iter().map(pair).collect();
        let labels = serde_json::Value::Object(labels).to_string();
        let mut rows = Vec::with_capacity(series.samples.len());
        for sample in series.samples {
            let mut profile = Profile::read(&sample.raw_profile, *budget)?;
            *budget = budget
                .checked_sub(profile.encoded_len() + labels.len())
                .ok_or(Unreadable::TooLarge(*budget))?;
            profile.shorten_names();
            profile.time_nanos = match profile.time_nanos {
                ..=0 => now_ns,
                time => time.min(LATEST_NS),
            };
            profile.duration_nanos = profile.duration_nanos.clamp(0, LATEST_NS);
            let (position, kind) = profile.kind(&label("__name__").unwrap_or_default());
            let samples = profile.sample.iter();
            let all: BTreeSet<(&str, &str)> =
                samples.flat_map(|sample| profile.labels(sample)).collect();
            let is_span = |(name, _): &(&str, &str)| matches!(*name, "profile_id" | "span_id");
            let (spans, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_span);
            let spans = spans.into_iter().filter(|(_, id)| is_hex(id, 8));
            let others = others.into_iter().take(MOST_SAMPLE_LABELS);
            let values = profile.sample.iter();
            let values = values.filter_map(|sample| sample.value.get(position));
            rows.push(Self {
                service: service.clone(),
                kind: column(kind),
                labels: labels.clone(),
                time_ns: profile.time_nanos,
                duration_ns: profile.duration_nanos,
                total: values.fold(0, |sum: i64, value| sum.saturating_add((*value).max(0))),
                spans: spans.map(|(_, id)| id.to_owned()).collect(),
                sample_labels: others
                    .map(|(name, value)| column(format!("{name}={value}")))
                    .collect(),
                body: gzip(&profile.encode_to_vec())?,
            });
        }
        Ok(rows)
    }

    fn size(&self) -> i64 {
        (self.body.len() + self.labels.len() + OVERHEAD_BYTES + 50 * self.spans.len()) as i64
    }
}

/// Gzips at the fastest level.
pub fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

pub async fn insert(
    connection: &mut SqliteConnection,
    rows: &[ProfileRow],
) -> sqlx::Result<Amount> {
    let mut added = Amount::default();
    for row in rows {
        let id = sqlx::query(
            "INSERT INTO profiles (service, kind, labels, sample_labels, time_ns, duration_ns, total, size, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.service)
        .bind(&row.kind)
        .bind(&row.labels)
        .bind(json_list(&row.sample_labels))
        .bind(row.time_ns)
        .bind(row.duration_ns)
        .bind(row.total)
        .bind(row.size())
        .bind(&row.body)
        .execute(&mut *connection)
        .await?
        .last_insert_rowid();
        sqlx::query("INSERT OR IGNORE INTO profile_spans (span_id, profile) SELECT value, ? FROM json_each(?)")
            .bind(id)
            .bind(json_list(&row.spans))
            .execute(&mut *connection)
            .await?;
        added.rows += 1;
        added.bytes += row.size() as u64;
    }
    Ok(added)
}

/// Lets the oldest profiles go.
pub async fn evict(connection: &mut SqliteConnection, rows: u64) -> sqlx::Result<Amount> {
    let gone = evict_oldest(connection, "profiles", rows).await?;
    sqlx::query("DELETE FROM profile_spans WHERE profile < (SELECT coalesce(min(id), profile + 1) FROM profiles)")
        .execute(connection)
        .await?;
    Ok(gone)
}

/// Which profiles to merge. Empty texts do not filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `cpu`, `heap`, or the name of another sample type.
    pub kind: String,
    pub service: String,
    /// Only samples of this span.
    pub span_id: String,
    /// Only samples with this label.
    pub label: Option<(String, String)>,
    /// Profiles that were being taken within this time; a heap is taken at once.
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
}

/// A push without its samples.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub id: i64,
    pub service: String,
    pub labels: String,
    pub time_ns: i64,
    pub duration_ns: i64,
    pub total: i64,
}

from_row!(Pushed: id, service, labels, time_ns, duration_ns, total);

/// The newest pushes that may have samples the filter asks for, newest first.
pub async fn list(pool: &SqlitePool, filter: &Filter) -> sqlx::Result<Vec<Pushed>> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
        "SELECT id, service, labels, time_ns, duration_ns, total FROM profiles WHERE kind = ",
    );
    query.push_bind(&filter.kind);
    push_equal(&mut query, &[("service", &filter.service)]);
    if !filter.span_id.is_empty() {
        query
            .push(" AND id IN (SELECT profile FROM profile_spans WHERE span_id = ")
            .push_bind(&filter.span_id)
            .push(")");
    }
    let bounds = [
        ("time_ns + max(duration_ns, 1) >", filter.from_ns),
        ("time_ns <=", filter.to_ns),
    ];
    push_bounds(&mut query, &bounds);
    query
        .push(" ORDER BY time_ns DESC LIMIT ")
        .push_bind(MOST_MERGED);
    query.build_query_as().fetch_all(pool).await
}

/// What `filter` asks for of these pushes: CPU time adds up over time, memory in use does not, so that of each series of heap profiles only the
/// one with the most in use counts.
pub fn to_merge<'a>(pushed: &'a [Pushed], kind: &str) -> Vec<&'a Pushed> {
    if kind != "heap" {
        return pushed.iter().collect();
    }
    let mut peaks: Vec<&Pushed> = Vec::new();
    for push in pushed {
        match peaks.iter_mut().find(|peak| peak.labels == push.labels) {
            Some(peak) if push.total > peak.total => *peak = push,
            Some(_) => {}
            None => peaks.push(push),
        }
    }
    peaks
}

/// Merges the samples of these pushes that pass the filter, the first ones first, until the sum is as much as one answer holds; says how many
/// it took. Reads a few at a time, so that memory holds those and the sum.
pub async fn merge(
    pool: &SqlitePool,
    pushed: &[&Pushed],
    filter: &Filter,
) -> Result<(Merged, usize), Problem> {
    let mut wanted: Vec<(String, String)> = filter.label.iter().cloned().collect();
    if !filter.span_id.is_empty() {
        wanted.push(("span_id".to_owned(), filter.span_id.clone()));
    }
    let wanted = std::sync::Arc::new(wanted);
    let mut merged = Merged::default();
    let mut taken = 0;
    for some in pushed.chunks(READ_AT_A_TIME) {
        if merged.bytes() > ANSWER_BYTES {
            break;
        }
        let ids: Vec<i64> = some.iter().map(|push| push.id).collect();
        let bodies: Vec<Option<Vec<u8>>> = sqlx::query_scalar(
            "SELECT (SELECT body FROM profiles WHERE id = wanted.value) FROM json_each(?) wanted ORDER BY wanted.key",
        )
        .bind(json_list(&ids))
        .fetch_all(pool)
        .await?;
        let labels: Vec<_> = some.iter().map(|push| push.label_pairs()).collect();
        let wanted = wanted.clone();
        let (sum, added) = aside(move || {
            for (place, (body, labels)) in bodies.into_iter().zip(labels).enumerate() {
                if merged.bytes() > ANSWER_BYTES {
                    return (merged, place);
                }
                // Checked when it came in, so what cannot be read now was evicted in between.
                if let Some(profile) =
                    body.and_then(|body| Profile::read(&body, usize::MAX - 1).ok())
                {
                    merged.add(&profile, &labels, &wanted);
                }
            }
            (merged, ids.len())
        })
        .await?;
        merged = sum;
        taken += added;
    }
    Ok((merged, taken))
}

impl Pushed {
    /// Labels of the push, by name.
    pub fn label_pairs(&self) -> Vec<(String, String)> {
        let labels: std::collections::BTreeMap<String, String> =
            serde_json::from_str(&self.labels).unwrap_or_default();
        labels.into_iter().collect()
    }
}

/// What is there of one kind, service and set of labels.
#[derive(Clone, Debug)]
pub struct Listed {
    pub kind: String,
    pub service: String,
    pub labels: String,
    pub count: i64,
    pub first_ns: i64,
    pub last_ns: i64,
}

from_row!(Listed: kind, service, labels, count, first_ns, last_ns);

/// Everything there is, by kind, service and labels.
pub async fn kinds(pool: &SqlitePool) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as(
        "SELECT kind, service, labels, count(*) AS count, min(time_ns) AS first_ns, max(time_ns) AS last_ns
         FROM profiles GROUP BY kind, service, labels ORDER BY kind, service, labels LIMIT 1000",
    )
    .fetch_all(pool)
    .await
}

/// Which of these spans have CPU samples.
pub async fn spans_with_samples(
    pool: &SqlitePool,
    span_ids: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT DISTINCT span_id FROM profile_spans WHERE span_id IN (SELECT value FROM json_each(?))")
        .bind(json_list(span_ids))
        .fetch_all(pool)
        .await
}

/// `name=value` of every label that pushes of a kind or their samples carry, but those that say nothing about the work.
pub async fn labels(pool: &SqlitePool, kind: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT l.key || '=' || l.value FROM (SELECT DISTINCT labels FROM profiles WHERE kind = ?1) p, json_each(p.labels) l
         WHERE l.key NOT IN ('__name__', 'service_name') AND l.key NOT LIKE 'otel.scope.%' AND l.key NOT LIKE 'process.runtime.%'
         UNION
         SELECT l.value FROM (SELECT DISTINCT sample_labels FROM profiles WHERE kind = ?1) p, json_each(p.sample_labels) l
         ORDER BY 1 LIMIT 200",
    )
    .bind(kind)
    .fetch_all(pool)
    .await
}
