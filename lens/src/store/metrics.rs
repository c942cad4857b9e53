//! Metric series and their data points.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, ExponentialHistogramDataPoint, HistogramDataPoint,
    Metric, NumberDataPoint, SummaryDataPoint, number_data_point,
};
use prost::Message;
use sqlx::{AssertSqlSafe, SqliteConnection, SqlitePool};

use super::known::REMEMBERED_BYTES;
use super::traces::json_list;
use super::{ANSWER_BYTES, Amount, aside, evict_oldest, first_of, insertion, pieces, time_ns};
use crate::attributes::column;
use crate::problem::Problem;

const OVERHEAD_BYTES: usize = 80;
/// Metadata of a metric is let go beyond this many bytes.
const METADATA_BYTES: usize = 1024;
/// Metrics listed.
const MOST_METRICS: i64 = 5000;

/// What a series measures, and so how it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Gauge,
    /// A sum that only goes up.
    Counter,
    /// A sum that goes up and down.
    UpDownCounter,
    Histogram,
    ExponentialHistogram,
    Summary,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Gauge,
        Self::Counter,
        Self::UpDownCounter,
        Self::Histogram,
        Self::ExponentialHistogram,
        Self::Summary,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::UpDownCounter => "up-down counter",
            Self::Histogram => "histogram",
            Self::ExponentialHistogram => "exponential histogram",
            Self::Summary => "summary",
        }
    }

    fn from_column(column: i64) -> Self {
        Self::ALL
            .get(column as usize)
            .copied()
            .unwrap_or(Self::Gauge)
    }

    fn of(data: &Data) -> Self {
        match data {
            Data::Gauge(_) => Self::Gauge,
            Data::Sum(sum) if sum.is_monotonic => Self::Counter,
            Data::Sum(_) => Self::UpDownCounter,
            Data::Histogram(_) => Self::Histogram,
            Data::ExponentialHistogram(_) => Self::ExponentialHistogram,
            Data::Summary(_) => Self::Summary,
        }
    }
}

/// Whether a metric's points say what happened since the last one.
pub fn is_delta(metric: &Metric) -> bool {
    let temporality = match &metric.data {
        Some(Data::Sum(sum)) => sum.aggregation_temporality,
        Some(Data::Histogram(histogram)) => histogram.aggregation_temporality,
        Some(Data::ExponentialHistogram(histogram)) => histogram.aggregation_temporality,
        _ => return false,
    };
    temporality == AggregationTemporality::Delta as i32
}

/// One data point, whatever its type. Those that are much larger than a number stand apart, as thousands of points are held at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Number(NumberDataPoint),
    Histogram(Box<HistogramDataPoint>),
    Exponential(Box<ExponentialHistogramDataPoint>),
    Summary(SummaryDataPoint),
}

/// The same of a point of any type: its fields have the same names.
macro_rules! of_any {
    ($point:expr, $any:ident => $what:expr) => {
        match $point {
            Point::Number($any) => $what,
            Point::Histogram($any) => $what,
            Point::Exponential($any) => $what,
            Point::Summary($any) => $what,
        }
    };
}

impl Point {
    fn attributes(&mut self) -> &mut Vec<KeyValue> {
        of_any!(self, point => &mut point.attributes)
    }

    /// Nanoseconds since 1970.
    pub fn time(&self) -> i64 {
        time_ns(of_any!(self, point => point.time_unix_nano))
    }

    /// When it began to count, in nanoseconds since 1970, 0 if it does not say.
    pub fn start(&self) -> i64 {
        time_ns(of_any!(self, point => point.start_time_unix_nano))
    }

    /// Whether it has a value at all: a sender marks with a flag that a series has ended.
    pub fn is_recorded(&self) -> bool {
        let flags = of_any!(self, point => point.flags);
        flags & DataPointFlags::NoRecordedValueMask as u32 == 0
    }

    /// Of a distribution the number of observations, without its buckets; anything else whole.
    pub fn decode_count(kind: Kind, body: &[u8]) -> Option<Self> {
        if !matches!(kind, Kind::Histogram | Kind::ExponentialHistogram) {
            return Self::decode(kind, body);
        }
        let count = Count::decode(body).ok()?;
        Some(Self::Number(NumberDataPoint {
            start_time_unix_nano: count.start,
            time_unix_nano: count.time,
            flags: count.flags,
            value: Some(number_data_point::Value::AsDouble(count.count as f64)),
            ..NumberDataPoint::default()
        }))
    }

