//! What became of each request, gathered as the answers come in.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use reqwest::header::HeaderMap;

/// Longest latency that is told apart from longer ones; three significant digits up to there.
const MAX_LATENCY: Duration = Duration::from_secs(600);

/// One request that was sent.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Index of its endpoint in the mix.
    pub endpoint: usize,
    /// When it was sent.
    pub sent_at: SystemTime,
    /// From the moment it *should* have been sent to its last byte: waiting for a free sender is latency too.
    pub latency: Duration,
    /// From the moment it was sent to its last byte: what its trace shows.
    pub took: Duration,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    /// `ids` is absent if the service said none.
    Answer { status: u16, ids: Option<Ids> },
    /// No answer, and why.
    Failure(String),
}

impl Sample {
    /// 5xx or no answer. A 4xx is an answer as it should be.
    pub fn is_error(&self) -> bool {
        match &self.outcome {
            Outcome::Answer { status, .. } => *status >= 500,
            Outcome::Failure(_) => true,
        }
    }

    pub fn ids(&self) -> Option<&Ids> {
        match &self.outcome {
            Outcome::Answer { ids, .. } => ids.as_ref(),
            Outcome::Failure(_) => None,
        }
    }
}

/// The service's names for the request, from its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    pub trace_id: String,
    pub span_id: String,
    pub request_id: String,
    /// Of the CPU samples of this very request, if it has any.
    pub profile_id: Option<String>,
}

impl Ids {
    /// `traceresponse: 00-<trace id>-<span id>-<flags>` (W3C Trace Context level 2), `x-request-id` and `x-profile-id`.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut parts = text("traceresponse")?.split('-').skip(1);
        let (trace_id, span_id) = (parts.next()?, parts.next()?);
        (trace_id.len() == 32 && span_id.len() == 16).then(|| Self {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            request_id: text("x-request-id").unwrap_or_default().to_owned(),
            profile_id: text("x-profile-id").map(str::to_owned),
        })
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Line {
    pub sent: u64,
    pub errors: u64,
    /// Microseconds.
    latencies: Histogram<u64>,
}

impl Line {
    fn new() -> Result<Self, String> {
        let latencies = Histogram::new_with_bounds(1, MAX_LATENCY.as_micros() as u64, 3)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            sent: 0,
            errors: 0,
            latencies,
        })
    }

    fn add(&mut self, latency: Duration, error: bool) {
        self.sent += 1;
        self.errors += u64::from(error);
        self.latencies
            .saturating_record((latency.as_micros() as u64).max(1));
    }

    /// `fraction` of all requests took this long or less; none without requests.
    pub fn quantile(&self, fraction: f64) -> Option<Duration> {
        (self.sent > 0).then(|| Duration::from_micros(self.latencies.value_at_quantile(fraction)))
    }

    pub fn max(&self) -> Option<Duration> {
        (self.sent > 0).then(|| Duration::from_micros(self.latencies.max()))
    }
}

/// Everything that was seen; of fixed size, however many requests there were.
#[derive(Debug)]
pub struct Record {
    /// By endpoint of the mix.
    pub lines: Vec<Line>,
    pub all: Line,
    pub statuses: BTreeMap<u16, u64>,
    pub failures: BTreeMap<String, u64>,
    /// The one that took longest by itself, not the one that waited longest to be sent. Only one whose trace is known.
    pub slowest: Option<Sample>,
    /// The slowest by endpoint, of those with a flame graph of their own if there are any: what waited for a processor may have none.
    pub slowest_of: Vec<Option<Sample>>,
    /// The first that was answered with 5xx: its signals have had the time to arrive.
    pub failing: Option<Sample>,
}

/// Kinds of failure told apart; the kernel's and the client's words for them are few.
const MAX_FAILURES: usize = 16;

impl Record {
    pub fn new(endpoints: usize) -> Result<Self, String> {
        Ok(Self {
            lines: (0..endpoints)
                .map(|_| Line::new())
                .collect::<Result<_, _>>()?,
            all: Line::new()?,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            slowest: None,
            slowest_of: vec![None; endpoints],
            failing: None,
        })
    }

    pub fn add(&mut self, sample: Sample) {
        let error = sample.is_error();
        self.all.add(sample.latency, error);
        if let Some(line) = self.lines.get_mut(sample.endpoint) {
            line.add(sample.latency, error);
        }
        match &sample.outcome {
            Outcome::Answer { status, .. } => *self.statuses.entry(*status).or_default() += 1,
            Outcome::Failure(why) => {
                let why = if self.failures.len() < MAX_FAILURES || self.failures.contains_key(why) {
                    why
                } else {
                    "other"
                };
                *self.failures.entry(why.to_owned()).or_default() += 1;
            }
        }
        if sample.ids().is_none() {
            return;
        }
        if error && self.failing.is_none() {
            self.failing = Some(sample.clone());
        }
        if let Some(slowest) = self.slowest_of.get_mut(sample.endpoint) {
            let profiled =
                |sample: &Sample| sample.ids().is_some_and(|ids| ids.profile_id.is_some());
            keep(slowest, &sample, |sample| (profiled(sample), sample.took));
        }
        keep(&mut self.slowest, &sample, |sample| sample.took);
    }
}

