//! From data points to lines: what happened in each step of a time range, per group of series.
//!
//! A point says what happened between its start and its time (delta) or since the series began (cumulative). Both become increments over an
//! interval, and an increment is shared out over the steps it covers, so that the lines add up to exactly what was counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{
    DataPointFlags, Exemplar, NumberDataPoint, exemplar,
};
use serde::Serialize;

use crate::attributes::{find, hex, hex_id, valid_id};
use crate::quantile::Distribution;
use crate::store::metrics::{Kind, Point, Series, is_delta};
use crate::store::time_ns;

const NS: f64 = 1e9;
/// Groups drawn; more than the eye can tell apart helps nobody.
const MOST_GROUPS: usize = 10;
/// Exemplars drawn in each step.
const EXEMPLARS_A_STEP: usize = 3;
/// How long a gauge counts as what it last was, like Prometheus' lookback but shorter.
const STALE_NS: i64 = 90_000_000_000;

/// A time range in equal steps, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub from_ns: i64,
    pub step_ns: i64,
    pub steps: usize,
}

impl Range {
    /// From one time to another, in about 90 steps of whole seconds. A step that is still going on is left out.
    pub fn between(from_ns: i64, to_ns: i64) -> Self {
        const SECOND: i64 = 1_000_000_000;
        let length_s = (to_ns.saturating_sub(from_ns) / SECOND).max(5);
        let step_s = (length_s / 90).max(5);
        let step_ns = step_s.saturating_mul(SECOND);
        let steps = (length_s / step_s).clamp(1, 200);
        let to_ns = to_ns / step_ns * step_ns;
        Self {
            from_ns: to_ns.saturating_sub(step_ns.saturating_mul(steps)),
            step_ns,
            steps: steps as usize,
        }
    }

    /// The range without the empty steps before `first_ns`, but never shorter than a sixth of it: a demo that has just begun fills its charts.
    pub fn beginning_at(self, first_ns: i64) -> Self {
        let empty = ((first_ns - self.from_ns) / self.step_ns)
            .clamp(0, (self.steps - self.steps / 6) as i64);
        Self {
            from_ns: self.from_ns + empty * self.step_ns,
            steps: self.steps - empty as usize,
            ..self
        }
    }

    fn ends(&self) -> impl Iterator<Item = i64> {
        (1..=self.steps as i64).map(|step| self.from_ns + step * self.step_ns)
    }

    /// The steps an interval covers, each with its share of it.
    fn shares(&self, from_ns: i64, to_ns: i64) -> impl Iterator<Item = (usize, f64)> {
        // What is told without a beginning happened at its end.
        let from_ns = from_ns.min(to_ns.saturating_sub(1));
        let length = (to_ns - from_ns) as f64;
        let first = ((from_ns - self.from_ns) / self.step_ns).clamp(0, self.steps as i64) as usize;
        (first..self.steps).map_while(move |step| {
            let begin = self.from_ns + step as i64 * self.step_ns;
            if begin >= to_ns {
                return None;
            }
            let shared = to_ns.min(begin + self.step_ns) - from_ns.max(begin);
            Some((step, shared.max(0) as f64 / length))
        })
    }
}

/// One chart, as the page's script reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chart {
    pub id: &'static str,
    pub title: String,
    pub unit: String,
    /// Ends of the steps, in seconds since 1970.
    pub times: Vec<i64>,
    pub lines: Vec<Line>,
    pub exemplars: Vec<Dot>,
    /// Groups that were left out.
    pub more: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub label: String,
    /// One a step; `null` where nothing is known.
    pub values: Vec<Option<f64>>,
    /// Of a quantile, the bucket that each value lies in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<Option<String>>,
}

/// An exemplar: an observation and the trace it was made in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dot {
    /// Seconds since 1970.
    pub time: f64,
    pub value: f64,
    pub trace_id: String,
    pub span_id: String,
}

