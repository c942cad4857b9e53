//! Google's pprof format and Pyroscope's push message, as far as lens reads and writes them, and the merging of profiles.
//!
//! Definitions: <https://github.com/google/pprof/blob/main/proto/profile.proto> and
//! <https://github.com/grafana/pyroscope/blob/main/api/push/v1/push.proto>.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use prost::Message;

use crate::wire::{depth, schema, text};

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

/// Names up to this many bytes stay as they are.
const LONG_NAME: usize = 120;
/// And none becomes longer than this.
const LONGEST_NAME: usize = 400;

/// `poll<a::B<c::D>>` becomes `poll<…>`. The brackets of `<a::B as c::D>::e` are no argument list: they begin a name.
fn without_arguments(name: &str) -> String {
    let mut short = String::with_capacity(LONG_NAME);
    let mut depth = 0_u32;
    let mut before = ' ';
    for character in name.chars() {
        let after_name = before.is_alphanumeric() || before == '_' || before == ':';
        match character {
            '<' if depth > 0 => depth += 1,
            '<' if after_name => {
                depth = 1;
                short.push_str("<…>");
            }
            // The arrow of a function type closes nothing.
            '>' if depth > 0 && before != '-' => depth -= 1,
            _ if depth == 0 => short.push(character),
            _ => {}
        }
        before = character;
    }
    if short.len() > LONGEST_NAME {
        short.truncate(short.floor_char_boundary(LONGEST_NAME));
        short.push('…');
    }
    short
}

/// Frames of one stack that are read, from its leaf: locations may name each other's lines as often as they like.
const MOST_FRAMES: usize = 2000;

