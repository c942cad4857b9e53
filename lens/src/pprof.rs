//! Google's pprof format and Pyroscope's push message, as far as lens reads and writes them, and the merging of profiles.
//!
//! Definitions: <https://github.com/google/pprof/blob/main/proto/profile.proto> and
//! <https://github.com/grafana/pyroscope/blob/main/api/push/v1/push.proto>.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use prost::Message;

/// Body of `/push.v1.PusherService/Push`.
#[derive(Clone, PartialEq, Message)]
pub struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<RawProfileSeries>,
}

/// Profiles with the labels they share.
#[derive(Clone, PartialEq, Message)]
pub struct RawProfileSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<RawSample>,
}

/// One pprof file, gzipped or not.
#[derive(Clone, PartialEq, Message)]
pub struct RawSample {
    #[prost(bytes = "vec", tag = "1")]
    pub raw_profile: Vec<u8>,
    #[prost(string, tag = "2")]
    pub id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A pprof profile. Indexes of type `i64` point into `string_table`, whose first entry is empty.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub period: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack, leaf first, with one value per sample type.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    #[prost(int64, tag = "1")]
    pub key: i64,
    #[prost(int64, tag = "2")]
    pub str: i64,
    #[prost(int64, tag = "3")]
    pub num: i64,
}

/// An address; several lines when functions were inlined there, innermost first.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "3")]
    pub address: u64,
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    #[prost(int64, tag = "2")]
    pub line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(int64, tag = "2")]
    pub name: i64,
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

/// Why bytes are no profile.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("not a pprof profile: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("not a gzipped pprof profile: {0}")]
    Gzip(#[from] std::io::Error),
    #[error("a pprof profile without a sample type")]
    Untyped,
    #[error("a pprof profile of more than {0} bytes")]
    TooLarge(usize),
}

impl Profile {
    /// Reads a pprof file, gzipped or not, of at most so many bytes.
    ///
    /// # Errors
    /// Says why the bytes are no profile, or that they are too many.
    pub fn read(bytes: &[u8], max_bytes: usize) -> Result<Self, Unreadable> {
        let profile = if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes)
                .take(max_bytes as u64 + 1)
                .read_to_end(&mut plain)?;
            if plain.len() > max_bytes {
                return Err(Unreadable::TooLarge(max_bytes));
            }
            Self::decode(plain.as_slice())?
        } else {
            Self::decode(bytes)?
        };
        if profile.sample_type.is_empty() {
            Err(Unreadable::Untyped)
        } else {
            Ok(profile)
        }
    }

    /// A text of the string table; empty where the index is wrong.
    pub fn text(&self, index: i64) -> &str {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.string_table.get(index))
            .map_or("", String::as_str)
    }

    /// Which of the sample types lens shows, and what it calls it: `heap` for memory in use, `cpu` for CPU time, else the type's own name.
    pub fn kind(&self) -> (usize, String) {
        let name = |position: usize| self.text(self.sample_type[position].r#type);
        let position = (0..self.sample_type.len())
            .find(|position| name(*position) == "inuse_space")
            .unwrap_or(self.sample_type.len() - 1);
        match name(position) {
            "inuse_space" | "space" => (position, "heap".to_owned()),
            "cpu" => (position, "cpu".to_owned()),
            other => (position, other.to_owned()),
        }
    }

    /// The sample's labels that are text, as name and value.
    pub fn labels<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = (&'a str, &'a str)> {
        sample
            .label
            .iter()
            .filter(|label| label.str != 0)
            .map(|label| (self.text(label.key), self.text(label.str)))
    }
}

/// A function at a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    pub function: String,
    pub file: String,
    pub line: i64,
}

/// Label name and value.
type Labels = Vec<(String, String)>;

/// Samples of several profiles of one kind, equal stacks added up.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    frames: Vec<Frame>,
    numbers: HashMap<Frame, u32>,
    /// Stack, leaf first, as numbers of frames, and labels → value.
    stacks: BTreeMap<(Vec<u32>, Labels), i64>,
    /// Sample type and unit.
    measure: Option<(String, String)>,
    period: i64,
    from_ns: i64,
    to_ns: i64,
}