/// What a series counts.
#[derive(Clone, Debug, PartialEq)]
enum Amount {
    Number(f64),
    Distribution(Distribution),
}

impl Amount {
    /// `None` if the point says that there is no value, or has none.
    fn of(point: &Point) -> Option<Self> {
        if !point.is_recorded() {
            return None;
        }
        Some(match point {
            // With infinity no difference and no sum can be told.
            Point::Number(point) => Self::Number(number(point).filter(|value| value.is_finite())?),
            Point::Histogram(point) => Self::Distribution((&**point).into()),
            Point::Exponential(point) => Self::Distribution((&**point).into()),
            Point::Summary(point) => Self::Number(point.count as f64),
        })
    }

    fn add(&mut self, other: &Self, factor: f64) {
        match (self, other) {
            (Self::Number(sum), Self::Number(other)) => *sum += other * factor,
            (Self::Distribution(sum), Self::Distribution(other)) => sum.add(other, factor),
            _ => {}
        }
    }

    /// What was added since `earlier`, `None` if it went down.
    fn since(&self, earlier: &Self) -> Option<Self> {
        match (self, earlier) {
            (Self::Number(now), Self::Number(earlier)) => {
                (now >= earlier).then_some(Self::Number(now - earlier))
            }
            (Self::Distribution(now), Self::Distribution(earlier)) => {
                now.since(earlier).map(Self::Distribution)
            }
            _ => None,
        }
    }

    fn count(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Distribution(distribution) => distribution.count(),
        }
    }

    fn distribution(&self) -> Option<&Distribution> {
        match self {
            Self::Number(_) => None,
            Self::Distribution(distribution) => Some(distribution),
        }
    }
}

/// What happened in an interval.
#[derive(Clone, Debug, PartialEq)]
struct Increment {
    from_ns: i64,
    to_ns: i64,
    amount: Amount,
}

/// A cumulative series that was read for the first time this long after its start may have counted long before anybody looked.
const UNSEEN_NS: i64 = 120_000_000_000;

/// One writer's last word on a series.
struct Last {
    time_ns: i64,
    amount: Option<Amount>,
}

/// Turns the points of a series, oldest first, into increments. Points of different starts are different writers: a process that was restarted, or
/// two that say they are one. `seen` has the times at which writers of the same origin and start sent any of their series.
fn increments(points: &[Point], delta: bool, seen: &Seen, origin: i64) -> Vec<Increment> {
    let mut increments = Vec::with_capacity(points.len());
    let mut writers: HashMap<i64, Last> = HashMap::new();
    for point in points {
        let (start_ns, time_ns) = (point.start(), point.time());
        let amount = Amount::of(point);
        if delta {
            increments.extend(amount.map(|amount| Increment {
                from_ns: start_ns,
                to_ns: time_ns,
                amount,
            }));
            continue;
        }
        let begin = match (writers.get(&start_ns), &amount) {
            (_, None) => None,
            // What was counted while nothing was recorded is not of this interval.
            (Some(Last { amount: None, .. }), _) => None,
            (Some(last), Some(amount)) => {
                let earlier = last.amount.as_ref();
                let since = earlier.and_then(|earlier| amount.since(earlier));
                // It went down without a new start: it began anew somewhere in between.
                Some((last.time_ns, since.unwrap_or_else(|| amount.clone())))
            }
            (None, Some(_)) if start_ns == 0 => None,
            (None, Some(amount)) => {
                let before = seen.before(origin, start_ns, time_ns);
                let from_ns = before.or((time_ns - start_ns <= UNSEEN_NS).then_some(start_ns));
                from_ns.map(|from_ns| (from_ns, amount.clone()))
            }
        };
        increments.extend(begin.map(|(from_ns, amount)| Increment {
            from_ns,
            to_ns: time_ns,
            amount,
        }));
        writers.insert(start_ns, Last { time_ns, amount });
    }
    increments
}

