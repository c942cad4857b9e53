//! What the telemetry costs: instructions and processor time a request, of a handler that does nothing, without and with
//! instrumentation. `make bench` writes the table of docs/overhead.md.
//!
//! Each variant is a process of its own with one worker; this process sends it requests over loopback and receives its
//! exports. Instructions are counted by callgrind (valgrind): they do not depend on what else the machine does. Processor
//! time comes from /proc, in rounds that alternate with the bare handler, because a busy machine slows both. Linux only.
//!
//! `… -- quick only=JSON profile=FILE` counts the instructions of the variants whose name has this in it and takes no times;
//! `callgrind_annotate --inclusive=yes FILE` then shows where they go. `… -- sustained` sends requests at a rate instead and
//! says what of their telemetry arrived: see [`sustained`]; `… -- page` reads the page of metrics when it is full: see [`page`].
mod collector;
mod load;
mod page;
mod server;
mod sustained;

use std::fmt::Write as _;
use std::process::Command;

use collector::{Collector, Manner};
use load::load;
use server::{Running, Served, own_program};

#[cfg(target_os = "linux")] // as in the service
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WARM_UP: usize = 10_000;
/// Rounds of processor time, and requests of each. Many short ones: what else the machine does then falls on few of them,
/// and on both servers alike.
const ROUNDS: usize = 60;
const REQUESTS: usize = 2_000;
/// Requests of the two runs under callgrind: the difference leaves start and end out.
const FEW: usize = 1_000;
const MANY: usize = 7_000;

/// One line of the table.
struct Variant {
    name: &'static str,
    served: Served,
    /// Beside `LOG_FORMAT=off`.
    vars: &'static [(&'static str, &'static str)],
    collector: Manner,
    /// Whether callgrind can run it: profilers interrupt it by signals.
    counted: bool,
}

const fn variant(
    name: &'static str,
    served: Served,
    vars: &'static [(&'static str, &'static str)],
) -> Variant {
    Variant {
        name,
        served,
        vars,
        collector: Manner::Takes,
        counted: true,
    }
}

/// All signals, with a collector that does not take them.
const fn failing(name: &'static str, collector: Manner) -> Variant {
    Variant {
        collector,
        ..variant(name, Served::Wrapped, &[])
    }
}

/// Nobody listens there: profiles are taken and given up.
const NOWHERE: (&str, &str) = ("PYROSCOPE_SERVER_ADDRESS", "http://127.0.0.1:1");
/// Batches are sent when they are full, not when a time has passed: how many requests a second has depends on the machine,
/// and under callgrind on what else it does.
const FULL_BATCHES: [(&str, &str); 2] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "600000"),
];
const DISABLED: (&str, &str) = ("OTEL_SDK_DISABLED", "true");

const BARE: Variant = variant("bare handler", Served::Bare, &[DISABLED]);

const VARIANTS: [Variant; 17] = [
    variant("middleware, SDK disabled", Served::Wrapped, &[DISABLED]),
    variant("traces, logs and metrics", Served::Wrapped, &[]),
    variant(
        "… without traces",
        Served::Wrapped,
        &[("OTEL_TRACES_EXPORTER", "none")],
    ),
    variant(
        "… without logs",
        Served::Wrapped,
        &[("OTEL_LOGS_EXPORTER", "none")],
    ),
    variant(
        "… without metrics",
        Served::Wrapped,
        &[("OTEL_METRICS_EXPORTER", "none")],
    ),
    variant(
        "… without exemplars",
        Served::Wrapped,
        &[("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")],
    ),
    variant(
        "… with the stock exporters",
        Served::Wrapped,
        &[("TELEMETRY_EXPORTER", "stock")],
    ),
    variant(
        "… and gzip",
        Served::Wrapped,
        &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")],
    ),
    variant(
        "… and JSON lines on stdout",
        Served::Wrapped,
        &[("LOG_FORMAT", "json")],
    ),
    variant("… and four spans", Served::Spans, &[]),
    variant("… and four records", Served::Records, &[]),
    failing("… and a collector that answers 503", Manner::Away),
    failing("… and a collector that never answers", Manner::Hangs),
    failing(
        "… and a collector that reads 200 bytes a second",
        Manner::Slow,
    ),
    failing("… and no collector", Manner::Refuses),
    Variant {
        counted: false,
        ..variant("… and profiles", Served::Wrapped, &[NOWHERE])
    },
    Variant {
        counted: false,
        ..variant("… and a profile of each span", Served::Marked, &[NOWHERE])
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "serve") {
        let named = |served: &Served| format!("{served:?}") == arguments[at + 1];
        return server::serve(Served::ALL.into_iter().find(named).expect("what to serve"));
    }
    let only = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("only="));
    let quick = arguments.iter().any(|argument| argument == "quick");
    if arguments.iter().any(|argument| argument == "sustained") {
        return sustained::run(&arguments);
    }
    if arguments.iter().any(|argument| argument == "page") {
        return page::run();
    }
    let counting = Command::new("valgrind").arg("--version").output().is_ok();
    if !counting {
        eprintln!("valgrind is not installed: no instructions are counted");
    }
    let profile = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("profile="));
    let bare = counting.then(|| instructions(&BARE, None));
    let mut table = String::from(
        "| variant | instructions | over bare | µs | over bare | resident MB |\n|---|---|---|---|---|---|\n",
    );
    if let Some(bare) = bare {
        let _ = writeln!(table, "| {} | {} | | | | |", BARE.name, thousands(bare));
    }
    let chosen = |variant: &&Variant| only.is_none_or(|only| variant.name.contains(only));
    for variant in VARIANTS.iter().filter(chosen) {
        let counted = bare.filter(|_| variant.counted).map(|bare| {
            let count = instructions(variant, profile);
            format!("{} | {}", thousands(count), thousands(count - bare))
        });
        let counted = counted.unwrap_or_else(|| " | ".to_owned());
        let time = match quick {
            true => " | | ".to_owned(),
            false => time(variant),
        };
        let line = format!("| {} | {counted} | {time} |\n", variant.name);
        eprint!("{line}");
        table.push_str(&line);
    }
    println!("{table}");
    if let Some(page) = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("page="))
    {
        write_into(page, &table);
    }
}