impl Merged {
    /// Adds the samples whose labels, together with those of the push, have all `wanted` values.
    pub fn add(
        &mut self,
        profile: &Profile,
        push_labels: &[(String, String)],
        wanted: &[(String, String)],
    ) {
        let (position, _) = profile.kind();
        let measure = profile.sample_type[position];
        self.measure.get_or_insert_with(|| {
            (
                profile.text(measure.r#type).to_owned(),
                profile.text(measure.unit).to_owned(),
            )
        });
        self.period = profile.period;
        self.from_ns = if self.from_ns == 0 {
            profile.time_nanos
        } else {
            self.from_ns.min(profile.time_nanos)
        };
        self.to_ns = self
            .to_ns
            .max(profile.time_nanos.saturating_add(profile.duration_nanos));

        let functions: HashMap<u64, &Function> = profile
            .function
            .iter()
            .map(|function| (function.id, function))
            .collect();
        let mut locations: HashMap<u64, Vec<u32>> = HashMap::with_capacity(profile.location.len());
        for location in &profile.location {
            let mut numbers: Vec<u32> = Vec::with_capacity(location.line.len());
            for line in &location.line {
                let function = functions.get(&line.function_id);
                let text =
                    |index: Option<i64>| index.map_or("", |index| profile.text(index)).to_owned();
                numbers.push(self.number(Frame {
                    function: text(function.map(|function| function.name)),
                    file: text(function.map(|function| function.filename)),
                    line: line.line,
                }));
            }
            if numbers.is_empty() {
                numbers.push(self.number(Frame {
                    function: format!("{:#x}", location.address),
                    file: String::new(),
                    line: 0,
                }));
            }
            locations.insert(location.id, numbers);
        }
        for sample in &profile.sample {
            let Some(value) = sample
                .value
                .get(position)
                .copied()
                .filter(|value| *value != 0)
            else {
                continue;
            };
            let has = |name: &str, value: &str| {
                profile.labels(sample).any(|label| label == (name, value))
                    || push_labels.iter().any(|(push_name, push_value)| {
                        (push_name.as_str(), push_value.as_str()) == (name, value)
                    })
            };
            if !wanted.iter().all(|(name, value)| match name.as_str() {
                // Pyroscope's clients send `profile_id`, its server calls it `span_id`.
                "profile_id" | "span_id" => has("profile_id", value) || has("span_id", value),
                name => has(name, value),
            }) {
                continue;
            }
            let stack = sample
                .location_id
                .iter()
                .filter_map(|id| locations.get(id))
                .flatten()
                .copied()
                .collect();
            let mut labels: Labels = profile
                .labels(sample)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            labels.sort_unstable();
            let sum = self.stacks.entry((stack, labels)).or_default();
            *sum = sum.saturating_add(value);
        }
    }

    fn number(&mut self, frame: Frame) -> u32 {
        if let Some(number) = self.numbers.get(&frame) {
            return *number;
        }
        let number = self.frames.len() as u32;
        self.frames.push(frame.clone());
        self.numbers.insert(frame, number);
        number
    }

    /// Sum of all values.
    pub fn total(&self) -> i64 {
        self.stacks.values().sum()
    }

    /// Unit of the values, `nanoseconds` or `bytes` as a rule.
    pub fn unit(&self) -> &str {
        self.measure.as_ref().map_or("", |(_, unit)| unit)
    }

    /// The stacks, root first, and their values.
    pub fn stacks(&self) -> impl Iterator<Item = (impl Iterator<Item = &Frame>, i64)> {
        self.stacks.iter().map(|((stack, _), value)| {
            (
                stack
                    .iter()
                    .rev()
                    .map(|number| &self.frames[*number as usize]),
                *value,
            )
        })
    }

    /// The merged samples as one pprof profile.
    pub fn to_profile(&self) -> Profile {
        let mut strings = Strings::default();
        strings.index("");
        let (name, unit) = self.measure.clone().unwrap_or_default();
        let measure = ValueType {
            r#type: strings.index(&name),
            unit: strings.index(&unit),
        };
        let mut profile = Profile {
            sample_type: vec![measure],
            period_type: Some(measure),
            period: self.period,
            time_nanos: self.from_ns,
            duration_nanos: self.to_ns - self.from_ns,
            ..Profile::default()
        };
        let mut functions: HashMap<(&str, &str), u64> = HashMap::new();
        for (number, frame) in self.frames.iter().enumerate() {
            let next = functions.len() as u64 + 1;
            let function_id = *functions
                .entry((&frame.function, &frame.file))
                .or_insert_with(|| {
                    let name = strings.index(&frame.function);
                    profile.function.push(Function {
                        id: next,
                        name,
                        system_name: name,
                        filename: strings.index(&frame.file),
                    });
                    next
                });
            profile.location.push(Location {
                id: number as u64 + 1,
                address: 0,
                line: vec![Line {
                    function_id,
                    line: frame.line,
                }],
            });
        }
        for ((stack, labels), value) in &self.stacks {
            profile.sample.push(Sample {
                location_id: stack.iter().map(|number| u64::from(*number) + 1).collect(),
                value: vec![*value],
                label: labels
                    .iter()
                    .map(|(key, value)| Label {
                        key: strings.index(key),
                        str: strings.index(value),
                        num: 0,
                    })
                    .collect(),
            });
        }
        profile.string_table = strings.list;
        profile
    }
}

/// A string table in the making.
#[derive(Default)]
struct Strings {
    list: Vec<String>,
    places: HashMap<String, i64>,
}

impl Strings {
    fn index(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.list.len() as i64;
        self.list.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}