/// When writers sent something, by origin and start: a series that appears later than its writer's others began between two of these times.
#[derive(Clone, Debug, Default)]
struct Seen(HashMap<(i64, i64), BTreeSet<i64>>);

impl Seen {
    fn before(&self, origin: i64, start_ns: i64, time_ns: i64) -> Option<i64> {
        self.0
            .get(&(origin, start_ns))?
            .range(..time_ns)
            .next_back()
            .copied()
    }
}

/// A series in its group.
struct Member {
    origin: i64,
    delta: bool,
    points: Vec<Point>,
}

/// Series with their points, put into the groups that get a line each.
pub struct Grouped {
    kind: Kind,
    unit: String,
    groups: BTreeMap<String, Vec<Member>>,
    seen: Seen,
}

impl Grouped {
    /// Groups by the values of `by`, an attribute of the points, or by service if it is empty.
    pub fn new(kind: Kind, unit: String, series: Vec<(Series, Vec<Point>)>, by: &str) -> Self {
        let mut groups: BTreeMap<String, Vec<Member>> = BTreeMap::new();
        let mut seen = Seen::default();
        for (series, points) in series {
            let group = if by.is_empty() {
                series.service.clone()
            } else {
                find(&series.attributes, by).unwrap_or_else(|| "–".to_owned())
            };
            let delta = is_delta(&series.metric);
            for point in points.iter().filter(|_| !delta) {
                let (start_ns, time_ns) = (point.start(), point.time());
                seen.0
                    .entry((series.origin, start_ns))
                    .or_default()
                    .insert(time_ns);
            }
            groups.entry(group).or_default().push(Member {
                origin: series.origin,
                delta,
                points,
            });
        }
        Self {
            kind,
            unit,
            groups,
            seen,
        }
    }

    /// Of a metric of which only the counts matter, its points read by [`Point::decode_count`].
    pub fn counts(series: Vec<(Series, Vec<Point>)>) -> Self {
        Self::new(Kind::Counter, String::new(), series, "")
    }

    /// The charts that suit the kind.
    pub fn charts(&self, range: Range) -> Vec<Chart> {
        match self.kind {
            Kind::Gauge | Kind::UpDownCounter => vec![self.values(range)],
            Kind::Counter => vec![self.rate(range)],
            Kind::Summary => vec![self.sent_quantiles(range), self.rate(range)],
            Kind::Histogram | Kind::ExponentialHistogram => {
                let mut charts = vec![self.quantiles(range), self.rate(range)];
                if self.groups.len() > 1 {
                    charts.insert(1, self.p95(range));
                }
                charts
            }
        }
    }

    /// The last value of each series: of a gauge the mean of the group's, of a sum their sum.
    fn values(&self, range: Range) -> Chart {
        let lines = self.groups.iter().map(|(label, members)| {
            let mut sums = vec![(0.0, 0_u32); range.steps];
            for member in members {
                for (sum, value) in sums.iter_mut().zip(member.values(self.kind, range)) {
                    if let Some(value) = value {
                        *sum = (sum.0 + value, sum.1 + 1);
                    }
                }
            }
            let value = |(sum, count): (f64, u32)| match (count, self.kind) {
                (0, _) => None,
                (_, Kind::Gauge) => Some(sum / f64::from(count)),
                _ => Some(sum),
            };
            Line::new(label.clone(), sums.into_iter().map(value).collect())
        });
        let title = match self.kind {
            Kind::Gauge => "Value",
            _ => "Sum",
        };
        self.chart("value", title, &self.unit, range, lines.collect())
    }