    pub fn decode(kind: Kind, body: &[u8]) -> Option<Self> {
        Some(match kind {
            Kind::Gauge | Kind::Counter | Kind::UpDownCounter => {
                Self::Number(NumberDataPoint::decode(body).ok()?)
            }
            Kind::Histogram => Self::Histogram(Message::decode(body).map(Box::new).ok()?),
            Kind::ExponentialHistogram => {
                Self::Exponential(Message::decode(body).map(Box::new).ok()?)
            }
            Kind::Summary => Self::Summary(SummaryDataPoint::decode(body).ok()?),
        })
    }
}

/// What a histogram of either type says without its buckets.
#[derive(Clone, PartialEq, Message)]
struct Count {
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(uint32, tag = "10")]
    flags: u32,
}

/// The points of a metric, taken out of it.
fn take_points(metric: &mut Metric) -> Vec<Point> {
    fn take<T>(points: &mut Vec<T>, point: impl Fn(T) -> Point) -> Vec<Point> {
        std::mem::take(points).into_iter().map(point).collect()
    }
    match &mut metric.data {
        None => Vec::new(),
        Some(Data::Gauge(data)) => take(&mut data.data_points, Point::Number),
        Some(Data::Sum(data)) => take(&mut data.data_points, Point::Number),
        Some(Data::Histogram(data)) => take(&mut data.data_points, |point| {
            Point::Histogram(Box::new(point))
        }),
        Some(Data::ExponentialHistogram(data)) => take(&mut data.data_points, |point| {
            Point::Exponential(Box::new(point))
        }),
        Some(Data::Summary(data)) => take(&mut data.data_points, Point::Summary),
    }
}

/// Puts a point into a metric of its type.
fn put_point(metric: &mut Metric, point: Point) {
    match (&mut metric.data, point) {
        (Some(Data::Gauge(data)), Point::Number(point)) => data.data_points.push(point),
        (Some(Data::Sum(data)), Point::Number(point)) => data.data_points.push(point),
        (Some(Data::Histogram(data)), Point::Histogram(point)) => data.data_points.push(*point),
        (Some(Data::ExponentialHistogram(data)), Point::Exponential(point)) => {
            data.data_points.push(*point)
        }
        (Some(Data::Summary(data)), Point::Summary(point)) => data.data_points.push(point),
        _ => {}
    }
}

/// A data point ready to be stored.
pub struct PointRow {
    pub origin: usize,
    service: Arc<str>,
    name: Arc<str>,
    kind: Kind,
    time_ns: i64,
    /// The metric without points, which its points share: a [`SeriesBody`] together with what follows.
    metric: Arc<[u8]>,
    series: Vec<u8>,
    body: Vec<u8>,
}

impl PointRow {
    /// The rows of a metric; `now_ns` stands in for a point without time.
    pub fn of_metric(
        origin: usize,
        service: &Arc<str>,
        mut metric: Metric,
        now_ns: i64,
    ) -> Vec<Self> {
        let points = take_points(&mut metric);
        let Some(kind) = metric.data.as_ref().map(Kind::of) else {
            return Vec::new();
        };
        // Every series has them.
        for text in [&mut metric.name, &mut metric.description, &mut metric.unit] {
            *text = column(std::mem::take(text));
        }
        if metric
            .metadata
            .iter()
            .map(Message::encoded_len)
            .sum::<usize>()
            > METADATA_BYTES
        {
            metric.metadata.clear();
        }
        let name: Arc<str> = metric.name.as_str().into();
        let shared: Arc<[u8]> = SeriesBody {
            metric: Some(metric),
            attributes: Vec::new(),
        }
        .encode_to_vec()
        .into();
        points
            .into_iter()
            .map(|mut point| {
                let mut attributes = std::mem::take(point.attributes());
                attributes.sort_by(|a, b| a.key.cmp(&b.key));
                if point.time() == 0 {
                    of_any!(&mut point, point => point.time_unix_nano = now_ns as u64);
                }
                let series = SeriesBody {
                    metric: None,
                    attributes,
                };
                Self {
                    origin,
                    service: service.clone(),
                    name: name.clone(),
                    kind,
                    time_ns: point.time(),
                    metric: shared.clone(),
                    series: series.encode_to_vec(),
                    body: of_any!(&point, point => point.encode_to_vec()),
                }
            })
            .collect()
    }

