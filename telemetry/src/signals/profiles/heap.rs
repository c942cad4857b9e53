//! Heap profiles that end where the program allocates, and not inside of the allocator.
//!
//! jemalloc takes a stack where it stands itself, so each begins with its own functions and those that lead to it, and every
//! sample has the same leaf. What the profiler holds itself is kept under a name of its own.
use std::collections::HashMap;
use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;
use pyroscope::encode::r#gen::google::{Function, Line, Location, Profile};

use super::{ProfileError, failed};
use crate::base::gzip;

/// Names with which functions of the allocator begin.
const ALLOCATOR: [&str; 4] = [
    "_rjem_",
    "prof_backtrace",
    "<tikv_jemallocator::",
    "__rustc::__rust_",
];
/// Whole names: what C calls the allocator, and Rust's symbols without their module.
const ENTRIES: [&str; 10] = [
    "malloc",
    "calloc",
    "realloc",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "__rust_alloc",
    "__rust_alloc_zeroed",
    "__rust_realloc",
    "alloc::alloc::Global::alloc_impl_runtime",
];
/// How Rust's collections come to the allocator: by function and, where that is inlined and so without its module, by file.
const SHIMS: [&str; 2] = ["alloc::alloc::", "alloc::raw_vec::"];
const SHIM_FILES: [&str; 2] = ["library/alloc/src/alloc.rs", "library/alloc/src/raw_vec"];
/// The profiler's own functions: those that it consists of, and ours by which it is called. Not the one that runs a
/// program's work with its samples marked.
const PROFILER: [&str; 6] = [
    "pyroscope::",
    "pprof_util::",
    "jemalloc_pprof::",
    "pprof::",
    concat!(env!("CARGO_CRATE_NAME"), "::signals::profiles::Profiler"),
    concat!(env!("CARGO_CRATE_NAME"), "::signals::profiles::Cpu"),
];
const PROFILER_NAME: &str = "profiler's own memory";

/// Frames within which the allocator's own are looked for, from the leaf.
const DEEPEST: usize = 24;

/// A gzipped profile of jemalloc's as one of the program's.
pub(super) fn of_the_program(gzipped: &[u8]) -> Result<Vec<u8>, ProfileError> {
    let mut bytes = Vec::new();
    GzDecoder::new(gzipped)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let mut profile = Profile::decode(bytes.as_slice()).map_err(failed)?;
    trim(&mut profile);
    Ok(gzip(&profile.encode_to_vec()))
}

fn trim(profile: &mut Profile) {
    let own = own_location(profile);
    let names = Names::of(profile);
    let mut locations: HashMap<u64, Location> = HashMap::new();
    for location in std::mem::take(&mut profile.location) {
        locations.insert(location.id, location);
    }
    for sample in &mut profile.sample {
        let stack: Vec<&Location> = sample
            .location_id
            .iter()
            .filter_map(|id| locations.get(id))
            .collect();
        let lines = stack.iter().flat_map(|location| &location.line);
        if lines.clone().any(|line| names.are(line, &PROFILER, &[])) {
            sample.location_id = vec![own];
            continue;
        }
        let outermost = |location: &&Location| location.line.last().copied();
        let entry = stack.iter().take(DEEPEST).rposition(|location| {
            outermost(location).is_some_and(|line| names.are(&line, &ALLOCATOR, &ENTRIES))
        });
        let Some(entry) = entry else { continue };
        let shims = stack[entry + 1..]
            .iter()
            .take_while(|location| outermost(location).is_some_and(|line| names.is_shim(&line)));
        // At least one frame stays.
        let first = (entry + 1 + shims.count()).min(stack.len() - 1);
        sample.location_id.drain(..first);
        // What was inlined into the program's function belongs to the allocator too; this place is always a leaf.
        if let Some(leaf) = locations.get_mut(&sample.location_id[0]) {
            let last = leaf.line.len().saturating_sub(1);
            let inlined = leaf.line[..last].iter();
            let shims = inlined.take_while(|line| names.is_shim(line)).count();
            leaf.line.drain(..shims);
        }
    }
    profile.location = locations.into_values().collect();
    profile.location.sort_by_key(|location| location.id);
}

/// Adds a location that stands for what the profiler holds.
fn own_location(profile: &mut Profile) -> u64 {
    let next = |ids: &mut dyn Iterator<Item = u64>| ids.max().unwrap_or(0) + 1;
    let function_id = next(&mut profile.function.iter().map(|function| function.id));
    let id = next(&mut profile.location.iter().map(|location| location.id));
    profile.function.push(Function {
        id: function_id,
        name: profile.string_table.len() as i64,
        ..Function::default()
    });
    profile.string_table.push(PROFILER_NAME.to_owned());
    profile.location.push(Location {
        id,
        line: vec![Line {
            function_id,
            line: 0,
        }],
        ..Location::default()
    });
    id
}

/// Names and files of functions.
struct Names(HashMap<u64, (String, String)>);

