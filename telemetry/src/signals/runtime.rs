//! What the process itself costs: operating system, tokio, allocator.
use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
#[cfg(feature = "profiles")]
use tikv_jemalloc_ctl::{epoch, stats};
use tokio::runtime::{Handle, RuntimeMetrics};

use crate::base::locked;

/// Declares all of them. `prefix` starts the names that OpenTelemetry has none for.
pub(crate) fn observe(meter: &Meter, prefix: &str, runtimes: &Arc<Runtimes>) {
    process(meter);
    tokio_runtimes(meter, prefix, runtimes);
    #[cfg(feature = "profiles")]
    jemalloc(meter, prefix);
}

/// Linux counts processor time in hundredths of a second for all its user-space interfaces.
const TICKS_PER_SECOND: f64 = 100.0;

/// `/proc/self/stat` and `/proc/self/status`, as far as we use them; nothing on other systems.
#[derive(Debug, Default, PartialEq)]
struct Process {
    user_seconds: f64,
    system_seconds: f64,
    minor_faults: u64,
    major_faults: u64,
    threads: i64,
    resident_bytes: i64,
    virtual_bytes: i64,
}

impl Process {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        Self::parse(&stat, &status)
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<i64>().ok()
        };
        Some(Self {
            minor_faults: field(10)?,
            major_faults: field(12)?,
            user_seconds: field(14)? as f64 / TICKS_PER_SECOND,
            system_seconds: field(15)? as f64 / TICKS_PER_SECOND,
            threads: field(20)? as i64,
            resident_bytes: kib("VmRSS:")? * 1024,
            virtual_bytes: kib("VmSize:")? * 1024,
        })
    }
}

fn process(meter: &Meter) {
    let started = Instant::now();
    meter
        .f64_observable_gauge("process.uptime")
        .with_unit("s")
        .with_description("The time the process has been running.")
        .with_callback(move |observer| observer.observe(started.elapsed().as_secs_f64(), &[]))
        .build();
    if Process::read().is_none() {
        return; // no /proc here
    }
    meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("Total CPU seconds broken down by different states.")
        .with_callback(|observer| {
            if let Some(process) = Process::read() {
                observer.observe(process.user_seconds, &[KeyValue::new("cpu.mode", "user")]);
                observer.observe(
                    process.system_seconds,
                    &[KeyValue::new("cpu.mode", "system")],
                );
            }
        })
        .build();
    meter
        .u64_observable_counter("process.paging.faults")
        .with_unit("{fault}")
        .with_description("Number of page faults the process has made.")
        .with_callback(|observer| {
            if let Some(process) = Process::read() {
                observer.observe(
                    process.minor_faults,
                    &[KeyValue::new("system.paging.fault.type", "minor")],
                );
                observer.observe(
                    process.major_faults,
                    &[KeyValue::new("system.paging.fault.type", "major")],
                );
            }
        })
        .build();
    let read = |of: fn(Process) -> i64| move || Process::read().map(of);
    let memory = "process.memory.usage".to_owned();
    let help = "The amount of physical memory in use.";
    amount(meter, memory, "By", help, read(|of| of.resident_bytes));
    let virtual_memory = "process.memory.virtual".to_owned();
    let help = "The amount of committed virtual memory.";
    amount(
        meter,
        virtual_memory,
        "By",
        help,
        read(|of| of.virtual_bytes),
    );
    let threads = "process.thread.count".to_owned();
    let help = "Process threads count.";
    amount(meter, threads, "{thread}", help, read(|of| of.threads));
    let files = "process.unix.file_descriptor.count".to_owned();
    let help = "Number of unix file descriptors in use by the process.";
    amount(meter, files, "{file_descriptor}", help, || {
        Some(fs::read_dir("/proc/self/fd").ok()?.count() as i64)
    });
}

fn amount(
    meter: &Meter,
    name: String,
    unit: &'static str,
    description: &'static str,
    read: impl Fn() -> Option<i64> + Send + Sync + 'static,
) {
    meter
        .i64_observable_up_down_counter(name)
        .with_unit(unit)
        .with_description(description)
        .with_callback(move |observer| {
            if let Some(value) = read() {
                observer.observe(value, &[]);
            }
        })
        .build();
}

/// The runtimes that serve requests: actix-web gives each of its workers one. The program's own, where it waits for its end
/// and works in the background, is not among them: it is mostly idle, and would hide that all that serve are busy.
#[derive(Default)]
pub(crate) struct Runtimes(Mutex<HashMap<ThreadId, RuntimeMetrics>>);