    fn size(&self) -> i64 {
        (self.body.len() + OVERHEAD_BYTES) as i64
    }
}

/// What all points of a series have in common.
#[derive(Clone, PartialEq, Message)]
struct SeriesBody {
    #[prost(message, optional, tag = "1")]
    metric: Option<Metric>,
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<KeyValue>,
}

pub async fn insert(
    connection: &mut SqliteConnection,
    known: &mut HashMap<Vec<u8>, i64>,
    rows: &[PointRow],
    origins: &[i64],
) -> sqlx::Result<Amount> {
    let mut with_series = Vec::with_capacity(rows.len());
    let mut of_series = 0;
    for row in rows {
        let (id, bytes) = series_id(connection, known, row, origins[row.origin]).await?;
        with_series.push((row, id));
        of_series += bytes;
    }
    let before: i64 = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM points")
        .fetch_one(&mut *connection)
        .await?;
    for chunk in pieces(&with_series) {
        // A retried export stores nothing twice.
        let begin = "INSERT OR IGNORE INTO points (series, time_ns, size, body)";
        let mut query = insertion(begin, chunk.len(), "");
        for (row, series) in chunk {
            query = query
                .bind(series)
                .bind(row.time_ns)
                .bind(row.size())
                .bind(&row.body);
        }
        query.execute(&mut *connection).await?;
    }
    let (new, bytes): (i64, i64) =
        sqlx::query_as("SELECT count(*), coalesce(sum(size), 0) FROM points WHERE id > ?")
            .bind(before)
            .fetch_one(connection)
            .await?;
    Ok(Amount {
        rows: new as u64,
        bytes: bytes as u64 + of_series,
    })
}

/// What a series counts against the bound besides its points: its key, which is also indexed, holds the metric once more.
pub const SERIES_BYTES: &str = "3 * length(key)";

/// The series' id, and the bytes it takes if it is new.
async fn series_id(
    connection: &mut SqliteConnection,
    known: &mut HashMap<Vec<u8>, i64>,
    row: &PointRow,
    origin: i64,
) -> sqlx::Result<(i64, u64)> {
    let key = [&origin.to_be_bytes(), &*row.metric, row.series.as_slice()].concat();
    if let Some(id) = known.get(&key) {
        return Ok((*id, 0));
    }
    let new: Option<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        "INSERT OR IGNORE INTO series (key, origin, service, name, kind, metric) VALUES (?, ?, ?, ?, ?, ?)
         RETURNING id, {SERIES_BYTES}",
    )))
    .bind(&key)
    .bind(origin)
    .bind(row.service.clone())
    .bind(row.name.clone())
    .bind(row.kind as i64)
    .bind(&key[size_of_val(&origin)..])
    .fetch_optional(&mut *connection)
    .await?;
    let (id, bytes) = match new {
        Some(new) => new,
        None => (
            sqlx::query_scalar("SELECT id FROM series WHERE key = ?")
                .bind(&key)
                .fetch_one(connection)
                .await?,
            0,
        ),
    };
    if key.len() <= REMEMBERED_BYTES {
        known.insert(key, id);
    }
    Ok((id, bytes as u64))
}

/// Lets the oldest points go, and the series that have none left.
pub async fn evict(
    connection: &mut SqliteConnection,
    known: &mut HashMap<Vec<u8>, i64>,
    rows: u64,
) -> sqlx::Result<Amount> {
    const OLDEST: &str = "(SELECT * FROM points ORDER BY id LIMIT ?)";
    let series: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT DISTINCT series FROM {OLDEST}"
    )))
    .bind(rows as i64)
    .fetch_all(&mut *connection)
    .await?;
    let mut gone = evict_oldest(connection, "points", rows).await?;
    let deleted: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "DELETE FROM series WHERE id IN (SELECT value FROM json_each(?)) AND NOT EXISTS (SELECT 1 FROM points WHERE series = series.id)
         RETURNING {SERIES_BYTES}",
    )))
    .bind(json_list(&series))
    .fetch_all(connection)
    .await?;
    if !deleted.is_empty() {
        known.clear();
    }
    gone.bytes += deleted.iter().sum::<i64>() as u64;
    Ok(gone)
}

/// A metric as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub name: String,
    pub kind: Kind,
    pub unit: String,
    pub description: String,
    pub services: Vec<String>,
    pub series: usize,
}