    /// The quantiles of summaries as they were sent; they cannot be added up, so that of several series the highest counts.
    fn sent_quantiles(&self, range: Range) -> Chart {
        let mut lines: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        for point in self.points().filter(|point| point.is_recorded()) {
            let Point::Summary(summary) = point else {
                continue;
            };
            let step = (point.time() - 1 - range.from_ns).div_euclid(range.step_ns);
            if !(0..range.steps as i64).contains(&step) {
                continue;
            }
            let values = summary.quantile_values.iter();
            for quantile in values.filter(|quantile| quantile.value.is_finite()) {
                let line = lines
                    .entry(format!("p{}", quantile.quantile * 100.0))
                    .or_insert_with(|| vec![None; range.steps]);
                let highest = &mut line[step as usize];
                *highest = Some(highest.map_or(quantile.value, |value| value.max(quantile.value)));
            }
        }
        let lines = lines.into_iter();
        let lines = lines.map(|(label, values)| Line::new(label, values));
        let title = "Quantiles as sent";
        self.chart("quantiles", title, &self.unit, range, lines.collect())
    }

    /// The points of all series.
    fn points(&self) -> impl Iterator<Item = &Point> {
        let members = self.groups.values().flatten();
        members.flat_map(|member| &member.points)
    }

    /// What was counted in the whole of a time, by group.
    pub fn totals(&self, from_ns: i64, to_ns: i64) -> BTreeMap<String, f64> {
        let whole = Range {
            from_ns,
            step_ns: to_ns.saturating_sub(from_ns).max(1),
            steps: 1,
        };
        let total = |members| {
            self.summed([members], whole)
                .remove(0)
                .map_or(0.0, |sum| sum.count())
        };
        self.groups
            .iter()
            .map(|(label, members)| (label.clone(), total(members)))
            .collect()
    }

    /// How many a second.
    fn rate(&self, range: Range) -> Chart {
        let step_s = range.step_ns as f64 / NS;
        let lines = self.groups.iter().map(|(label, series)| {
            let sums = self.summed([series], range).into_iter();
            Line::new(
                label.clone(),
                sums.map(|sum| sum.map(|sum| sum.count() / step_s))
                    .collect(),
            )
        });
        // Distributions count observations; what a counter counts is in its unit.
        let unit = match self.kind {
            Kind::Counter if self.unit != "1" => self.unit.trim_matches(['{', '}']),
            _ => "",
        };
        let unit = format!("{unit}/s");
        self.chart("rate", "Rate", &unit, range, lines.collect())
    }

    /// p50, p95 and p99 of all groups together, with exemplars.
    fn quantiles(&self, range: Range) -> Chart {
        let sums = self.summed(self.groups.values(), range);
        let lines = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
            .map(|(label, q)| self.quantile(label.to_owned(), q, &sums));
        let title = "p50 · p95 · p99";
        let mut chart = self.chart("quantiles", title, &self.unit, range, lines.to_vec());
        chart.exemplars = self.exemplars(range);
        chart
    }

    fn p95(&self, range: Range) -> Chart {
        let lines = self.groups.iter().map(|(label, series)| {
            self.quantile(label.clone(), 0.95, &self.summed([series], range))
        });
        self.chart("p95", "p95 of each", &self.unit, range, lines.collect())
    }

    /// A quantile in each step, with the bucket that it lies in.
    fn quantile(&self, label: String, q: f64, sums: &[Option<Amount>]) -> Line {
        let found = |sum: &Option<Amount>| sum.as_ref()?.distribution()?.quantile(q);
        let bucket =
            |sum: &Option<Amount>| Some(sum.as_ref()?.distribution()?.bucket(q)?.text(&self.unit));
        Line {
            label,
            values: sums.iter().map(found).collect(),
            buckets: sums.iter().map(bucket).collect(),
        }
    }

