//! A flame graph and a list of functions out of merged stacks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::pprof::{Frame, Merged};
use crate::source::Sources;

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
    pub runtime: bool,
    /// In the function itself.
    pub own: i64,
    /// And in what it called, however often it stands in a stack.
    pub total: i64,
}

/// A stack of functions, root first, and its value.
type Stack = (Vec<i64>, i64);

/// What is known of the functions of a profile.
pub struct Known {
    /// By the frame's number, whether it is of the runtime.
    runtime: Vec<bool>,
    /// By the function's number.
    runtime_functions: HashMap<i64, bool>,
    heap: bool,
    /// Whether the runtime's frames are left out.
    folded: bool,
}

/// Root of what the profiler allocates itself.
const PROFILERS_ROOT: i64 = -1;
const PROFILER: &str = "the profiler itself";
/// Names of its functions begin or go on with these.
const OF_PROFILERS: [&str; 5] = [
    "pprof::",
    "jemalloc_pprof::",
    "pprof_util::",
    "pyroscope::",
    "pyroscope_",
];

impl Known {
    /// Tells the program's functions from the runtime's. What is inlined comes without its path: it is the program's if the checkout has that function
    /// at that line; without a checkout, if a function of the program with a path comes from the same file.
    pub fn of(merged: &Merged, sources: &Sources, heap: bool, folded: bool) -> Self {
        let base = |file| base(merged.name(file));
        let frames: Vec<Frame> = (0..merged.frames())
            .map(|number| merged.frame(number))
            .collect();
        let own_files: HashSet<&str> = frames
            .iter()
            .filter(|frame| !is_runtime(merged.name(frame.function)))
            .map(|frame| base(frame.file))
            .filter(|base| !["", "mod.rs", "lib.rs", "main.rs"].contains(base))
            .collect();
        let of_runtime = |frame: &Frame| {
            let name = merged.name(frame.function);
            let inlined = !name.contains("::") && !name.starts_with("0x") && !is_allocator(name);
            is_allocator(name)
                || is_runtime(name)
                    && !(inlined
                        && match sources.is_empty() {
                            true => own_files.contains(base(frame.file)),
                            false => sources.find(name, base(frame.file), frame.line).is_some(),
                        })
        };
        let runtime: Vec<bool> = frames.iter().map(of_runtime).collect();
        let mut runtime_functions = HashMap::new();
        for (frame, runtime) in frames.iter().zip(&runtime) {
            let all = runtime_functions.entry(frame.function).or_insert(true);
            *all &= *runtime;
        }
        Self {
            runtime,
            runtime_functions,
            heap,
            folded,
        }
    }

    /// A stack's frames, root first, as they are shown. Memory belongs to the function that asked for it, not to the allocator and what lies between;
    /// with the runtime folded, what the runtime did belongs to the function that called it.
    fn frames(&self, merged: &Merged, stack: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut stack: Vec<u32> = stack.collect();
        let is_own = |frame: &u32| !self.runtime[*frame as usize];
        let asked = |frame: &u32| !is_allocator(merged.name(merged.frame(*frame).function));
        let mut last = None;
        if self.folded || self.heap {
            last = stack.iter().rposition(is_own);
        }
        if self.heap {
            last = last.or_else(|| stack.iter().rposition(asked));
        }
        if let Some(last) = last {
            stack.truncate(last + 1);
        }
        stack
    }

    /// Whether a function is of the runtime.
    pub fn is_runtime(&self, function: i64) -> bool {
        self.runtime_functions
            .get(&function)
            .copied()
            .unwrap_or(true)
    }
}

/// Whether a function is the allocator's or its profiler's.
fn is_allocator(function: &str) -> bool {
    const NAMES: [&str; 14] = [
        "prof_",
        "je_",
        "_rjem",
        "malloc",
        "calloc",
        "realloc",
        "posix_memalign",
        "aligned_alloc",
        "__rust_",
        "__rdl_",
        "__rg_",
        "imalloc",
        "alloc::",
        "tikv_jemallocator::",
    ];
    let path = function.trim_start_matches('<');
    let path = path.strip_prefix("__rustc::").unwrap_or(path);
    NAMES.iter().any(|name| path.starts_with(name))
}