/// Puts `sample` in the place of the one that is kept if it is the greater.
fn keep<T: Ord>(kept: &mut Option<Sample>, sample: &Sample, rank: impl Fn(&Sample) -> T) {
    if kept.as_ref().is_none_or(|kept| rank(kept) < rank(sample)) {
        *kept = Some(sample.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(endpoint: usize, millis: u64, status: u16) -> Sample {
        let took = Duration::from_millis(millis);
        let ids = Ids {
            trace_id: format!("{millis:032x}"),
            span_id: format!("{millis:016x}"),
            request_id: String::new(),
            profile_id: None,
        };
        let ids = Some(ids);
        Sample {
            endpoint,
            sent_at: SystemTime::UNIX_EPOCH,
            latency: took,
            took,
            outcome: Outcome::Answer { status, ids },
        }
    }

    fn profiled(mut sample: Sample) -> Sample {
        if let Outcome::Answer { ids: Some(ids), .. } = &mut sample.outcome {
            ids.profile_id = Some(ids.span_id.clone());
        }
        sample
    }

    #[test]
    fn quantiles_errors_and_remarkable_requests_are_kept() {
        let mut record = Record::new(2).unwrap();
        for millis in 1..=100 {
            record.add(sample(0, millis, 200));
        }
        record.add(sample(1, 300, 503));
        record.add(profiled(sample(1, 20, 500)));

        assert_eq!((record.lines[0].sent, record.lines[0].errors), (100, 0));
        assert_eq!((record.lines[1].sent, record.lines[1].errors), (2, 2));
        assert_eq!((record.all.sent, record.all.errors), (102, 2));
        // Three significant digits: the histogram's own step at 50 ms is 32 µs.
        assert_eq!(record.lines[0].quantile(0.5).unwrap().as_millis(), 50);
        assert_eq!(record.lines[0].quantile(0.99).unwrap().as_millis(), 99);
        assert_eq!(record.lines[0].max().unwrap().as_millis(), 100);
        assert_eq!(
            record.statuses,
            BTreeMap::from([(200, 100), (500, 1), (503, 1)])
        );
        assert_eq!(record.slowest.unwrap().took, Duration::from_millis(300));
        assert_eq!(
            record.slowest_of[0].as_ref().unwrap().took,
            Duration::from_millis(100)
        );
        assert_eq!(
            record.slowest_of[1].as_ref().unwrap().took,
            Duration::from_millis(20) // the slower one has no flame graph
        );
        assert_eq!(record.failing.unwrap().took, Duration::from_millis(300)); // the first, not the slowest
    }

    #[test]
    fn a_line_without_requests_has_no_latency() {
        let record = Record::new(1).unwrap();
        assert_eq!(
            (record.lines[0].quantile(0.5), record.lines[0].max()),
            (None, None)
        );
    }

    #[test]
    fn requests_without_answer_are_errors_and_counted_by_cause_within_a_bound() {
        let mut record = Record::new(1).unwrap();
        for n in 0..40 {
            let why = format!("cause {n}");
            let outcome = Outcome::Failure(why);
            record.add(Sample {
                outcome,
                ..sample(0, 5, 200)
            });
        }
        assert_eq!(record.all.errors, 40);
        assert_eq!(record.failures.len(), MAX_FAILURES + 1);
        assert_eq!(record.failures["other"], 24);
        assert!(record.slowest.is_none());
    }

    #[test]
    fn ids_come_from_the_answers_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(Ids::from_headers(&headers), None);
        headers.insert(
            "traceresponse",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                .parse()
                .unwrap(),
        );
        headers.insert("x-request-id", "r-1".parse().unwrap());
        headers.insert("x-profile-id", "00f067aa0ba902b7".parse().unwrap());
        let ids = Ids::from_headers(&headers).unwrap();
        assert_eq!(ids.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            (ids.span_id.as_str(), ids.request_id.as_str()),
            ("b7ad6b7169203331", "r-1")
        );
        assert_eq!(ids.profile_id.as_deref(), Some("00f067aa0ba902b7"));
        headers.insert(
            "traceresponse",
            "00-short-b7ad6b7169203331-01".parse().unwrap(),
        );
        assert_eq!(Ids::from_headers(&headers), None);
    }
}