    /// What happened in each step, all series together; `None` where no series says anything.
    fn summed<'a>(
        &self,
        groups: impl IntoIterator<Item = &'a Vec<Member>>,
        range: Range,
    ) -> Vec<Option<Amount>> {
        let mut sums: Vec<Option<Amount>> = vec![None; range.steps];
        for member in groups.into_iter().flatten() {
            for increment in increments(&member.points, member.delta, &self.seen, member.origin) {
                for (step, share) in range.shares(increment.from_ns, increment.to_ns) {
                    let sum = sums[step].get_or_insert_with(|| {
                        let mut nothing = increment.amount.clone();
                        nothing.add(&increment.amount, -1.0);
                        nothing
                    });
                    sum.add(&increment.amount, share);
                }
            }
        }
        sums
    }

    /// Keeps the lines with the most in them.
    fn chart(
        &self,
        id: &'static str,
        title: &str,
        unit: &str,
        range: Range,
        mut lines: Vec<Line>,
    ) -> Chart {
        let weight = |line: &Line| -> f64 {
            let values = line.values.iter().flatten().map(|value| value.abs());
            values.filter(|value| value.is_finite()).sum()
        };
        let more = lines.len().saturating_sub(MOST_GROUPS);
        if more > 0 {
            lines.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
            lines.truncate(MOST_GROUPS);
            lines.sort_by(|a, b| a.label.cmp(&b.label));
        }
        let times = range.ends().map(|end| end / 1_000_000_000).collect();
        Chart {
            id,
            title: title.to_owned(),
            unit: unit.to_owned(),
            times,
            lines,
            exemplars: Vec::new(),
            more,
        }
    }

    /// The exemplars since the range began, each once; unlike the lines they need not wait for the end of a step, but none is of a later one.
    fn exemplars(&self, range: Range) -> Vec<Dot> {
        fn of_point(point: &Point) -> &[Exemplar] {
            match point {
                Point::Histogram(point) => &point.exemplars,
                Point::Exponential(point) => &point.exemplars,
                Point::Number(point) => &point.exemplars,
                Point::Summary(_) => &[],
            }
        }
        let mut dots: BTreeMap<(i64, String), Dot> = BTreeMap::new();
        for exemplar in self.points().flat_map(of_point) {
            let time_ns = time_ns(exemplar.time_unix_nano);
            let step = (time_ns - range.from_ns).div_euclid(range.step_ns);
            if !valid_id(&exemplar.trace_id, 16) || !(0..=range.steps as i64).contains(&step) {
                continue;
            }
            let value = match exemplar.value {
                Some(exemplar::Value::AsDouble(value)) if value.is_finite() => value,
                Some(exemplar::Value::AsInt(value)) => value as f64,
                _ => continue,
            };
            let (trace_id, span_id) = (hex(&exemplar.trace_id), hex_id(&exemplar.span_id, 8));
            dots.insert(
                (time_ns, span_id.clone()),
                Dot {
                    time: time_ns as f64 / NS,
                    value,
                    trace_id,
                    span_id,
                },
            );
        }
        // The slowest of each step, so that they cover the range and keep what is worth opening.
        let mut by_step: BTreeMap<i64, Vec<Dot>> = BTreeMap::new();
        for ((time_ns, _), dot) in dots {
            by_step
                .entry((time_ns - range.from_ns) / range.step_ns)
                .or_default()
                .push(dot);
        }
        let mut kept = Vec::new();
        for mut dots in by_step.into_values() {
            dots.sort_by(|a, b| b.value.total_cmp(&a.value));
            kept.extend(dots.into_iter().take(EXEMPLARS_A_STEP));
        }
        kept
    }
}

impl Line {
    fn new(label: String, values: Vec<Option<f64>>) -> Self {
        Self {
            label,
            values,
            buckets: Vec::new(),
        }
    }
}