/// Why bytes are no profile.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("not a pprof profile: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("not a pprof profile: {0}")]
    Depth(#[from] depth::Refused),
    #[error("not a gzipped pprof profile: {0}")]
    Gzip(#[from] std::io::Error),
    #[error("gzip of more than {MOST_MEMBERS} members")]
    Members,
    #[error("a pprof profile without a sample type")]
    Untyped,
    #[error("a pprof profile of more than {0} bytes")]
    TooLarge(usize),
}

/// Members of one gzip file. Each takes its time, however little is in it.
const MOST_MEMBERS: usize = 1000;

/// Decompresses at most so many bytes.
///
/// # Errors
/// When the bytes are no gzip, or too many.
pub(crate) fn gunzip(mut bytes: &[u8], most: usize) -> Result<Vec<u8>, Unreadable> {
    let mut plain = Vec::new();
    for _ in 0..MOST_MEMBERS {
        let left = (most - plain.len()) as u64;
        flate2::bufread::GzDecoder::new(&mut bytes)
            .take(left.saturating_add(1))
            .read_to_end(&mut plain)?;
        if plain.len() > most {
            return Err(Unreadable::TooLarge(most));
        }
        if bytes.is_empty() {
            return Ok(plain);
        }
    }
    Err(Unreadable::Members)
}

impl Profile {
    /// Reads a pprof file, gzipped or not, of at most so many bytes.
    ///
    /// # Errors
    /// Says why the bytes are no profile, or that they are too many.
    pub fn read(bytes: &[u8], max_bytes: usize) -> Result<Self, Unreadable> {
        let plain;
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
            plain = gunzip(bytes, max_bytes)?;
            plain.as_slice()
        } else {
            bytes
        };
        depth::check(&schema::PROFILE, bytes)?;
        let (profile, _): (Self, bool) = text::decode(&schema::PROFILE, bytes)?;
        if profile.sample_type.is_empty() {
            Err(Unreadable::Untyped)
        } else {
            Ok(profile)
        }
    }

    /// A profile of stacks, root first and separated by `;`, with their values in a sample type and unit.
    #[must_use]
    pub fn of_stacks((kind, unit): (&str, &str), stacks: &[(&str, i64)]) -> Self {
        let mut strings = Strings::default();
        strings.index("");
        let mut profile = Self {
            sample_type: vec![ValueType {
                r#type: strings.index(kind),
                unit: strings.index(unit),
            }],
            ..Self::default()
        };
        let mut ids: HashMap<&str, u64> = HashMap::new();
        for (stack, value) in stacks {
            let mut location_id = Vec::new();
            for name in stack.rsplit(';').take(MOST_FRAMES) {
                let next = ids.len() as u64 + 1;
                location_id.push(*ids.entry(name).or_insert_with(|| {
                    let name = strings.index(name);
                    profile.function.push(Function {
                        id: next,
                        name,
                        system_name: name,
                        filename: 0,
                    });
                    let line = vec![Line {
                        function_id: next,
                        line: 0,
                    }];
                    profile.location.push(Location {
                        id: next,
                        address: 0,
                        line,
                    });
                    next
                }));
            }
            profile.sample.push(Sample {
                location_id,
                value: vec![*value],
                label: Vec::new(),
            });
        }
        profile.string_table = strings.list;
        profile
    }

    /// A text of the string table; empty where the index is wrong.
    pub fn text(&self, index: i64) -> &str {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.string_table.get(index))
            .map_or("", String::as_str)
    }

    /// Which of the sample types lens shows, and what it calls it: `heap` for memory in use, `cpu` for CPU time, else the type's own name. Go's
    /// profiles of mutexes and of blocking have the same types: `pushed_as`, the push's label `__name__`, tells them apart.
    pub fn kind(&self, pushed_as: &str) -> (usize, String) {
        let name = |position: usize| self.text(self.sample_type[position].r#type);
        let position = (0..self.sample_type.len())
            .find(|position| name(*position) == "inuse_space")
            .unwrap_or(self.sample_type.len() - 1);
        match name(position) {
            "inuse_space" | "space" => (position, "heap".to_owned()),
            "cpu" => (position, "cpu".to_owned()),
            "delay" | "contentions" if !pushed_as.is_empty() => (position, pushed_as.to_owned()),
            other => (position, other.to_owned()),
        }
    }

    /// Shortens the names of generic functions, which reach 40,000 characters in an asynchronous program: an argument list becomes `<…>`.
    pub fn shorten_names(&mut self) {
        for text in self
            .string_table
            .iter_mut()
            .filter(|text| text.len() > LONG_NAME)
        {
            *text = without_arguments(text);
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

/// A function at a line; texts by their index in [`Strings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub function: i64,
    pub file: i64,
    pub line: i64,
}

/// A stack, leaf first, as numbers of frames, and its labels as indexes of name and value.
type Stack = (Vec<u32>, Vec<(i64, i64)>);

/// Samples of several profiles of one kind, equal stacks added up. Every text is looked at once a profile; the rest is numbers.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    strings: Strings,
    frames: Vec<Frame>,
    numbers: HashMap<Frame, u32>,
    stacks: BTreeMap<Stack, i64>,
    /// Sample type and unit.
    measure: Option<ValueType>,
    period: i64,
    from_ns: i64,
    to_ns: i64,
    /// What the stacks take, roughly.
    stack_bytes: usize,
}

impl Merged {
    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        self.stack_bytes + self.strings.bytes + self.frames.len() * 2 * size_of::<Frame>()
    }

    /// Adds the samples whose labels, together with those of the push, have all `wanted` values.
    pub fn add(
        &mut self,
        profile: &Profile,
        push_labels: &[(String, String)],
        wanted: &[(String, String)],
    ) {
        self.strings.index("");
        let texts: Vec<i64> = profile
            .string_table
            .iter()
            .map(|text| self.strings.index(text))
            .collect();
        let text = |index: i64| {
            usize::try_from(index)
                .ok()
                .and_then(|index| texts.get(index))
                .copied()
                .unwrap_or(0)
        };

        let (position, _) = profile.kind("");
        let measure = profile.sample_type[position];
        self.measure.get_or_insert(ValueType {
            r#type: text(measure.r#type),
            unit: text(measure.unit),
        });
        self.period = profile.period;
        self.from_ns = match self.from_ns {
            0 => profile.time_nanos,
            first => first.min(profile.time_nanos),
        };
        let to_ns = profile.time_nanos.saturating_add(profile.duration_nanos);
        self.to_ns = self.to_ns.max(to_ns);

        let functions = profile.function.iter();
        let functions: HashMap<u64, &Function> = functions.map(|of| (of.id, of)).collect();
        let mut locations: HashMap<u64, Vec<u32>> = HashMap::with_capacity(profile.location.len());
        for location in &profile.location {
            let mut numbers: Vec<u32> = Vec::with_capacity(location.line.len());
            for line in &location.line {
                let of = functions.get(&line.function_id);
                numbers.push(self.number(Frame {
                    function: of.map_or(0, |of| text(of.name)),
                    file: of.map_or(0, |of| text(of.filename)),
                    line: line.line,
                }));
            }
            if numbers.is_empty() {
                let (file, line) = (0, 0);
                let function = self.strings.index(&format!("{:#x}", location.address));
                numbers.push(self.number(Frame {
                    function,
                    file,
                    line,
                }));
            }
            locations.insert(location.id, numbers);
        }
        for sample in &profile.sample {
            let value = sample.value.get(position).copied();
            let Some(value @ 1..) = value else {
                continue;
            };
            let has = |name: &str, value: &str| {
                let mut pushed = push_labels.iter().map(|(name, value)| (&**name, &**value));
                pushed.any(|label| label == (name, value))
                    || profile.labels(sample).any(|label| label == (name, value))
            };
            if !wanted.iter().all(|(name, value)| match name.as_str() {
                // Pyroscope's clients send `profile_id`, its server calls it `span_id`.
                "profile_id" | "span_id" => has("profile_id", value) || has("span_id", value),
                name => has(name, value),
            }) {
                continue;
            }
            let places = sample.location_id.iter().filter_map(|id| locations.get(id));
            let stack: Vec<u32> = places.flatten().take(MOST_FRAMES).copied().collect();
            let labels = sample.label.iter().filter(|label| label.str != 0);
            let mut labels: Vec<(i64, i64)> = labels
                .map(|label| (text(label.key), text(label.str)))
                .collect();
            labels.sort_unstable();
            let bytes = size_of::<Stack>() + 4 * stack.len() + 16 * labels.len();
            let sum = self.stacks.entry((stack, labels)).or_insert_with(|| {
                self.stack_bytes += bytes;
                0
            });
            *sum = sum.saturating_add(value);
        }
    }

    fn number(&mut self, frame: Frame) -> u32 {
        let next = self.frames.len() as u32;
        *self.numbers.entry(frame).or_insert_with(|| {
            self.frames.push(frame);
            next
        })
    }

    /// Unit of the values, `nanoseconds` or `bytes` as a rule.
    pub fn unit(&self) -> &str {
        self.measure.map_or("", |measure| self.name(measure.unit))
    }

    /// A function's name by its number.
    pub fn name(&self, function: i64) -> &str {
        self.strings
            .list
            .get(function as usize)
            .map_or("", String::as_str)
    }

    /// The stacks as numbers of frames, root first, and their values.
    pub fn stacks(&self) -> impl Iterator<Item = (impl DoubleEndedIterator<Item = u32>, i64)> {
        let stacks = self.stacks.iter();
        stacks.map(|((stack, _), value)| (stack.iter().rev().copied(), *value))
    }

    /// A frame by its number; texts by [`Merged::name`].
    pub fn frame(&self, number: u32) -> Frame {
        self.frames[number as usize]
    }

    /// How many frames there are; their numbers begin at 0.
    pub fn frames(&self) -> u32 {
        self.frames.len() as u32
    }

    /// The merged samples as one pprof profile.
    pub fn to_profile(&self) -> Profile {
        let mut profile = Profile {
            sample_type: vec![self.measure.unwrap_or_default()],
            period_type: self.measure,
            period: self.period,
            time_nanos: self.from_ns,
            duration_nanos: self.to_ns.saturating_sub(self.from_ns),
            string_table: self.strings.list.clone(),
            ..Profile::default()
        };
        let mut functions: HashMap<(i64, i64), u64> = HashMap::new();
        for (frame, id) in self.frames.iter().zip(1..) {
            let next = functions.len() as u64 + 1;
            let function_id = *functions
                .entry((frame.function, frame.file))
                .or_insert_with(|| {
                    profile.function.push(Function {
                        id: next,
                        name: frame.function,
                        system_name: frame.function,
                        filename: frame.file,
                    });
                    next
                });
            profile.location.push(Location {
                id,
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
                        key: *key,
                        str: *value,
                        num: 0,
                    })
                    .collect(),
            });
        }
        profile
    }
}

/// A string table in the making.
#[derive(Clone, Debug, Default)]
struct Strings {
    list: Vec<String>,
    places: HashMap<String, i64>,
    bytes: usize,
}

impl Strings {
    fn index(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.list.len() as i64;
        self.list.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        self.bytes += 2 * (text.len() + size_of::<String>());
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_lists_go_and_names_stay() {
        let long = "x::Y<z::Z, ".repeat(20);
        let generic = format!("a::poll<{long}fn(u8) -> u8{}>::b", ">".repeat(20));
        let plain = "signalbox::routes::demo::cpu::sieve";
        for (name, short) in [
            (generic.as_str(), "a::poll<…>::b"),
            ("<a::B as c::D<e::F>>::g", "<a::B as c::D<…>>::g"),
            ("collect::<alloc::vec::Vec<u8>>", "collect::<…>"),
            (plain, plain),
        ] {
            assert_eq!(without_arguments(name), short);
        }
        let cut = without_arguments(&"é".repeat(500));
        assert_eq!(cut.len(), LONGEST_NAME + '…'.len_utf8());
    }
}