impl Runtimes {
    /// Adds the runtime of this thread to the observed ones, once.
    pub(crate) fn register_current(&self) {
        if let Ok(handle) = Handle::try_current() {
            let mut runtimes = locked(&self.0);
            let runtime = runtimes.entry(std::thread::current().id());
            runtime.or_insert_with(|| handle.metrics());
        }
    }

    fn sum<T: std::iter::Sum>(&self, read: impl Fn(&RuntimeMetrics) -> T) -> T {
        locked(&self.0).values().map(read).sum()
    }

    fn over_workers<T: std::iter::Sum>(&self, read: impl Fn(&RuntimeMetrics, usize) -> T) -> T {
        self.sum(|runtime| {
            (0..runtime.num_workers())
                .map(|worker| read(runtime, worker))
                .sum()
        })
    }
}

fn tokio_runtimes(meter: &Meter, prefix: &str, runtimes: &Arc<Runtimes>) {
    type Amount = (
        &'static str,
        &'static str,
        &'static str,
        fn(&Runtimes) -> usize,
    );
    let amounts: [Amount; 3] = [
        (
            "worker.count",
            "{worker}",
            "Threads that serve requests.",
            |runtimes| runtimes.sum(RuntimeMetrics::num_workers),
        ),
        (
            "task.active",
            "{task}",
            "Tasks on the threads that serve requests that have not finished.",
            |runtimes| runtimes.sum(RuntimeMetrics::num_alive_tasks),
        ),
        (
            "global_queue.size",
            "{task}",
            "Tasks that wait in the global queues of the threads that serve requests.",
            |runtimes| runtimes.sum(RuntimeMetrics::global_queue_depth),
        ),
    ];
    for (name, unit, description, read) in amounts {
        let name = format!("{prefix}.tokio.{name}");
        let runtimes = Arc::clone(runtimes);
        let read = move || Some(read(&runtimes) as i64);
        amount(meter, name, unit, description, read);
    }
    let observed = Arc::clone(runtimes);
    meter
        .f64_observable_counter(format!("{prefix}.tokio.worker.busy_time"))
        .with_unit("s")
        .with_description("Time the threads that serve requests spent running tasks.")
        .with_callback(move |observer| {
            let busy = |runtime: &RuntimeMetrics, worker| {
                runtime.worker_total_busy_duration(worker).as_secs_f64()
            };
            observer.observe(observed.over_workers(busy), &[]);
        })
        .build();
    let observed = Arc::clone(runtimes);
    meter
        .u64_observable_counter(format!("{prefix}.tokio.worker.park.count"))
        .with_unit("{park}")
        .with_description(
            "Times the threads that serve requests had nothing to do and went to sleep.",
        )
        .with_callback(move |observer| {
            let parked = observed.over_workers(RuntimeMetrics::worker_park_count);
            observer.observe(parked, &[]);
        })
        .build();
}

#[cfg(feature = "profiles")]
fn jemalloc(meter: &Meter, prefix: &str) {
    type Read = fn() -> tikv_jemalloc_ctl::Result<usize>;
    let kinds: [(&str, &'static str, Read); 5] = [
        (
            "allocated",
            "Memory the program has asked for.",
            stats::allocated::read,
        ),
        (
            "active",
            "Memory in pages that hold any allocation.",
            stats::active::read,
        ),
        (
            "resident",
            "Physical memory the allocator holds.",
            stats::resident::read,
        ),
        (
            "mapped",
            "Memory the allocator has mapped.",
            stats::mapped::read,
        ),
        (
            "retained",
            "Address space kept for reuse without memory behind it.",
            stats::retained::read,
        ),
    ];
    for (kind, description, read) in kinds {
        amount(
            meter,
            format!("{prefix}.jemalloc.{kind}"),
            "By",
            description,
            move || {
                // jemalloc's statistics stand still until the epoch is advanced.
                epoch::advance().ok()?;
                read().ok().map(|bytes| bytes as i64)
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_files_are_read_by_position() {
        let stat = "1 (a b) c) S 0 1 1 0 -1 4194304 700 0 3 0 250 125 0 0 20 0 9 0 1 2 3";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        let expected = Process {
            user_seconds: 2.5,
            system_seconds: 1.25,
            minor_faults: 700,
            major_faults: 3,
            threads: 9,
            resident_bytes: 1 << 20,
            virtual_bytes: 2 << 20,
        };
        assert_eq!(Process::parse(stat, status), Some(expected));
    }

    #[tokio::test]
    async fn a_runtime_is_counted_once() {
        let runtimes = Runtimes::default();
        runtimes.register_current();
        runtimes.register_current();
        assert_eq!(runtimes.sum(|_| 1), 1);
        assert_eq!(runtimes.over_workers(|_, _| 1), 1);
    }
}