impl Member {
    /// The value at the end of each step. A writer that ended counts up to its last point, the last one until it is stale; a point that says that
    /// there is no value ends the line at once.
    fn values(&self, kind: Kind, range: Range) -> Vec<Option<f64>> {
        let value = |point: &Point| match Amount::of(point) {
            Some(Amount::Number(value)) if value.is_finite() => Some(value),
            _ => None,
        };
        let mut sums: Vec<Option<f64>> = vec![None; range.steps];
        if self.delta {
            // Each point says what was added: the line is their sum, which holds until the next one.
            let (mut points, mut sum) = (self.points.iter().peekable(), None);
            for (place, end) in sums.iter_mut().zip(range.ends()) {
                while let Some(point) = points.next_if(|point| point.time() <= end) {
                    sum = value(point).map(|added| sum.unwrap_or(0.0) + added).or(sum);
                }
                *place = sum;
            }
            return sums;
        }
        let mut writers: BTreeMap<i64, Vec<&Point>> = BTreeMap::new();
        for point in &self.points {
            // A gauge has one value, whoever says it.
            let writer = if kind == Kind::Gauge {
                0
            } else {
                point.start()
            };
            writers.entry(writer).or_default().push(point);
        }
        let newest = self.points.last().map_or(0, |point| point.time());
        for points in writers.values() {
            let last_ns = points.last().map_or(0, |point| point.time());
            let until_ns = if last_ns == newest {
                last_ns.saturating_add(STALE_NS)
            } else {
                last_ns
            };
            let mut points = points.iter().peekable();
            let mut last: Option<(i64, f64)> = None;
            for (sum, end) in sums.iter_mut().zip(range.ends()) {
                while let Some(point) = points.next_if(|point| point.time() <= end) {
                    last = value(point).map(|value| (point.time(), value));
                }
                if let Some((_, value)) = last
                    .filter(|(time, _)| end - time <= STALE_NS && end - range.step_ns < until_ns)
                {
                    *sum = Some(sum.unwrap_or(0.0) + value);
                }
            }
        }
        sums
    }
}