impl Names {
    fn of(profile: &Profile) -> Self {
        let text = |at: i64| {
            let text = usize::try_from(at)
                .ok()
                .and_then(|at| profile.string_table.get(at));
            text.cloned().unwrap_or_default()
        };
        let functions = profile.function.iter();
        let named =
            functions.map(|function| (function.id, (text(function.name), text(function.filename))));
        Self(named.collect())
    }

    fn are(&self, line: &Line, beginnings: &[&str], whole: &[&str]) -> bool {
        let named = self.0.get(&line.function_id);
        named.is_some_and(|(name, _)| {
            // `<Type>::method` and `Type::method` are one, as the compiler's version has it.
            let bare = name.trim_start_matches('<');
            let begins =
                |beginning: &&str| name.starts_with(*beginning) || bare.starts_with(*beginning);
            whole.contains(&name.as_str()) || beginnings.iter().any(begins)
        })
    }

    fn is_shim(&self, line: &Line) -> bool {
        let named = self.0.get(&line.function_id);
        let in_file = |file: &str| SHIM_FILES.iter().any(|shim| file.contains(shim));
        named.is_some_and(|(name, file)| {
            let bare = name.trim_start_matches('<');
            SHIMS.iter().any(|shim| bare.starts_with(shim)) || in_file(file)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyroscope::encode::r#gen::google::Sample;

    /// A profile with one sample, whose frames are lists of (function, file), inlined first.
    fn profile(stack: &[&[(&str, &str)]]) -> Profile {
        let mut profile = Profile {
            string_table: vec![String::new()],
            ..Profile::default()
        };
        let mut ids = Vec::new();
        for frame in stack {
            let id = profile.location.len() as u64 + 1;
            let mut location = Location {
                id,
                ..Location::default()
            };
            for (name, file) in *frame {
                let at = profile.string_table.len() as i64;
                profile
                    .string_table
                    .extend([(*name).to_owned(), (*file).to_owned()]);
                let function_id = profile.function.len() as u64 + 1;
                profile.function.push(Function {
                    id: function_id,
                    name: at,
                    filename: at + 1,
                    ..Function::default()
                });
                location.line.push(Line {
                    function_id,
                    line: 1,
                });
            }
            profile.location.push(location);
            ids.push(id);
        }
        profile.sample.push(Sample {
            location_id: ids,
            value: vec![1],
            ..Sample::default()
        });
        profile
    }

    fn trimmed(stack: &[&[(&str, &str)]]) -> Vec<String> {
        let mut profile = profile(stack);
        trim(&mut profile);
        let names = Names::of(&profile);
        let sample = profile.sample[0].location_id.iter();
        let locations =
            sample.map(|id| profile.location.iter().find(|location| location.id == *id));
        let lines = locations.flat_map(|location| location.unwrap().line.clone());
        lines
            .map(|line| names.0[&line.function_id].0.clone())
            .collect()
    }

    #[test]
    fn a_stack_begins_where_the_program_allocates() {
        let rust = trimmed(&[
            &[("prof_backtrace_impl", "")],
            &[("_rjem_je_prof_backtrace", "")],
            &[("imalloc", ""), ("_rjem_je_malloc_default", "")],
            &[("malloc", "")],
            &[(
                "<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc",
                "",
            )],
            &[("__rustc::__rust_alloc", "")],
            &[("<alloc::raw_vec::RawVecInner>::try_allocate_in", "")],
            &[
                ("alloc", "/rustc/1/library/alloc/src/alloc.rs"),
                ("with_capacity", "/rustc/1/library/alloc/src/vec/mod.rs"),
                ("shop::cart::fill", "src/cart.rs"),
            ],
            &[("main", "")],
            &[("__rust_begin_short_backtrace", "")],
        ]);
        let expected = [
            "with_capacity",
            "shop::cart::fill",
            "main",
            "__rust_begin_short_backtrace",
        ];
        assert_eq!(rust, expected);
        let c = trimmed(&[
            &[("prof_backtrace_impl", "")],
            &[("malloc", "")],
            &[("open", "")],
        ]);
        assert_eq!(c, ["open"]);
        assert_eq!(
            trimmed(&[&[("prof_backtrace_impl", "")], &[("malloc", "")]]),
            ["malloc"]
        );
        assert_eq!(
            trimmed(&[&[("fill", "")], &[("main", "")]]),
            ["fill", "main"]
        );
    }

    #[test]
    fn the_profiler_s_own_memory_has_its_own_name() {
        let own = trimmed(&[
            &[("prof_backtrace_impl", "")],
            &[("malloc", "")],
            &[("fill", "")],
            &[("pyroscope::backend::report", "")],
            &[("main", "")],
        ]);
        assert_eq!(own, [PROFILER_NAME]);
        let called = concat!(module_path!(), "::Profiler::watch").replace("heap::tests::", "");
        let own = trimmed(&[&[("malloc", "")], &[("parse", "")], &[(&called, "")]]);
        assert_eq!(own, [PROFILER_NAME]);
        let marked = called.replace("Profiler::watch", "span_scope");
        let work = trimmed(&[&[("malloc", "")], &[("fill", "")], &[(&marked, "")]]);
        assert_eq!(work, ["fill", marked.as_str()]);
    }
}