impl Flame {
    /// Lays the stacks out, the widest first.
    pub fn of(merged: &Merged, known: &Known) -> Self {
        let drawn = |stack: Vec<u32>| -> Vec<i64> {
            let last = stack.len().saturating_sub(1);
            let profilers = known.heap
                && stack.iter().any(|frame| {
                    let name = merged
                        .name(merged.frame(*frame).function)
                        .trim_start_matches('<');
                    OF_PROFILERS
                        .iter()
                        .any(|profiler| name.starts_with(profiler))
                });
            let kept = stack.into_iter().enumerate().filter(|(place, frame)| {
                !(known.folded && *place < last && known.runtime[*frame as usize])
            });
            let functions = kept.map(|(_, frame)| merged.frame(frame).function);
            profilers
                .then_some(PROFILERS_ROOT)
                .into_iter()
                .chain(functions)
                .take(DEEPEST)
                .collect()
        };
        // In order, so that what has the same callers stands together: a tree of all frames would take many times the memory.
        let mut stacks: Vec<Stack> = merged
            .stacks()
            .map(|(stack, value)| (drawn(known.frames(merged, stack)), value))
            .collect();
        stacks.sort_unstable();
        let mut flame = Self {
            unit: merged.unit().to_owned(),
            total: sum(&stacks),
            ..Self::default()
        };
        let mut places = HashMap::new();
        let smallest = (flame.total as f64 * SMALLEST_SHARE) as i64;
        flame.lay_out((merged, known), &mut places, &stacks, (0, 0), smallest);
        flame
    }

