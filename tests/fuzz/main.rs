//! `make fuzz TIME=60s`: what our programs read of others, with inputs that nobody wrote. A stable compiler runs it: inputs of the
//! corpus are mutated without looking at coverage. `cargo test --test fuzz` runs the corpus and 3 s of each target, with `CI=true` 20 s, always with
//! the same inputs, so that it fails for a change of ours alone; with `--time` they are others in each run, unless `--seed` says which.
//!
//! A target checks laws and not only that nothing panics. What breaks one is printed as a hexadecimal text to put into its
//! folder of the corpus, where it stays as a test.

#[path = "../api/harness/mod.rs"]
#[allow(dead_code)] // a part of what the other tests use
mod harness;
mod servers;

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use signalbox::deps::job::Job;
use signalbox::faults::plan::Plan;
use signalbox::settings::{Role, SecretUrl, Settings};

/// Bytes of an input at most.
const MAX_BYTES: usize = 8 * 1024;

/// A planted secret: no message repeats it.
const SECRET: &str = "hunter2";

/// Name of the threads that give the inputs.
const THREAD: &str = "fuzz";

/// Whether the viewer panicked since the last input.
static VIEWER_PANICKED: AtomicBool = AtomicBool::new(false);

/// Reads an input and panics if a law is broken. It owns what it asks.
type Target = Box<dyn Fn(&[u8])>;

/// Starts what a target asks.
type Ready = fn() -> Target;

/// Each by the name of its folder in the corpus, with what makes it ready.
const TARGETS: [(&str, Ready); 16] = [
    ("job", || Box::new(job)),
    ("plan_text", || Box::new(plan_text)),
    ("plan_json", || Box::new(plan_json)),
    ("settings", || Box::new(settings)),
    ("link", || Box::new(link)),
    ("viewer_protobuf", servers::viewer_protobuf),
    ("viewer_json", servers::viewer_json),
    ("viewer_gzip", servers::viewer_gzip),
    ("viewer_profiles", servers::viewer_profiles),
    ("viewer_query", servers::viewer_query),
    ("request", servers::request),
    ("context", servers::context),
    ("incidents", servers::incidents),
    ("exporter", servers::exporter),
    ("load", servers::load),
    ("verify", servers::verify),
];

fn main() -> ExitCode {
    let option = |name: &str| {
        std::env::args().find_map(|argument| argument.strip_prefix(name).map(str::to_owned))
    };
    let asked = option("--time=").and_then(|text| seconds(&text));
    let seed = option("--seed=").and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| asked.map_or(1, |_| fastrand::u64(..)));
    let time = asked.unwrap_or(match std::env::var("CI").as_deref() {
        Ok("true") => Duration::from_secs(20),
        _ => Duration::from_secs(3),
    });
    println!("seed {seed}");
    // A broken law panics in a thread of ours and is told below. What panics elsewhere is the viewer, which runs in this process.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(THREAD) {
            VIEWER_PANICKED.store(true, Ordering::Relaxed);
            told(panic);
        }
    }));
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let targets = Mutex::new(TARGETS.into_iter().filter(|(name, _)| wanted(name)));
    let next = || {
        targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    };
    // As many at once as there are processors, so that 20 s of each take CI less than three minutes.
    let broken: usize = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let thread = std::thread::Builder::new().name(THREAD.to_owned());
                let work = || {
                    std::iter::from_fn(next)
                        .filter(|(name, ready)| !holds(name, *ready, seed, time))
                        .count()
                };
                thread.spawn_scoped(scope, work).expect("a thread")
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(1))
            .sum()
    });
    ExitCode::from(u8::from(broken > 0))
}

/// Whether nothing broke in that time, which it prints. The inputs depend on the seed alone, and not on what else runs.
fn holds(name: &str, ready: Ready, seed: u64, time: Duration) -> bool {
    let (corpus, target) = match catch_unwind(|| (corpus(name), ready())) {
        Ok(started) => started,
        Err(panic) => {
            println!("{name}: cannot start: {}", text(&*panic));
            return false;
        }
    };
    fastrand::seed(seed);
    let start = Instant::now();
    let mut inputs = 0_u64;
    let mut broken = None;
    for input in &corpus {
        inputs += 1;
        broken = broken.or_else(|| breaks(&target, input));
    }
    while broken.is_none() && start.elapsed() < time {
        let input = mutated(&corpus);
        inputs += 1;
        broken = breaks(&target, &input);
    }
    match &broken {
        None => println!(
            "{name}: {inputs} inputs in {:.0} s, nothing broke",
            start.elapsed().as_secs_f64()
        ),
        Some((input, why)) => {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{name}: broke: {why}\n{hex}");
        }
    }
    broken.is_none()
}