/// The value of a point of a gauge or a sum, `None` if it has none.
pub fn number(point: &NumberDataPoint) -> Option<f64> {
    if point.flags & DataPointFlags::NoRecordedValueMask as u32 != 0 {
        return None;
    }
    match point.value? {
        number_data_point::Value::AsDouble(value) => (!value.is_nan()).then_some(value),
        number_data_point::Value::AsInt(value) => Some(value as f64),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
    use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, SummaryDataPoint};

    use super::*;

    const S: i64 = 1_000_000_000;

    fn points(list: &[(i64, i64, f64)]) -> Vec<Point> {
        let point = |(start_s, time_s, value): &(i64, i64, f64)| {
            Point::Number(NumberDataPoint {
                start_time_unix_nano: (start_s * S) as u64,
                time_unix_nano: (time_s * S) as u64,
                value: Some(number_data_point::Value::AsDouble(*value)),
                ..NumberDataPoint::default()
            })
        };
        list.iter().map(point).collect()
    }

    fn grouped(kind: Kind, delta: bool, list: &[(i64, i64, f64)]) -> Grouped {
        of(kind, vec![member(delta, points(list))])
    }

    fn member(delta: bool, points: Vec<Point>) -> Member {
        Member {
            origin: 0,
            delta,
            points,
        }
    }

    fn of(kind: Kind, members: Vec<Member>) -> Grouped {
        let mut seen = Seen::default();
        for point in members.iter().flat_map(|member| &member.points) {
            let (start_ns, time_ns) = (point.start(), point.time());
            seen.0.entry((0, start_ns)).or_default().insert(time_ns);
        }
        Grouped {
            kind,
            unit: "s".to_owned(),
            groups: BTreeMap::from([("a".to_owned(), members)]),
            seen,
        }
    }

    /// Six steps of 10 s from second 100.
    const RANGE: Range = Range {
        from_ns: 100 * S,
        step_ns: 10 * S,
        steps: 6,
    };

    /// The first values of a line, rounded to thousandths; `-` for none.
    fn first(steps: usize, line: &Line) -> String {
        let value = |value: &Option<f64>| match value {
            Some(value) => ((value * 1000.0).round() / 1000.0).to_string(),
            None => "-".to_owned(),
        };
        let values: Vec<String> = line.values[..steps].iter().map(value).collect();
        values.join(" ")
    }

    fn line(steps: usize, chart: &Chart) -> String {
        first(steps, &chart.lines[0])
    }

    #[test]
    fn a_range_begins_where_its_data_begins() {
        let range = Range {
            from_ns: 0,
            step_ns: 10,
            steps: 60,
        };
        for (first_ns, expected) in [(205, (200, 40)), (-5, (0, 60)), (9999, (500, 10))] {
            let begins = range.beginning_at(first_ns);
            assert_eq!((begins.from_ns, begins.steps), expected, "{first_ns}");
        }
    }

    #[test]
    fn numbers_become_lines() {
        let (cumulative, delta) = (false, true);
        let late = Range {
            from_ns: 170 * S,
            ..RANGE
        };
        for (kind, temporality, range, list, expected) in [
            // 20 in 10 s, then 10 in 20 s, then a restart that counted 5 in 10 s.
            (
                Kind::Counter,
                cumulative,
                RANGE,
                &[(100, 110, 20.0), (100, 130, 30.0), (140, 150, 5.0)][..],
                "2 0.5 0.5 - 0.5 -",
            ),
            // Where no start is told, a reset is seen by the falling value.
            (
                Kind::Counter,
                cumulative,
                RANGE,
                &[(0, 100, 7.0), (0, 110, 17.0), (0, 120, 4.0)],
                "1 0.4 - - - -",
            ),
            // An increment over several steps is shared out, all but the 5 that came before the range.
            (
                Kind::Counter,
                delta,
                RANGE,
                &[(95, 125, 30.0), (125, 160, 70.0)],
                "1 1 1.5 2 2 2",
            ),
            (
                Kind::Counter,
                delta,
                RANGE,
                &[(100, 110, 20.0), (110, 120, 30.0)],
                "2 3 - - - -",
            ),
            // Until it is stale.
            (
                Kind::Gauge,
                cumulative,
                RANGE,
                &[(0, 105, 4.0), (0, 112, 8.0)],
                "4 8 8 8 8 8",
            ),
            (
                Kind::Gauge,
                cumulative,
                late,
                &[(0, 112, 8.0)],
                "8 8 8 - - -",
            ),
            // Deltas of what goes up and down are summed up.
            (
                Kind::UpDownCounter,
                delta,
                RANGE,
                &[(100, 110, 5.0), (110, 120, -2.0), (120, 150, 4.0)],
                "5 3 3 3 7 7",
            ),
        ] {
            let chart = grouped(kind, temporality, list).charts(range).remove(0);
            assert_eq!(line(6, &chart), expected, "{list:?}");
            let ends = (1..=6).map(|step| range.from_ns / S + 10 * step);
            assert!(chart.times.iter().copied().eq(ends), "{:?}", chart.times);
        }
    }

    #[test]
    fn quantiles_are_of_the_step_and_not_of_all_time() {
        let histogram = |(time_s, counts): (i64, [u64; 3])| {
            Point::Histogram(Box::new(HistogramDataPoint {
                start_time_unix_nano: (100 * S) as u64,
                time_unix_nano: (time_s * S) as u64,
                count: counts.iter().sum(),
                bucket_counts: counts.to_vec(),
                explicit_bounds: vec![0.1, 0.5],
                ..HistogramDataPoint::default()
            }))
        };
        let counted = [(110, [10, 0, 0]), (120, [10, 4, 0]), (130, [10, 4, 2])];
        let series = member(false, counted.map(histogram).to_vec());
        let quantiles = of(Kind::Histogram, vec![series]).quantiles(RANGE);
        let lines: Vec<String> = quantiles.lines.iter().map(|line| first(3, line)).collect();
        let expected = ["0.05 0.3 0.5", "0.095 0.48 0.5", "0.099 0.496 0.5"];
        assert_eq!(lines, expected);
        let buckets =
            ["0–100 ms", "100 ms–500 ms", "above 500 ms"].map(|text| Some(text.to_owned()));
        assert_eq!(quantiles.lines[0].buckets[..3], buckets);
    }

    #[test]
    fn a_point_without_a_value_is_a_gap_and_no_zero() {
        let unrecorded = Point::Number(NumberDataPoint {
            start_time_unix_nano: (100 * S) as u64,
            time_unix_nano: (120 * S) as u64,
            flags: 1,
            ..NumberDataPoint::default()
        });
        let with = |kind, gap: Point| {
            let mut list = points(&[(100, 110, 20.0)]);
            list.push(gap);
            list.extend(points(&[(100, 130, 920.0), (100, 140, 930.0)]));
            of(kind, vec![member(false, list)])
        };
        for gap in [unrecorded, points(&[(100, 120, f64::NAN)]).remove(0)] {
            let rate = with(Kind::Counter, gap.clone()).rate(RANGE);
            assert_eq!(line(6, &rate), "2 - - 1 - -");
            let value = with(Kind::Gauge, gap).values(RANGE);
            assert_eq!(line(4, &value), "20 - 920 930");
        }
    }

    #[test]
    fn two_writers_of_one_name_are_not_resets() {
        // One began at 50 and one at 60; both add 10 in 10 s.
        let list = [
            (50, 105, 500.0),
            (60, 106, 700.0),
            (50, 115, 510.0),
            (60, 116, 710.0),
            (50, 125, 520.0),
            (60, 126, 720.0),
        ];
        let grouped = grouped(Kind::Counter, false, &list);
        let later = Range {
            from_ns: 110 * S,
            ..RANGE
        };
        assert_eq!(line(1, &grouped.rate(later)), "2");
        let sum = of(Kind::UpDownCounter, vec![member(false, points(&list))]).values(RANGE);
        assert_eq!(line(3, &sum), "1200 1220 1240");
        // A restart does not count twice.
        let restarted = member(false, points(&[(50, 105, 7.0), (111, 115, 3.0)]));
        let sum = of(Kind::UpDownCounter, vec![restarted]).values(RANGE);
        assert_eq!(line(2, &sum), "7 3");
    }

    #[test]
    fn what_was_counted_before_anybody_looked_is_not_drawn_and_a_new_series_of_a_known_writer_is() {
        const LATER: Range = Range {
            from_ns: 5100 * S,
            ..RANGE
        };
        let list = [(100, 5110, 9000.0), (100, 5120, 9010.0)];
        let old = grouped(Kind::Counter, false, &list);
        assert_eq!(line(2, &old.rate(LATER)), "- 1");
        let members = vec![
            member(false, points(&[(100, 5110, 9000.0), (100, 5120, 9000.0)])),
            member(false, points(&[(100, 5120, 10.0)])),
        ];
        assert_eq!(line(2, &of(Kind::Counter, members).rate(LATER)), "- 1");
    }

    #[test]
    fn a_summary_shows_the_quantiles_that_were_sent() {
        let summary = |median| {
            let quantiles = [(0.5, median), (0.99, f64::NAN)];
            let quantiles = quantiles.map(|(quantile, value)| ValueAtQuantile { quantile, value });
            let point = SummaryDataPoint {
                time_unix_nano: (110 * S) as u64,
                quantile_values: quantiles.to_vec(),
                ..SummaryDataPoint::default()
            };
            member(false, vec![Point::Summary(point)])
        };
        let charts = of(Kind::Summary, vec![summary(0.2), summary(0.3)]).charts(RANGE);
        let labels = charts[0].lines.iter().map(|line| line.label.as_str());
        assert!(labels.eq(["p50"]));
        assert_eq!(line(2, &charts[0]), "0.3 -");
    }

    #[test]
    fn a_rate_has_the_unit_of_what_is_counted() {
        let rate = |unit: &str| {
            let mut grouped = grouped(Kind::Counter, false, &[(100, 110, 20.0)]);
            grouped.unit = unit.to_owned();
            grouped.rate(RANGE).unit
        };
        let units = ["By", "{request}", "1", ""].map(rate);
        assert_eq!(units, ["By/s", "request/s", "/s", "/s"]);
    }
}