/// A series without its points.
#[derive(Clone, Debug)]
pub struct Series {
    pub id: i64,
    pub origin: i64,
    pub service: String,
    pub kind: Kind,
    pub metric: Metric,
    pub attributes: Vec<KeyValue>,
}

/// Id, origin, service, kind and [`SeriesBody`].
type SeriesRow = (i64, i64, String, i64, Vec<u8>);

fn one_series((id, origin, service, kind, body): SeriesRow) -> Option<Series> {
    let body = SeriesBody::decode(body.as_slice()).ok()?;
    Some(Series {
        id,
        origin,
        service,
        kind: Kind::from_column(kind),
        metric: body.metric.unwrap_or_default(),
        attributes: body.attributes,
    })
}

/// Every metric there is, by name.
pub async fn list(pool: &SqlitePool, service: &str) -> sqlx::Result<Vec<Listed>> {
    // SQLite takes the bare `metric` from the row that has the max: the newest description counts.
    let rows: Vec<(String, i64, String, i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT name, kind, service, count(*), max(id), metric FROM series WHERE ?1 = '' OR service = ?1
         GROUP BY name, kind, service ORDER BY name, kind, service LIMIT ?2",
    )
    .bind(service)
    .bind(MOST_METRICS)
    .fetch_all(pool)
    .await?;
    let mut listed: Vec<Listed> = Vec::new();
    for (name, kind, service, series, _, metric) in rows {
        let kind = Kind::from_column(kind);
        let metric = SeriesBody::decode(metric.as_slice())
            .ok()
            .and_then(|body| body.metric)
            .unwrap_or_default();
        match listed.last_mut() {
            Some(last) if last.name == name && last.kind == kind => {
                last.services.push(service);
                last.series += series as usize;
            }
            _ => listed.push(Listed {
                name,
                kind,
                unit: metric.unit,
                description: metric.description,
                services: vec![service],
                series: series as usize,
            }),
        }
    }
    Ok(listed)
}

/// The series of a metric; empty texts do not filter.
pub async fn series(pool: &SqlitePool, name: &str, service: &str) -> Result<Vec<Series>, Problem> {
    let rows = sqlx::query_as(
        "SELECT id, origin, service, kind, metric FROM series WHERE (?1 = '' OR name = ?1) AND (?2 = '' OR service = ?2) ORDER BY name, id LIMIT 5000",
    )
    .bind(name)
    .bind(service)
    .fetch(pool);
    let (rows, _) = first_of(rows, |row: &SeriesRow| row.4.len()).await?;
    aside(move || rows.into_iter().filter_map(one_series).collect()).await
}

/// Series by their ids.
pub async fn by_id(pool: &SqlitePool, ids: &[i64]) -> Result<Vec<Series>, Problem> {
    let rows = sqlx::query_as("SELECT id, origin, service, kind, metric FROM series WHERE id IN (SELECT value FROM json_each(?)) ORDER BY name, id")
        .bind(json_list(ids))
        .fetch_all(pool)
        .await?;
    aside(move || rows.into_iter().filter_map(one_series).collect()).await
}

/// Rows that are decoded at a time are so many bytes together.
const PIECE_BYTES: usize = 1024 * 1024;

/// Series with their points in a time, oldest first, as `decode` reads them, and whether some were left out because they do not fit into one answer.
/// They are decoded while the next are read, so that they are never held as rows and as points together.
pub async fn with_points_in(
    pool: &SqlitePool,
    series: Vec<Series>,
    (from_ns, to_ns): (i64, i64),
    decode: fn(Kind, &[u8]) -> Option<Point>,
) -> Result<(WithPoints, bool), Problem> {
    let ids: Vec<i64> = series.iter().map(|series| series.id).collect();
    let rows = sqlx::query_as(
        "SELECT series, body FROM points WHERE series IN (SELECT value FROM json_each(?)) AND time_ns BETWEEN ? AND ? ORDER BY series, time_ns",
    )
    .bind(json_list(&ids))
    .bind(from_ns)
    .bind(to_ns)
    .fetch(pool);
    let mut rows = std::pin::pin!(rows);
    let mut found: WithPoints = series.into_iter().map(|one| (one, Vec::new())).collect();
    found.sort_by_key(|(series, _)| series.id);
    let (mut piece, mut bytes, mut sum) = (Vec::new(), 0, 0);
    loop {
        let row: Option<(i64, Vec<u8>)> = rows.next().await.transpose()?;
        let size = row.as_ref().map_or(0, |(_, body)| body.len());
        let cut = sum > 0 && sum + size > ANSWER_BYTES;
        if cut || row.is_none() || bytes + size > PIECE_BYTES {
            let rows = std::mem::take(&mut piece);
            found = aside(move || with_decoded(found, rows, decode)).await?;
            bytes = 0;
        }
        match row {
            Some(row) if !cut => piece.push(row),
            _ => {
                found.retain(|(_, points)| !points.is_empty());
                return Ok((found, cut));
            }
        }
        (bytes, sum) = (bytes + size, sum + size);
    }
}

