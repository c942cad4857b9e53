//! Distributions as histograms give them, and their quantiles, interpolated as Prometheus does.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, HistogramDataPoint};

use crate::format;

/// How many observations fell where. Counts are fractions once an interval was split.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Buckets between given bounds; one more than bounds, the last without an upper one.
    Explicit {
        bounds: Vec<f64>,
        counts: Vec<f64>,
    },
    Exponential(Exponential),
}

/// Bucket `i` reaches from `b^i` (exclusive) to `b^(i+1)` where `b = 2^(2^-scale)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    scale: i32,
    zero_threshold: f64,
    zero: f64,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
}

/// More buckets than this are not told apart; instrumentation has some hundred at most.
const MOST_BUCKETS: usize = 10_000;
/// Buckets outside this range of scales would be finer or coarser than any number needs.
const SCALES: std::ops::RangeInclusive<i32> = -20..=20;

impl From<&HistogramDataPoint> for Distribution {
    fn from(point: &HistogramDataPoint) -> Self {
        let mut counts: Vec<f64> = point
            .bucket_counts
            .iter()
            .map(|count| *count as f64)
            .collect();
        let mut bounds = point.explicit_bounds.clone();
        // NaN is in no order either.
        let ascending = bounds.windows(2).all(|pair| pair[0] < pair[1])
            && !bounds.iter().any(|bound| bound.is_nan());
        if counts.len() != bounds.len() + 1 || !ascending || bounds.len() > MOST_BUCKETS {
            // A histogram without buckets, or whose buckets cannot be told, knows its count only.
            counts = vec![point.count as f64];
            bounds.truncate(0);
        }
        // The last bucket reaches to infinity and the first begins there, whether their bounds are named or not.
        let finite = bounds.iter().copied().filter(|bound| bound.is_finite());
        let finite: Vec<f64> = finite.collect();
        if finite.len() < bounds.len() {
            counts = regrouped(&bounds, &counts, &finite);
            bounds = finite;
        }
        Self::Explicit { bounds, counts }
    }
}

impl From<&ExponentialHistogramDataPoint> for Distribution {
    fn from(point: &ExponentialHistogramDataPoint) -> Self {
        let buckets = |buckets: &Option<Buckets>| -> BTreeMap<i32, f64> {
            let Some(buckets) = buckets else {
                return BTreeMap::new();
            };
            let indexes = (0..).map(|place: i32| buckets.offset.saturating_add(place));
            indexes
                .zip(&buckets.bucket_counts)
                .take(MOST_BUCKETS)
                .filter(|(_, count)| **count > 0)
                .map(|(index, count)| (index, *count as f64))
                .collect()
        };
        Self::Exponential(Exponential {
            scale: point.scale.clamp(*SCALES.start(), *SCALES.end()),
            zero_threshold: point.zero_threshold,
            zero: point.zero_count as f64,
            positive: buckets(&point.positive),
            negative: buckets(&point.negative),
        })
    }
}