/// `60s`, or a number of seconds.
fn seconds(text: &str) -> Option<Duration> {
    text.trim_end_matches('s')
        .parse()
        .ok()
        .map(Duration::from_secs)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder).expect("a folder of the corpus");
    let mut inputs: Vec<_> = files
        .map(|file| std::fs::read(file.expect("an entry").path()).expect("bytes"))
        .collect();
    // Folders list their files in any order, on which the mutations would depend.
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

fn breaks(target: &Target, input: &[u8]) -> Option<(Vec<u8>, String)> {
    let asked = || {
        target(input);
        let panicked = VIEWER_PANICKED.swap(false, Ordering::Relaxed);
        assert!(!panicked, "the viewer panicked, as told above");
    };
    let panic = catch_unwind(AssertUnwindSafe(asked)).err()?;
    Some((input.to_owned(), text(&*panic)))
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

/// An input of the corpus with one to eight changes.
fn mutated(corpus: &[Vec<u8>]) -> Vec<u8> {
    const INTERESTING: [&[u8]; 16] = [
        b"-1",
        b"0",
        b"1e999",
        b"9223372036854775808",
        b"NaN",
        b"null",
        b"true",
        b"\"\"",
        b"[[[[[[[[",
        b"{\"a\":",
        b"%00",
        b"\xff\xfe",
        b"://",
        b"@",
        b"=",
        b",",
    ];
    let mut input = corpus[fastrand::usize(..corpus.len())].clone();
    for _ in 0..fastrand::usize(1..=8) {
        let at = fastrand::usize(..=input.len());
        match fastrand::u8(..7) {
            0 => input.insert(at, fastrand::u8(..)),
            1 if at < input.len() => input[at] ^= 1 << fastrand::u8(..8),
            2 if at < input.len() => drop(input.remove(at)),
            3 => {
                let word = INTERESTING[fastrand::usize(..INTERESTING.len())];
                input.splice(at..at, word.iter().copied());
            }
            4 => {
                let end = fastrand::usize(at..=input.len());
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            5 => input.truncate(at),
            _ => {
                let other = &corpus[fastrand::usize(..corpus.len())];
                let from = fastrand::usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(MAX_BYTES);
    }
    input
}

/// What is read of a job is within its bounds, and is the same again when it is written and read.
fn job(input: &[u8]) {
    let Some(job) = Job::read(input) else {
        return;
    };
    assert_eq!(job.check(), Ok(()));
    assert!((1..=1_000_000_000).contains(&job.total_cents) && job.order_id > 0);
    let written = serde_json::to_vec(&job).expect("a job is JSON");
    let again = Job::read(&written).expect("what was written is read");
    assert_eq!(
        serde_json::to_value(&again).ok(),
        serde_json::to_value(&job).ok()
    );
    let _ = job.waited();
}

/// A plan of a header is within its bounds, and what is refused is refused with a reason.
fn plan_text(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Plan::OFF.overridden(&text) {
        Ok(plan) => assert_eq!(plan.check(), Ok(())),
        Err(reason) => assert!(!reason.is_empty()),
    }
}

/// A plan of a body that passes its check is within its bounds, and is the same again when it is written and read.
fn plan_json(input: &[u8]) {
    let Ok(plan) = serde_json::from_slice::<Plan>(input) else {
        return;
    };
    if plan.check().is_ok() {
        assert!(plan.latency_ms <= Plan::MAX_LATENCY_MS && (0.0..=1.0).contains(&plan.error_rate));
        let written = serde_json::to_vec(&plan).expect("a plan is JSON");
        assert_eq!(
            serde_json::from_slice::<Plan>(&written).expect("a plan"),
            plan
        );
    }
}

/// Variables of `NAME=value` lines: read, or refused with the name of one of them.
fn settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lookup = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| value.to_owned())
    };
    for role in [Role::Api, Role::Worker] {
        if let Err(error) = Settings::from_lookup(role, lookup) {
            assert!(text.contains(&error.name) && !error.allowed.is_empty());
        }
    }
}

/// A URL whose user, password, query and fragment hold the secret: neither refusals nor `Debug` repeat it.
fn link(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (scheme, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let host: String = rest
        .chars()
        .filter(|letter| letter.is_alphanumeric() || ".-:/".contains(*letter))
        .collect();
    if scheme.contains(SECRET) || host.contains(SECRET) || scheme.contains(['/', '@', '?', '#']) {
        return;
    }
    let url = format!("{scheme}://u:{SECRET}@{host}?key={SECRET}#{SECRET}");
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "SIGNALBOX_WORKER_URL",
        "SIGNALBOX_FARO_URL",
        "SIGNALBOX_LINK_LOGS_URL",
    ] {
        let lookup = |variable: &str| (variable == name).then(|| url.clone());
        let told = match Settings::from_lookup(Role::Api, lookup) {
            Ok(settings) => format!("{settings:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!told.contains(SECRET), "{name}: {told}");
        // What is printed can be printed again.
        let printed = SecretUrl::from(url.as_str()).to_string();
        assert_eq!(SecretUrl::from(printed.as_str()).to_string(), printed);
    }
}
