//! A flame graph and a list of functions out of merged stacks.

use std::collections::HashMap;

use serde::Serialize;

use crate::pprof::Merged;

/// Frames smaller than this share of the whole are not drawn: they would be narrower than a pixel.
const SMALLEST_SHARE: f64 = 1.0 / 1500.0;
/// Frames deeper than this are not drawn.
const DEEPEST: usize = 200;
/// Functions listed.
const MOST_FUNCTIONS: usize = 40;

/// A flame graph as the page's script reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Flame {
    pub unit: String,
    pub total: i64,
    pub names: Vec<String>,
    /// Of each name, whether it is of the runtime: see [`is_runtime`].
    pub runtime: Vec<bool>,
    /// Depth, start, width, own value, and index into `names`, the parent before its children.
    pub frames: Vec<(usize, i64, i64, i64, usize)>,
}

/// A function and what was spent in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    pub name: String,
    /// In the function itself.
    pub own: i64,
    /// And in what it called, however often it stands in a stack.
    pub total: i64,
}

/// A stack, root first, and its value.
type Stack = (Vec<i64>, i64);

impl Flame {
    /// Lays the stacks out, the widest first; `own_only` leaves out the runtime's frames but where a stack ends in one.
    pub fn of(merged: &Merged, own_only: bool) -> Self {
        let mut runtime: HashMap<i64, bool> = HashMap::new();
        let mut drawn = |stack: Vec<i64>| -> Vec<i64> {
            let last = stack.len().saturating_sub(1);
            let mut left_out = |(place, function): &(usize, i64)| {
                own_only
                    && *place < last
                    && *runtime
                        .entry(*function)
                        .or_insert_with(|| is_runtime(merged.name(*function)))
            };
            let kept = stack.into_iter().enumerate().filter(|one| !left_out(one));
            kept.map(|(_, function)| function).take(DEEPEST).collect()
        };
        // In order, so that what has the same callers stands together: a tree of all frames would take many times the memory.
        let mut stacks: Vec<Stack> = merged
            .stacks()
            .map(|(stack, value)| (drawn(stack.collect()), value))
            .collect();
        stacks.sort_unstable();
        let mut flame = Self {
            unit: merged.unit().to_owned(),
            total: sum(&stacks),
            ..Self::default()
        };
        let mut places = HashMap::new();
        let smallest = (flame.total as f64 * SMALLEST_SHARE) as i64;
        flame.lay_out(merged, &mut places, &stacks, (0, 0), smallest);
        flame
    }

    /// Lays out what stands at a depth of stacks that have the same functions above it.
    fn lay_out(
        &mut self,
        merged: &Merged,
        places: &mut HashMap<i64, usize>,
        stacks: &[Stack],
        (depth, start): (usize, i64),
        smallest: i64,
    ) {
        let mut children: Vec<(i64, i64, &[Stack])> = stacks
            .chunk_by(|(one, _), (other, _)| one.get(depth) == other.get(depth))
            .filter_map(|group| Some((*group[0].0.get(depth)?, sum(group), group)))
            .filter(|(_, total, _)| *total > smallest)
            .collect();
        children.sort_by_key(|(function, total, _)| (-total, merged.name(*function)));
        let mut start = start;
        for (function, total, group) in children {
            let place = *places.entry(function).or_insert_with(|| {
                self.names.push(readable(merged.name(function)));
                self.runtime.push(is_runtime(merged.name(function)));
                self.names.len() - 1
            });
            // Those that end here come first.
            let ends = group.partition_point(|(stack, _)| stack.len() == depth + 1);
            self.frames
                .push((depth, start, total, sum(&group[..ends]), place));
            self.lay_out(merged, places, group, (depth + 1, start), smallest);
            start = start.saturating_add(total);
        }
    }
}

fn sum(stacks: &[Stack]) -> i64 {
    stacks
        .iter()
        .fold(0, |sum: i64, (_, value)| sum.saturating_add(*value))
}

/// The functions with the most spent in themselves, then in what they called; the runtime's only if something was spent in themselves.
pub fn functions(merged: &Merged) -> Vec<Function> {
    let mut functions: HashMap<i64, (i64, i64)> = HashMap::new();
    for (stack, value) in merged.stacks() {
        let mut stack: Vec<i64> = stack.collect();
        if let Some(leaf) = stack.last() {
            let own = &mut functions.entry(*leaf).or_default().0;
            *own = own.saturating_add(value);
        }
        stack.sort_unstable();
        stack.dedup();
        for function in stack {
            let total = &mut functions.entry(function).or_default().1;
            *total = total.saturating_add(value);
        }
    }
    let mut functions: Vec<(i64, (i64, i64))> = functions.into_iter().collect();
    functions.retain(|(function, (own, _))| *own > 0 || !is_runtime(merged.name(*function)));
    functions.sort_by_key(|(function, (own, total))| (-own, -total, merged.name(*function)));
    functions.truncate(MOST_FUNCTIONS);
    let named = |(function, (own, total))| Function {
        name: readable(merged.name(function)),
        own,
        total,
    };
    functions.into_iter().map(named).collect()
}