impl Distribution {
    fn counts(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            Self::Explicit { counts, .. } => Box::new(counts.iter().copied()),
            Self::Exponential(of) => {
                let outside = of.negative.values().chain(of.positive.values());
                Box::new(outside.chain([&of.zero]).copied())
            }
        }
    }

    /// Number of observations.
    pub fn count(&self) -> f64 {
        self.counts().sum()
    }

    /// Adds `factor` times the other. Where buckets differ, the sum has the bounds both have, which loses precision and no observation; an
    /// explicit and an exponential one do not add up, the first stays.
    pub fn add(&mut self, other: &Self, factor: f64) {
        match (self, other) {
            (
                Self::Explicit { bounds, counts },
                Self::Explicit {
                    bounds: other_bounds,
                    counts: other_counts,
                },
            ) => {
                let add = |counts: &mut [f64], others: &[f64]| {
                    let both = counts.iter_mut().zip(others);
                    both.for_each(|(count, other)| *count += other * factor);
                };
                if bounds == other_bounds {
                    return add(counts, other_counts);
                }
                let common = bounds.iter().copied().filter(|bound| {
                    let place = other_bounds.partition_point(|other| other < bound);
                    other_bounds.get(place) == Some(bound)
                });
                let common: Vec<f64> = common.collect();
                *counts = regrouped(bounds, counts, &common);
                add(counts, &regrouped(other_bounds, other_counts, &common));
                *bounds = common;
            }
            (Self::Exponential(sum), Self::Exponential(other)) => sum.add(other, factor),
            _ => {}
        }
    }

    /// What was observed since `earlier`, `None` if some bucket went down: then it began anew in between.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut difference = self.clone();
        difference.add(earlier, -1.0);
        let none_went_down = difference.counts().all(|count| count >= 0.0);
        none_went_down.then_some(difference)
    }

    /// The value below which the share `q` of the observations lies, `None` without observations or where it is beyond any number.
    ///
    /// Explicit buckets are interpolated linearly, the first from 0; above the last bound it is that bound. Exponential ones are interpolated
    /// exponentially. Both as `histogram_quantile` does.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let value = match self {
            Self::Explicit { .. } => {
                let (Bucket { lower, upper }, share) = self.place(q)?;
                match upper.is_infinite() {
                    true => lower,
                    false => lower + (upper - lower) * share,
                }
            }
            Self::Exponential(of) => of.quantile(q, self.count())?,
        };
        value.is_finite().then_some(value)
    }

    /// The bucket of a quantile of explicit buckets; those of an exponential histogram are fine enough to be left unsaid.
    pub fn bucket(&self, q: f64) -> Option<Bucket> {
        Some(self.place(q)?.0)
    }

    /// Of explicit buckets, the one that a quantile lies in, and the share of its observations that lie below.
    fn place(&self, q: f64) -> Option<(Bucket, f64)> {
        let Self::Explicit { bounds, counts } = self else {
            return None;
        };
        let rank = q * self.count();
        if self.count() <= 0.0 || bounds.is_empty() {
            return None;
        }
        let (mut below, mut share) = (0.0, 0.0);
        let place = counts.iter().position(|bucket| {
            share = (rank - below) / bucket;
            below += bucket;
            below >= rank && *bucket > 0.0
        });
        let place = place.unwrap_or(bounds.len());
        let upper = bounds.get(place).copied().unwrap_or(f64::INFINITY);
        let lower = match place.checked_sub(1) {
            Some(before) => bounds[before],
            None => upper.min(0.0),
        };
        Some((Bucket { lower, upper }, share))
    }
}

impl Exponential {
    /// Lower and upper bound and count of each bucket, from the lowest to the highest.
    fn buckets(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let bound = |index: f64| 2f64.powf(index * 2f64.powi(-self.scale));
        let bounds = move |index: &i32| (bound(f64::from(*index)), bound(f64::from(*index) + 1.0));
        let negative = self.negative.iter().rev().map(move |(index, count)| {
            let (near, far) = bounds(index);
            (-far, -near, *count)
        });
        let positive = self.positive.iter().map(move |(index, count)| {
            let (lower, upper) = bounds(index);
            (lower, upper, *count)
        });
        // Around zero there are values of a sign only if there are others of that sign.
        let reach = |side: &BTreeMap<i32, f64>| match side.is_empty() {
            true => 0.0,
            false => self.zero_threshold,
        };
        let zero = (-reach(&self.negative), reach(&self.positive), self.zero);
        negative.chain([zero]).chain(positive)
    }

    /// `count` is that of all observations.
    fn quantile(&self, q: f64, count: f64) -> Option<f64> {
        let (rank, mut below) = (q * count, 0.0);
        let filled = self.buckets().filter(|(.., count)| *count > 0.0);
        let mut last = None;
        for (lower, upper, bucket) in filled {
            let share = (rank - below) / bucket;
            below += bucket;
            if below >= rank {
                let around_zero = lower <= 0.0 && upper >= 0.0;
                return Some(match around_zero {
                    true => lower + (upper - lower) * share,
                    false => lower * (upper / lower).powf(share),
                });
            }
            last = Some(upper);
        }
        last
    }

