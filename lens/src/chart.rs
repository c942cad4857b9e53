//! From data points to lines: what happened in each step of a time range, per group of series.
//!
//! A point says what happened between its start and its time (delta) or since the series began (cumulative). Both become increments over an
//! interval, and an increment is shared out over the steps it covers, so that the lines add up to exactly what was counted.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, NumberDataPoint, exemplar};
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
    /// The last minutes up to now, in about 90 steps of whole seconds. The step that is still going on is left out.
    pub fn last(minutes: u32, now_ns: i64) -> Self {
        let step_s = (i64::from(minutes) * 60 / 90).max(5);
        let step_ns = step_s * 1_000_000_000;
        let steps = (i64::from(minutes) * 60 / step_s) as usize;
        let to_ns = now_ns / step_ns * step_ns;
        Self {
            from_ns: to_ns - step_ns * steps as i64,
            step_ns,
            steps,
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
    fn of(point: &Point) -> Self {
        match point {
            Point::Number(point) => Self::Number(number(point)),
            Point::Histogram(point) => Self::Distribution(point.into()),
            Point::Exponential(point) => Self::Distribution(point.into()),
            Point::Summary(point) => Self::Number(point.count as f64),
        }
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

    fn quantile(&self, q: f64) -> Option<f64> {
        match self {
            Self::Number(_) => None,
            Self::Distribution(distribution) => distribution.quantile(q),
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

/// Turns the points of a series, oldest first, into increments.
fn increments(points: &[Point], delta: bool) -> Vec<Increment> {
    let mut increments = Vec::with_capacity(points.len());
    let mut last: Option<(i64, i64, Amount)> = None;
    for point in points {
        let (start_ns, time_ns) = times(point);
        let amount = Amount::of(point);
        if delta {
            increments.push(Increment {
                from_ns: start_ns,
                to_ns: time_ns,
                amount,
            });
            continue;
        }
        let continued = last
            .as_ref()
            .filter(|(start, ..)| *start == start_ns || start_ns == 0);
        let increment =
            match continued.and_then(|(_, time, earlier)| Some((*time, amount.since(earlier)?))) {
                Some((from_ns, amount)) => Some(Increment {
                    from_ns,
                    to_ns: time_ns,
                    amount,
                }),
                // A series that begins, or begins anew. Without a start nobody knows since when it counts.
                None if start_ns > 0 => {
                    let from_ns = last
                        .as_ref()
                        .map_or(start_ns, |(_, time, _)| start_ns.max(*time));
                    Some(Increment {
                        from_ns,
                        to_ns: time_ns,
                        amount: amount.clone(),
                    })
                }
                None => last.as_ref().map(|(_, time, _)| Increment {
                    from_ns: *time,
                    to_ns: time_ns,
                    amount: amount.clone(),
                }),
            };
        increments.extend(increment);
        last = Some((start_ns, time_ns, amount));
    }
    increments
}

/// Series with their points, put into the groups that get a line each.
pub struct Grouped {
    kind: Kind,
    unit: String,
    groups: BTreeMap<String, Vec<(bool, Vec<Point>)>>,
}

impl Grouped {
    /// Groups by the values of `by`, an attribute of the points, or by service if it is empty.
    pub fn new(kind: Kind, unit: String, series: Vec<(Series, Vec<Point>)>, by: &str) -> Self {
        let mut groups: BTreeMap<String, Vec<(bool, Vec<Point>)>> = BTreeMap::new();
        for (series, points) in series {
            let group = if by.is_empty() {
                series.service.clone()
            } else {
                find(&series.attributes, by).unwrap_or_else(|| "–".to_owned())
            };
            groups
                .entry(group)
                .or_default()
                .push((is_delta(&series.metric), points));
        }
        Self { kind, unit, groups }
    }

    /// The charts that suit the kind.
    pub fn charts(&self, range: Range) -> Vec<Chart> {
        match self.kind {
            Kind::Gauge | Kind::UpDownCounter => vec![self.values(range)],
            Kind::Counter | Kind::Summary => vec![self.rate(range)],
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
        let lines = self.groups.iter().map(|(label, series)| {
            let mut sums = vec![(0.0, 0_u32); range.steps];
            for (_, points) in series {
                let mut points = points.iter().peekable();
                let mut last: Option<(i64, f64)> = None;
                for ((sum, count), end) in sums.iter_mut().zip(range.ends()) {
                    while let Some(point) = points.next_if(|point| times(point).1 <= end) {
                        last = Some((times(point).1, Amount::of(point).count()));
                    }
                    if let Some((_, value)) = last.filter(|(time, _)| end - time <= STALE_NS) {
                        *sum += value;
                        *count += 1;
                    }
                }
            }
            let value = |(sum, count): (f64, u32)| match self.kind {
                Kind::Gauge => sum / f64::from(count),
                _ => sum,
            };
            Line {
                label: label.clone(),
                values: sums
                    .into_iter()
                    .map(|sum| (sum.1 > 0).then(|| value(sum)))
                    .collect(),
            }
        });
        let title = if self.kind == Kind::Gauge {
            "Value"
        } else {
            "Sum"
        };
        self.chart("value", title, self.unit.clone(), range, lines.collect())
    }

    /// How many a second.
    fn rate(&self, range: Range) -> Chart {
        let step_s = range.step_ns as f64 / NS;
        let lines = self.groups.iter().map(|(label, series)| Line {
            label: label.clone(),
            values: summed([series], range)
                .into_iter()
                .map(|sum| sum.map(|sum| sum.count() / step_s))
                .collect(),
        });
        self.chart("rate", "Rate", "/s".to_owned(), range, lines.collect())
    }

    /// p50, p95 and p99 of all groups together, with exemplars.
    fn quantiles(&self, range: Range) -> Chart {
        let sums = summed(self.groups.values(), range);
        let lines = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].map(|(label, q)| Line {
            label: label.to_owned(),
            values: sums
                .iter()
                .map(|sum| sum.as_ref().and_then(|sum| sum.quantile(q)))
                .collect(),
        });
        let mut chart = self.chart(
            "quantiles",
            "p50 · p95 · p99",
            self.unit.clone(),
            range,
            lines.to_vec(),
        );
        chart.exemplars = self.exemplars(range);
        chart
    }

    fn p95(&self, range: Range) -> Chart {
        let lines = self.groups.iter().map(|(label, series)| Line {
            label: label.clone(),
            values: summed([series], range)
                .into_iter()
                .map(|sum| sum.and_then(|sum| sum.quantile(0.95)))
                .collect(),
        });
        self.chart(
            "p95",
            "p95 of each",
            self.unit.clone(),
            range,
            lines.collect(),
        )
    }

    /// Keeps the lines with the most in them.
    fn chart(
        &self,
        id: &'static str,
        title: &str,
        unit: String,
        range: Range,
        mut lines: Vec<Line>,
    ) -> Chart {
        let weight = |line: &Line| {
            line.values
                .iter()
                .flatten()
                .map(|value| value.abs())
                .filter(|value| value.is_finite())
                .sum::<f64>()
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
            unit,
            times,
            lines,
            exemplars: Vec::new(),
            more,
        }
    }

    /// The exemplars since the range began, each once; unlike the lines they need not wait for the end of a step, but none is of a later one.
    fn exemplars(&self, range: Range) -> Vec<Dot> {
        let of_point = |point: &Point| -> Vec<Exemplar> {
            match point {
                Point::Histogram(point) => point.exemplars.clone(),
                Point::Exponential(point) => point.exemplars.clone(),
                Point::Number(point) => point.exemplars.clone(),
                Point::Summary(_) => Vec::new(),
            }
        };
        let mut dots: BTreeMap<(i64, String), Dot> = BTreeMap::new();
        for exemplar in self
            .groups
            .values()
            .flatten()
            .flat_map(|(_, points)| points)
            .flat_map(of_point)
        {
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

/// What happened in each step, all series together; `None` where no series says anything.
fn summed<'a>(
    groups: impl IntoIterator<Item = &'a Vec<(bool, Vec<Point>)>>,
    range: Range,
) -> Vec<Option<Amount>> {
    let mut sums: Vec<Option<Amount>> = vec![None; range.steps];
    for (delta, points) in groups.into_iter().flatten() {
        for increment in increments(points, *delta) {
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

/// The value of a point of a gauge or a sum.
pub fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
}

/// Start and time in nanoseconds.
fn times(point: &Point) -> (i64, i64) {
    let start = match point {
        Point::Number(point) => point.start_time_unix_nano,
        Point::Histogram(point) => point.start_time_unix_nano,
        Point::Exponential(point) => point.start_time_unix_nano,
        Point::Summary(point) => point.start_time_unix_nano,
    };
    (time_ns(start), point.time())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn points(list: &[(i64, i64, f64)]) -> Vec<Point> {
        list.iter()
            .map(|(start_s, time_s, value)| {
                Point::Number(NumberDataPoint {
                    start_time_unix_nano: (start_s * S) as u64,
                    time_unix_nano: (time_s * S) as u64,
                    value: Some(number_data_point::Value::AsDouble(*value)),
                    ..NumberDataPoint::default()
                })
            })
            .collect()
    }

    fn grouped(kind: Kind, delta: bool, list: &[(i64, i64, f64)]) -> Grouped {
        Grouped {
            kind,
            unit: "s".to_owned(),
            groups: BTreeMap::from([("a".to_owned(), vec![(delta, points(list))])]),
        }
    }

    /// Six steps of 10 s from second 100.
    const RANGE: Range = Range {
        from_ns: 100 * S,
        step_ns: 10 * S,
        steps: 6,
    };

    fn line(chart: &Chart) -> &[Option<f64>] {
        &chart.lines[0].values
    }

    #[test]
    fn a_range_begins_where_its_data_begins() {
        let range = Range {
            from_ns: 0,
            step_ns: 10,
            steps: 60,
        };
        assert_eq!(
            (
                range.beginning_at(205).from_ns,
                range.beginning_at(205).steps
            ),
            (200, 40)
        );
        assert_eq!(
            (range.beginning_at(-5).from_ns, range.beginning_at(-5).steps),
            (0, 60)
        );
        assert_eq!(
            (
                range.beginning_at(9999).from_ns,
                range.beginning_at(9999).steps
            ),
            (500, 10)
        );
    }

    #[test]
    fn a_cumulative_counter_gives_what_was_added_and_survives_a_reset() {
        // 20 in 10 s, then 10 in 20 s, then a restart that counted 5 in 10 s.
        let rate = grouped(
            Kind::Counter,
            false,
            &[(100, 110, 20.0), (100, 130, 30.0), (140, 150, 5.0)],
        )
        .rate(RANGE);
        assert_eq!(
            line(&rate),
            [Some(2.0), Some(0.5), Some(0.5), None, Some(0.5), None]
        );
        assert_eq!(rate.times, [110, 120, 130, 140, 150, 160]);
    }

    #[test]
    fn a_reset_is_seen_by_its_falling_value_where_no_start_is_told() {
        let rate = grouped(
            Kind::Counter,
            false,
            &[(0, 100, 7.0), (0, 110, 17.0), (0, 120, 4.0)],
        )
        .rate(RANGE);
        assert_eq!(line(&rate)[..3], [Some(1.0), Some(0.4), None]);
    }

    #[test]
    fn a_delta_counter_gives_its_points() {
        let rate = grouped(Kind::Counter, true, &[(100, 110, 20.0), (110, 120, 30.0)]).rate(RANGE);
        assert_eq!(line(&rate)[..3], [Some(2.0), Some(3.0), None]);
    }

    #[test]
    fn an_increment_over_several_steps_is_shared_out_and_nothing_is_lost() {
        let rate = grouped(Kind::Counter, true, &[(95, 125, 30.0), (125, 160, 70.0)]).rate(RANGE);
        assert_eq!(
            line(&rate),
            [
                Some(1.0),
                Some(1.0),
                Some(1.5),
                Some(2.0),
                Some(2.0),
                Some(2.0)
            ]
        );
        let counted: f64 = line(&rate).iter().flatten().map(|rate| rate * 10.0).sum();
        assert!(
            (counted - 95.0).abs() < 1e-9,
            "all but the 5 that came before the range: {counted}"
        );
    }

    #[test]
    fn a_gauge_keeps_its_value_until_it_is_stale() {
        let value = grouped(Kind::Gauge, false, &[(0, 105, 4.0), (0, 112, 8.0)]).values(RANGE);
        assert_eq!(
            line(&value),
            [
                Some(4.0),
                Some(8.0),
                Some(8.0),
                Some(8.0),
                Some(8.0),
                Some(8.0)
            ]
        );
        let late = Range {
            from_ns: 170 * S,
            ..RANGE
        };
        assert_eq!(
            line(&grouped(Kind::Gauge, false, &[(0, 112, 8.0)]).values(late))[..4],
            [Some(8.0), Some(8.0), Some(8.0), None]
        );
    }

    #[test]
    fn quantiles_are_of_the_step_and_not_of_all_time() {
        let histogram = |time_s: i64, counts: [u64; 3]| {
            Point::Histogram(
                opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint {
                    start_time_unix_nano: (100 * S) as u64,
                    time_unix_nano: (time_s * S) as u64,
                    count: counts.iter().sum(),
                    bucket_counts: counts.to_vec(),
                    explicit_bounds: vec![0.1, 0.5],
                    ..Default::default()
                },
            )
        };
        let series = vec![(
            false,
            vec![histogram(110, [10, 0, 0]), histogram(120, [10, 4, 0])],
        )];
        let quantiles = Grouped {
            kind: Kind::Histogram,
            unit: "s".to_owned(),
            groups: BTreeMap::from([("a".to_owned(), series)]),
        }
        .quantiles(RANGE);
        let rounded = |line: &Line| -> Vec<Option<i64>> {
            line.values
                .iter()
                .map(|value| value.map(|value| (value * 1000.0).round() as i64))
                .collect()
        };
        assert_eq!(
            rounded(&quantiles.lines[0])[..3],
            [Some(50), Some(300), None]
        );
        assert_eq!(
            rounded(&quantiles.lines[1])[..3],
            [Some(95), Some(480), None]
        );
        assert_eq!(
            rounded(&quantiles.lines[2])[..3],
            [Some(99), Some(496), None]
        );
    }
}