type WithPoints = Vec<(Series, Vec<Point>)>;

/// The series, which stand in the order of their ids, with the points of these rows behind those that they have.
fn with_decoded(
    mut found: WithPoints,
    rows: Vec<(i64, Vec<u8>)>,
    decode: fn(Kind, &[u8]) -> Option<Point>,
) -> WithPoints {
    for rows in rows.chunk_by(|one, other| one.0 == other.0) {
        if let Ok(at) = found.binary_search_by_key(&rows[0].0, |(series, _)| series.id) {
            let (series, points) = &mut found[at];
            points.reserve_exact(rows.len());
            points.extend(
                rows.iter()
                    .filter_map(|(_, body)| decode(series.kind, body)),
            );
        }
    }
    found
}

/// The newest point of each of these series, without its attributes.
pub async fn latest<'a>(
    pool: &SqlitePool,
    series: &'a [Series],
) -> sqlx::Result<Vec<(&'a Series, Point)>> {
    let ids: Vec<i64> = series.iter().map(|series| series.id).collect();
    let bodies: Vec<Option<Vec<u8>>> = sqlx::query_scalar(
        "SELECT (SELECT body FROM points WHERE series = wanted.value ORDER BY time_ns DESC LIMIT 1) FROM json_each(?) wanted ORDER BY wanted.key",
    )
    .bind(json_list(&ids))
    .fetch_all(pool)
    .await?;
    let found = series.iter().zip(bodies);
    Ok(found
        .filter_map(|(series, body)| Some((series, Point::decode(series.kind, &body?)?)))
        .collect())
}

/// Each series with its newest points, newest first, as they are stored; no more than one answer holds.
pub async fn newest(
    pool: &SqlitePool,
    series: Vec<Series>,
    limit: u32,
) -> sqlx::Result<Vec<(Series, Vec<Vec<u8>>)>> {
    let (mut found, mut sum) = (Vec::new(), 0);
    for series in series {
        let rows = sqlx::query_scalar(
            "SELECT body FROM points WHERE series = ? ORDER BY time_ns DESC LIMIT ?",
        )
        .bind(series.id)
        .bind(limit)
        .fetch(pool);
        let (mut bodies, _) = first_of(rows, |body: &Vec<u8>| body.len()).await?;
        // Every point is given with the attributes of its series.
        let attributes: usize = series.attributes.iter().map(Message::encoded_len).sum();
        let fit = bodies.iter().take_while(|body| {
            sum += body.len() + attributes;
            sum <= ANSWER_BYTES
        });
        let fit = fit.count();
        if fit < bodies.len() {
            bodies.truncate(fit);
            found.push((series, bodies));
            break;
        }
        found.push((series, bodies));
    }
    Ok(found)
}

/// The series as a metric with these points, which it gives oldest first.
pub fn with_points(series: &Series, newest_first: &[Vec<u8>]) -> Metric {
    let mut metric = series.metric.clone();
    for mut point in newest_first
        .iter()
        .rev()
        .filter_map(|body| Point::decode(series.kind, body))
    {
        *point.attributes() = series.attributes.clone();
        put_point(&mut metric, point);
    }
    metric
}

/// Puts one metric's points into another of the same name and type.
pub fn merge(into: &mut Metric, mut from: Metric) {
    for point in take_points(&mut from) {
        put_point(into, point);
    }
}

/// Whether two metrics differ in nothing but their points.
pub fn same(one: &Metric, other: &Metric) -> bool {
    let kinds = (
        one.data.as_ref().map(Kind::of),
        other.data.as_ref().map(Kind::of),
    );
    kinds.0 == kinds.1
        && is_delta(one) == is_delta(other)
        && (&one.name, &one.unit, &one.description, &one.metadata)
            == (
                &other.name,
                &other.unit,
                &other.description,
                &other.metadata,
            )
}