    fn add(&mut self, other: &Self, factor: f64) {
        self.coarsen(other.scale);
        let shift = shift(other.scale - self.scale);
        self.zero += other.zero * factor;
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        for (into, from) in [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ] {
            for (index, count) in from {
                *into.entry(index >> shift).or_default() += count * factor;
            }
        }
    }

    /// Brings it to a coarser scale.
    fn coarsen(&mut self, to: i32) {
        if to >= self.scale {
            return;
        }
        let shift = shift(self.scale - to);
        for buckets in [&mut self.positive, &mut self.negative] {
            let mut coarse = BTreeMap::new();
            for (index, count) in std::mem::take(buckets) {
                *coarse.entry(index >> shift).or_default() += count;
            }
            *buckets = coarse;
        }
        self.scale = to;
    }
}

/// The bucket that a quantile lies in: all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    /// Infinite above the last bound.
    pub upper: f64,
}

impl Bucket {
    /// `250 ms–500 ms`, `above 10 s`
    pub fn text(self, unit: &str) -> String {
        let shown = |bound: f64| match bound {
            0.0 => "0".to_owned(),
            bound => format::value(bound, unit),
        };
        if self.upper.is_infinite() {
            return format!("above {}", shown(self.lower));
        }
        format!("{}–{}", shown(self.lower), shown(self.upper))
    }
}

/// By how much an index is shifted between scales that far apart; beyond the width of an index nothing is left but its sign.
fn shift(scales: i32) -> i32 {
    scales.min(i32::BITS as i32 - 1)
}