/// Replaces the table of `page`, which stands between two comments.
fn write_into(page: &str, table: &str) {
    let text = std::fs::read_to_string(page).expect("the page");
    let (begin, end) = ("<!-- made by `make bench` -->\n", "<!-- end -->");
    let (before, rest) = text.split_once(begin).expect("where the table begins");
    let (_, after) = rest.split_once(end).expect("where the table ends");
    std::fs::write(page, format!("{before}{begin}\n{table}\n{end}{after}")).expect("is written");
}

/// `12345` as `12,345`.
fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 {
        format!("−{text}")
    } else {
        text
    }
}

/// Instructions a request, those of all threads. What callgrind counted of the longer run is kept in the file `profile`.
fn instructions(variant: &Variant, profile: Option<&str>) -> i64 {
    let (_, collector) = Collector::start(variant.collector);
    let vars = [variant.vars, &FULL_BATCHES].concat();
    let [few, many] = [FEW, MANY].map(|requests| {
        let mut callgrind = Command::new("valgrind");
        let kept = profile.filter(|_| requests == MANY).unwrap_or("/dev/null");
        callgrind
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={kept}"))
            .arg(own_program().get_program());
        let server = Running::start(callgrind, variant.served, &vars, collector);
        load(server.port, requests);
        let said = server.end();
        let collected = said.lines().find_map(|line| line.split_once("Collected :"));
        let collected = collected.unwrap_or_else(|| panic!("callgrind counts:\n{said}"));
        collected.1.trim().parse::<i64>().expect("a count")
    });
    (many - few) / (MANY - FEW) as i64
}

/// Microseconds of processor time a request, what they are over the bare handler's, and resident memory: medians, and in
/// brackets the middle half of the rounds.
fn time(variant: &Variant) -> String {
    let (_, collector) = Collector::start(variant.collector);
    let bare = Running::start(own_program(), BARE.served, BARE.vars, collector);
    let server = Running::start(own_program(), variant.served, variant.vars, collector);
    for server in [&bare, &server] {
        load(server.port, WARM_UP);
    }
    let mut times = Vec::new();
    let mut over = Vec::new();
    for round in 0..ROUNDS {
        let mut pair = [&bare, &server];
        // Neither is always the one that finds the other's caches.
        if round % 2 == 1 {
            pair.reverse();
        }
        let mut taken = pair.map(|server| {
            let before = processor_time(server.id());
            load(server.port, REQUESTS);
            (processor_time(server.id()) - before) as f64 / 1e3 / REQUESTS as f64
        });
        if round % 2 == 1 {
            taken.reverse();
        }
        times.push(taken[1]);
        over.push(taken[1] - taken[0]);
    }
    times.sort_by(f64::total_cmp);
    over.sort_by(f64::total_cmp);
    let memory = resident(server.id());
    let [low, middle, high] = [1, 2, 3].map(|quarter| over[ROUNDS * quarter / 4]);
    let text = format!(
        "{:.1} | {middle:.1} ({low:.1} to {high:.1}) | {memory:.1}",
        times[ROUNDS / 2]
    );
    bare.end();
    server.end();
    text
}

/// Nanoseconds of processor time that the threads of the process have used. `/proc/…/stat` counts in hundredths of a second.
fn processor_time(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("/proc");
    let times = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    times.sum()
}

/// Resident memory of the process in MB.
pub fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.expect("VmRSS").parse::<f64>().expect("a number") * 1024.0 / 1e6
}