/// Whether a function belongs to what every asynchronous Rust program stands on, or is inlined code that does not say where it is from: such
/// frames are most of a stack and seldom what one looks for.
fn is_runtime(function: &str) -> bool {
    const CRATES: [&str; 9] = [
        "std",
        "core",
        "alloc",
        "tokio",
        "mio",
        "hyper",
        "tracing",
        "hashbrown",
        "tower",
    ];
    const FAMILIES: [&str; 5] = ["actix_", "futures_", "tokio_", "hyper_", "tracing_"];
    let path = function
        .trim_start_matches(['<', '&', '(', '*'])
        .trim_start_matches("dyn ")
        .trim_start_matches("mut ");
    match path.split_once("::") {
        None => true,
        Some((first, _)) => {
            first.contains(['<', '{', ' '])
                || CRATES.contains(&first)
                || FAMILIES.iter().any(|family| first.starts_with(family))
        }
    }
}

/// Without the hash that Rust's legacy mangling ends in.
fn readable(function: &str) -> String {
    match function.rsplit_once("::h") {
        Some((name, hash))
            if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            name.to_owned()
        }
        _ => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pprof::{Function as PprofFunction, Line, Location, Profile, Sample, ValueType};

    #[test]
    fn stacks_become_frames_and_functions() {
        let names = [
            "",
            "cpu",
            "nanoseconds",
            "app::main",
            "std::work::h0123456789abcdef",
            "idle",
        ];
        let function = |id: u64| PprofFunction {
            id,
            name: id as i64 + 2,
            system_name: 0,
            filename: 0,
        };
        let sample = |location_id: &[u64], value| Sample {
            location_id: location_id.to_vec(),
            value: vec![value],
            label: vec![],
        };
        let profile = Profile {
            sample_type: vec![ValueType { r#type: 1, unit: 2 }],
            string_table: names.map(str::to_owned).to_vec(),
            function: (1..=3).map(function).collect(),
            location: (1..=3)
                .map(|id| Location {
                    id,
                    address: 0,
                    line: vec![Line {
                        function_id: id,
                        line: 1,
                    }],
                })
                .collect(),
            // leaf first: main calls work, which calls itself once, and idle
            sample: vec![
                sample(&[2, 1], 60),
                sample(&[2, 2, 1], 10),
                sample(&[3, 1], 30),
            ],
            ..Profile::default()
        };
        let mut merged = Merged::default();
        merged.add(&profile, &[], &[]);

        let flame = Flame::of(&merged, false);
        assert_eq!((flame.total, flame.unit.as_str()), (100, "nanoseconds"));
        let frames: Vec<(usize, i64, i64, i64, &str)> = flame
            .frames
            .iter()
            .map(|(depth, start, width, own, name)| {
                (*depth, *start, *width, *own, flame.names[*name].as_str())
            })
            .collect();
        assert_eq!(
            frames,
            [
                (0, 0, 100, 0, "app::main"),
                (1, 0, 70, 60, "std::work"),
                (2, 0, 10, 10, "std::work"),
                (1, 70, 30, 30, "idle")
            ]
        );
        assert_eq!(
            Flame::of(&merged, true).frames.len(),
            3,
            "names without a path are left out but at the end of a stack"
        );
        let listed: Vec<(String, i64, i64)> = functions(&merged)
            .into_iter()
            .map(|function| (function.name, function.own, function.total))
            .collect();
        assert_eq!(
            listed,
            [
                ("std::work".to_owned(), 70, 70),
                ("idle".to_owned(), 30, 30),
                ("app::main".to_owned(), 0, 100)
            ]
        );
    }

    #[test]
    fn the_runtime_is_told_from_the_program() {
        for runtime in [
            "clone3",
            "<alloc::boxed::Box<…> as core::ops::FnOnce<…>>::call_once",
            "{closure#1}<signalbox::x>",
            "actix_rt::arbiter::f",
            "catch_unwind<a::b>",
        ] {
            assert!(is_runtime(runtime), "{runtime}");
        }
        for own in [
            "signalbox::routes::demo::cpu::sieve",
            "<sqlx_sqlite::X as core::Y>::z",
            "opentelemetry_sdk::logs::emit",
        ] {
            assert!(!is_runtime(own), "{own}");
        }
    }
}