    /// Lays out what stands at a depth of stacks that have the same functions above it.
    fn lay_out(
        &mut self,
        (merged, known): (&Merged, &Known),
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
        let name = |function: i64| {
            if function == PROFILERS_ROOT {
                PROFILER
            } else {
                merged.name(function)
            }
        };
        children.sort_by_key(|(function, total, _)| (-total, name(*function)));
        let mut start = start;
        for (function, total, group) in children {
            let place = *places.entry(function).or_insert_with(|| {
                self.names.push(readable(name(function)));
                self.runtime.push(known.is_runtime(function));
                self.names.len() - 1
            });
            // Those that end here come first.
            let ends = group.partition_point(|(stack, _)| stack.len() == depth + 1);
            self.frames
                .push((depth, start, total, sum(&group[..ends]), place));
            self.lay_out((merged, known), places, group, (depth + 1, start), smallest);
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
pub fn functions(merged: &Merged, known: &Known) -> Vec<Function> {
    let mut functions: HashMap<i64, (i64, i64)> = HashMap::new();
    for (stack, value) in merged.stacks() {
        let mut stack: Vec<i64> = known
            .frames(merged, stack)
            .into_iter()
            .map(|frame| merged.frame(frame).function)
            .collect();
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
    functions.retain(|(function, (own, _))| *own > 0 || !known.is_runtime(*function));
    functions.sort_by_key(|(function, (own, total))| (-own, -total, merged.name(*function)));
    functions.truncate(MOST_FUNCTIONS);
    let named = |(function, (own, total))| Function {
        name: readable(merged.name(function)),
        runtime: known.is_runtime(function),
        own,
        total,
    };
    functions.into_iter().map(named).collect()
}

/// What was spent in a line of a function, in itself and with what it called.
#[derive(Clone, Debug, PartialEq)]
pub struct Spent {
    pub file: String,
    pub line: i64,
    pub own: i64,
    pub total: i64,
}

/// Where in a function, by its readable name, it was spent, by line.
pub fn lines(merged: &Merged, known: &Known, function: &str) -> Vec<Spent> {
    let wanted: HashSet<u32> = (0..merged.frames())
        .filter(|number| readable(merged.name(merged.frame(*number).function)) == function)
        .collect();
    let mut spent: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for (stack, value) in merged.stacks() {
        let stack = known.frames(merged, stack);
        let place = |number: &u32| (merged.frame(*number).file, merged.frame(*number).line);
        if let Some(leaf) = stack.last().filter(|leaf| wanted.contains(leaf)) {
            spent.entry(place(leaf)).or_default().0 += value;
        }
        let lines: BTreeSet<(i64, i64)> = stack
            .iter()
            .filter(|number| wanted.contains(number))
            .map(place)
            .collect();
        for line in lines {
            let total = &mut spent.entry(line).or_default().1;
            *total = total.saturating_add(value);
        }
    }
    let named = |((file, line), (own, total)): ((i64, i64), (i64, i64))| Spent {
        file: base(merged.name(file)).to_owned(),
        line,
        own,
        total,
    };
    spent.into_iter().map(named).collect()
}

/// The last part of a file's path.
fn base(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
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
    use crate::pprof::Profile;

    #[test]
    fn stacks_become_frames_and_functions() {
        // main calls work, which calls itself once, and idle
        const WORK: &str = "std::work::h0123456789abcdef";
        let merged = merged(&[
            (&format!("app::main;{WORK}"), 60),
            (&format!("app::main;{WORK};{WORK}"), 10),
            ("app::main;idle", 30),
        ]);
        let known = Known::of(&merged, &Sources::default(), false, false);
        let flame = Flame::of(&merged, &known);
        assert_eq!((flame.total, flame.unit.as_str()), (100, "nanoseconds"));
        assert_eq!(
            frames(&flame),
            [
                (0, 100, 0, "app::main"),
                (1, 70, 60, "std::work"),
                (2, 10, 10, "std::work"),
                (1, 30, 30, "idle")
            ]
        );
        let starts: Vec<i64> = flame.frames.iter().map(|frame| frame.1).collect();
        assert_eq!(starts, [0, 0, 0, 70]);
        let folded = Known::of(&merged, &Sources::default(), false, true);
        assert_eq!(
            Flame::of(&merged, &folded).frames,
            [(0, 0, 100, 100, 0)],
            "what the runtime did belongs to the function that called it"
        );
        assert_eq!(
            listed(&functions(&merged, &known)),
            [
                ("std::work", 70, 70, true),
                ("idle", 30, 30, true),
                ("app::main", 0, 100, false)
            ]
        );
    }

    /// A profile of stacks, root first, of functions that may stand at a place: `function@file:line`.
    fn merged(stacks: &[(&str, i64)]) -> Merged {
        let mut profile = Profile::of_stacks(("cpu", "nanoseconds"), stacks);
        for (function, location) in profile.function.iter_mut().zip(&mut profile.location) {
            let placed = profile.string_table[function.name as usize].clone();
            if let Some((name, place)) = placed.split_once('@') {
                let (file, line) = place.split_once(':').expect("a line");
                (function.name, function.filename) = (
                    profile.string_table.len() as i64,
                    profile.string_table.len() as i64 + 1,
                );
                profile.string_table.extend([name, file].map(str::to_owned));
                location.line[0].line = line.parse().expect("a number");
            }
        }
        let mut merged = Merged::default();
        merged.add(&profile, &[], &[]);
        merged
    }

    /// Depth, width, own value and name of each frame.
    fn frames(flame: &Flame) -> Vec<(usize, i64, i64, &str)> {
        let frames = flame.frames.iter();
        let named = frames.map(|(depth, _, width, own, name)| {
            (*depth, *width, *own, flame.names[*name].as_str())
        });
        named.collect()
    }

    /// Name, own value and total of each function, and whether it is of the runtime.
    fn listed(functions: &[Function]) -> Vec<(&str, i64, i64, bool)> {
        let listed = functions
            .iter()
            .map(|of| (of.name.as_str(), of.own, of.total, of.runtime));
        listed.collect()
    }

    #[test]
    fn what_is_inlined_keeps_its_owner() {
        let merged = merged(&[
            (
                "app::cpu::work@cpu.rs:10;burn_cpu@cpu.rs:20;next@iter.rs:5",
                60,
            ),
            ("app::cpu::work@cpu.rs:10;burn_cpu@cpu.rs:21", 40),
        ]);
        let known = Known::of(&merged, &Sources::default(), false, false);
        assert_eq!(
            listed(&functions(&merged, &known)),
            [
                ("next", 60, 60, true),
                ("burn_cpu", 40, 100, false),
                ("app::cpu::work", 0, 100, false)
            ]
        );
        let lines: Vec<(i64, i64, i64)> = lines(&merged, &known, "burn_cpu")
            .into_iter()
            .map(|line| (line.line, line.own, line.total))
            .collect();
        assert_eq!(lines, [(20, 0, 60), (21, 40, 40)]);
        let folded = Known::of(&merged, &Sources::default(), false, true);
        assert_eq!(
            frames(&Flame::of(&merged, &folded)),
            [(0, 100, 0, "app::cpu::work"), (1, 100, 100, "burn_cpu")],
            "and what it called"
        );
    }

    #[test]
    fn memory_belongs_to_the_function_that_asked_for_it() {
        const ALLOCATOR: &str = "_rjem_je_malloc_default;prof_backtrace_impl";
        let merged = merged(&[
            (
                &format!("app::memory::hold;alloc::raw_vec::RawVec<…>::grow;{ALLOCATOR}"),
                90,
            ),
            (&format!("jemalloc_pprof::dump;{ALLOCATOR}"), 10),
        ]);
        let known = Known::of(&merged, &Sources::default(), true, false);
        assert_eq!(
            frames(&Flame::of(&merged, &known)),
            [
                (0, 90, 90, "app::memory::hold"),
                (0, 10, 0, PROFILER),
                (1, 10, 10, "jemalloc_pprof::dump")
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