/// Counts between fewer bounds.
fn regrouped(bounds: &[f64], counts: &[f64], fewer: &[f64]) -> Vec<f64> {
    let mut grouped = vec![0.0; fewer.len() + 1];
    for (place, count) in counts.iter().enumerate() {
        let upper = bounds.get(place).copied().unwrap_or(f64::INFINITY);
        let group = fewer.partition_point(|bound| *bound < upper);
        grouped[group] += count;
    }
    grouped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn explicit(bounds: &[f64], counts: &[f64]) -> Distribution {
        Distribution::Explicit {
            bounds: bounds.to_vec(),
            counts: counts.to_vec(),
        }
    }

    fn exponential(
        scale: i32,
        zero: f64,
        positive: impl IntoIterator<Item = (i32, f64)>,
        negative: impl IntoIterator<Item = (i32, f64)>,
    ) -> Distribution {
        Distribution::Exponential(Exponential {
            scale,
            zero_threshold: 0.0,
            zero,
            positive: positive.into_iter().collect(),
            negative: negative.into_iter().collect(),
        })
    }

    fn near(got: Option<f64>, expected: f64) {
        let got = got.expect("a quantile");
        assert!((got - expected).abs() < 1e-9, "{got} is not {expected}");
    }

    /// Counts as counters have them, so that sums and differences of them are exact.
    fn count() -> impl Strategy<Value = f64> {
        (0_u32..1000).prop_map(f64::from)
    }

    fn any_explicit() -> impl Strategy<Value = Distribution> {
        let bounds = prop::collection::btree_set(-1_000_000_i32..1_000_000, 1..12);
        bounds.prop_flat_map(|bounds| {
            let bounds: Vec<f64> = bounds
                .into_iter()
                .map(|bound| f64::from(bound) / 8.0)
                .collect();
            let counts = prop::collection::vec(count(), bounds.len() + 1);
            counts.prop_map(move |counts| explicit(&bounds, &counts))
        })
    }

    fn any_exponential() -> impl Strategy<Value = Distribution> {
        let buckets = || prop::collection::btree_map(-200..200, count(), 0..12);
        (-4..9, count(), buckets(), buckets()).prop_map(|(scale, zero, positive, negative)| {
            exponential(scale, zero, positive, negative)
        })
    }

    proptest! {
        #[test]
        fn a_quantile_lies_within_its_bucket(of in any_explicit(), q in 0.0..=1.0) {
            let Some(bucket) = of.bucket(q) else {
                prop_assert_eq!(of.quantile(q), None);
                return Ok(());
            };
            let value = of.quantile(q).expect("there are observations");
            // Above the last bound it is that bound, and rounding may exceed a bound by its last digit.
            let near = 1e-9 * value.abs().max(1.0);
            prop_assert!(bucket.lower - near <= value && value <= bucket.upper + near, "{} {:?}", value, bucket);
        }

        #[test]
        fn a_quantile_of_an_exponential_histogram_lies_between_its_outermost_buckets(
            of in any_exponential(),
            q in 0.0..=1.0,
        ) {
            let Distribution::Exponential(Exponential { scale, zero, positive, negative, .. }) = &of else {
                unreachable!("it is exponential");
            };
            let reach = |buckets: &BTreeMap<i32, f64>| {
                let last = buckets.iter().rev().find(|(_, count)| **count > 0.0);
                last.map_or(0.0, |(index, _)| 2f64.powf(f64::from(index + 1) * 2f64.powi(-scale)))
            };
            let counted = zero + positive.values().chain(negative.values()).sum::<f64>();
            prop_assert_eq!(of.count(), counted);
            if let Some(value) = of.quantile(q) {
                let (from, to) = (-reach(negative), reach(positive));
                let near = 1e-9 * value.abs().max(1.0);
                prop_assert!(from - near <= value && value <= to + near, "{} {} {}", from, value, to);
            }
        }

        #[test]
        fn quantiles_rise(of in prop_oneof![any_explicit(), any_exponential()], p in 0.0..=1.0, q in 0.0..=1.0) {
            if let (Some(low), Some(high)) = (of.quantile(f64::min(p, q)), of.quantile(f64::max(p, q))) {
                prop_assert!(low <= high + 1e-9 * high.abs().max(1.0), "{} {}", low, high);
            }
        }

        #[test]
        fn a_delta_is_the_difference_of_cumulatives(
            earlier in prop_oneof![any_explicit(), any_exponential()],
            factor in 1_u8..9,
        ) {
            let mut later = earlier.clone();
            later.add(&earlier, f64::from(factor));
            let mut delta = earlier.clone();
            delta.add(&earlier, f64::from(factor - 1));
            prop_assert_eq!(later.since(&earlier), Some(delta));
            // The other way round it began anew, unless nothing was counted at all.
            prop_assert_eq!(earlier.since(&later).is_none(), earlier.count() > 0.0);
        }
    }

    #[test]
    fn explicit_buckets_are_interpolated_linearly() {
        // 10 up to 0.1, 30 up to 0.5, 10 up to 1, 0 beyond.
        let one = explicit(&[0.1, 0.5, 1.0], &[10.0, 30.0, 10.0, 0.0]);
        near(one.quantile(0.1), 0.05); // rank 5 of the first 10, between 0 and 0.1
        near(one.quantile(0.5), 0.3); // rank 25: the 15th of 30, half of 0.1 to 0.5
        near(one.quantile(0.95), 0.875); // rank 47.5: 7.5 of 10 between 0.5 and 1
        near(one.quantile(1.0), 1.0);
        // Beyond the last bound it is the last bound.
        near(explicit(&[0.1, 0.5], &[1.0, 1.0, 8.0]).quantile(0.9), 0.5);
        near(explicit(&[-2.0, 1.0], &[4.0, 0.0, 0.0]).quantile(0.5), -2.0);
        assert_eq!(explicit(&[0.1], &[0.0, 0.0]).quantile(0.5), None);
    }

    #[test]
    fn exponential_buckets_are_interpolated_exponentially() {
        // Scale 0: bucket 0 is (1, 2], bucket 1 is (2, 4].
        let one = exponential(0, 0.0, [(0, 4.0), (1, 4.0)], []);
        near(one.quantile(0.25), 2f64.sqrt()); // rank 2: half of the first, 2^0.5
        near(one.quantile(0.75), 2.0 * 2f64.sqrt());
        near(one.quantile(1.0), 4.0);
        // Scale 1: base √2, bucket 2 is (2, 2.83].
        let one = exponential(1, 0.0, [(2, 10.0)], []);
        near(one.quantile(0.5), 2f64.powf(1.25));
        near(exponential(0, 6.0, [(0, 4.0)], []).quantile(0.5), 0.0);
        // Two of four lie in [-2, -1): the first quarter ends in its middle.
        let one = exponential(0, 0.0, [(0, 2.0)], [(0, 2.0)]);
        near(one.quantile(0.25), -(2f64.sqrt()));
    }

    #[test]
    fn different_scales_add_up_at_the_coarser_one() {
        let mut fine = exponential(1, 1.0, [(0, 1.0), (1, 2.0), (2, 3.0), (-1, 5.0)], []);
        fine.add(&exponential(0, 1.0, [(0, 10.0)], []), 1.0);
        let sum = exponential(0, 2.0, [(-1, 5.0), (0, 13.0), (1, 3.0)], []);
        assert_eq!(fine, sum);
        let mut coarse = exponential(0, 0.0, [(0, 10.0)], []);
        coarse.add(&exponential(1, 0.0, [(1, 2.0)], []), 0.5);
        assert_eq!(coarse, exponential(0, 0.0, [(0, 11.0)], []));
    }

    #[test]
    fn scales_and_indexes_may_be_as_far_apart_as_they_can() {
        let mut fine = exponential(20, 0.0, [(i32::MIN, 1.0), (-1, 1.0), (i32::MAX, 2.0)], []);
        fine.add(&exponential(-20, 0.0, [(0, 4.0)], []), 1.0);
        assert_eq!(fine, exponential(-20, 0.0, [(-1, 2.0), (0, 6.0)], []));
        let far = exponential(0, 0.0, [(i32::MAX, 1.0)], []);
        assert_eq!((far.count(), far.quantile(1.0)), (1.0, None));
        let wide = HistogramDataPoint {
            count: 7,
            bucket_counts: vec![1; 20_001],
            explicit_bounds: (0..20_000).map(f64::from).collect(),
            ..HistogramDataPoint::default()
        };
        assert_eq!(Distribution::from(&wide), explicit(&[], &[7.0]));
    }

    #[test]
    fn buckets_that_make_no_sense_are_no_buckets() {
        let read = |bounds: &[f64], counts: &[u64]| {
            Distribution::from(&HistogramDataPoint {
                count: 6,
                bucket_counts: counts.to_vec(),
                explicit_bounds: bounds.to_vec(),
                ..HistogramDataPoint::default()
            })
        };
        let unknown = explicit(&[], &[6.0]);
        assert_eq!(read(&[5.0, 1.0], &[1, 2, 3]), unknown);
        assert_eq!(read(&[1.0, 1.0], &[1, 2, 3]), unknown);
        assert_eq!(read(&[f64::NAN], &[3, 3]), unknown);
        assert_eq!(read(&[1.0, 2.0], &[3, 3]), unknown);
        assert_eq!(read(&[1.0], &[]), unknown);
        assert_eq!((unknown.quantile(0.5), unknown.bucket(0.5)), (None, None));
        // Infinity may be named as a bound.
        let above = read(&[1.0, f64::INFINITY], &[1, 5, 0]);
        assert_eq!(above, explicit(&[1.0], &[1.0, 5.0]));
        let below = read(&[f64::NEG_INFINITY, 1.0], &[0, 4, 2]);
        assert_eq!(below, explicit(&[1.0], &[4.0, 2.0]));
    }

    #[test]
    fn different_bounds_add_up_at_those_both_have() {
        let mut sum = explicit(&[0.1, 0.5, 1.0], &[1.0, 2.0, 3.0, 4.0]);
        sum.add(&explicit(&[0.5, 2.0], &[10.0, 20.0, 30.0]), 1.0);
        assert_eq!(sum, explicit(&[0.5], &[13.0, 57.0]));
    }

    #[test]
    fn a_bucket_that_went_down_is_a_reset() {
        let earlier = explicit(&[1.0], &[5.0, 5.0]);
        let later = explicit(&[1.0], &[6.0, 9.0]);
        let added = explicit(&[1.0], &[1.0, 4.0]);
        assert_eq!(later.since(&earlier), Some(added));
        assert_eq!(explicit(&[1.0], &[4.0, 9.0]).since(&earlier), None);
    }
}
