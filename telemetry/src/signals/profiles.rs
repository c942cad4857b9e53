//! CPU and heap profiles: pushed to Pyroscope all the time, and taken on demand.
//!
//! Sampling and symbols are pyroscope-rs' (its backends `pprof-rs` and `jemalloc`). The loop around them is ours: the
//! agent of the crate ends silently when a report fails once, says nothing of failed pushes, and stops only at its next
//! tick. Both ways of taking a CPU profile share the one profiler a process can have.
mod heap;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, KeyValue};
use prost::Message;
use pyroscope::ThreadId;
use pyroscope::backend::{
    BackendConfig, BackendImpl, BackendReady, PprofConfig, Report, ReportBatch, ReportData, Tag,
    ThreadTag, jemalloc_backend, pprof_backend,
};
use pyroscope::encode::r#gen::push::{PushRequest, RawProfileSeries, RawSample};
use pyroscope::encode::r#gen::types::LabelPair;
use pyroscope::encode::pprof;

use crate::Error;
use crate::base::secret_url::SecretUrl;
use crate::base::settings::{Otlp, Profiles};
use crate::base::{gzip, locked};
use crate::pipeline::export;
use crate::pipeline::health::{Cause, Health, Signal};
use crate::signals::Telemetry;

/// Read by jemalloc before `main`, when it is the program's allocator: sample one allocation in 512 KiB on average.
/// Has an effect only with `unprefixed_malloc_on_supported_platforms`, and so not on macOS.
#[cfg(target_os = "linux")]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: Option<&'static std::ffi::c_char> =
    // SAFETY: the first byte of a string that ends in NUL and lives for ever.
    Some(unsafe { &*c"prof:true,prof_active:true,lg_prof_sample:19".as_ptr() });

/// Label of the CPU samples of one span. Pyroscope shows it as `span_id`.
const PROFILE_ID: &str = "profile_id";
/// Attribute of a span whose own CPU samples can be asked for.
const PROFILE_ID_ATTRIBUTE: &str = "pyroscope.profile.id";
/// Label of the route whose work it was.
const ROUTE: &str = "route";

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// This kind is switched off, or not to be had on this system.
    #[error("{0}")]
    Unsupported(&'static str),
    /// There is one profiler, and it takes one profile on demand at a time.
    #[error("another profile is being taken")]
    Busy,
    /// The profiler could not, and says why.
    #[error("{0}")]
    Failed(String),
}

fn failed(error: impl std::fmt::Display) -> ProfileError {
    ProfileError::Failed(error.to_string())
}

/// The CPU profiler, of which a process has one at most.
struct Cpu {
    backend: BackendImpl<BackendReady>,
    samples: Mutex<Samples>,
}

#[derive(Default)]
struct Samples {
    /// Not yet pushed.
    pending: Vec<Report>,
    /// Those that somebody waits for on demand.
    tap: Option<Vec<Report>>,
}

impl Samples {
    /// Whether any that is not yet pushed bears `tag`. From the newest, where it most likely is.
    fn bear(&self, tag: &Tag) -> bool {
        let reports = self.pending.iter().rev();
        let mut stacks = reports.flat_map(|report| report.data.keys());
        stacks.any(|stack| stack.metadata.tags.contains(tag))
    }
}

/// The profilers of the process and what the settings say of them. There can be one CPU profiler, because it owns a signal.
#[derive(Default)]
pub(crate) struct Profiler {
    /// That which runs, if one does.
    cpu: Mutex<Option<Arc<Cpu>>>,
    /// Samples a second; 0 stands for the default.
    sample_rate: u32,
    /// Whether heap profiles may not be taken.
    heap_off: bool,
    /// Whether a profile is being taken on demand.
    on_demand: AtomicBool,
    /// The heap profiler refuses a second caller.
    one_heap: Mutex<()>,
}

impl Profiler {
    pub(crate) fn new(settings: &Profiles) -> Self {
        Self {
            sample_rate: settings.sample_rate,
            heap_off: !settings.heap,
            ..Self::default()
        }
    }

    fn sample_rate(&self) -> u32 {
        match self.sample_rate {
            0 => 100,
            rate => rate,
        }
    }

    fn start_cpu(&self) -> Result<Arc<Cpu>, ProfileError> {
        Cpu::start(self.sample_rate())
    }

    /// What is sampled during `duration`.
    fn watch(&self, duration: Duration) -> Result<Vec<Report>, ProfileError> {
        if self.on_demand.swap(true, Relaxed) {
            return Err(ProfileError::Busy);
        }
        let _one = OnDemand(&self.on_demand);
        let running = locked(&self.cpu).clone();
        match running {
            Some(cpu) => cpu.watch(duration),
            None => self.start_cpu()?.watch(duration), // stops when dropped
        }
    }

    fn heap(&self) -> Result<Vec<u8>, ProfileError> {
        let _one = locked(&self.one_heap);
        match report(&self.heap_backend()?)?.data {
            ReportData::RawPprof(profile) => heap::of_the_program(&profile),
            ReportData::Reports(_) => Err(failed("the heap profiler returned no profile")),
        }
    }

    fn heap_backend(&self) -> Result<BackendImpl<BackendReady>, ProfileError> {
        if self.heap_off {
            let reason = "heap profiles are switched off by PYROSCOPE_PROFILES";
            return Err(ProfileError::Unsupported(reason));
        }
        jemalloc_backend().initialize().map_err(|_| {
            ProfileError::Unsupported(
                "heap profiles need Linux and jemalloc as the program's allocator",
            )
        })
    }

    /// The CPU profile since the last tick; starts the profiler if none runs.
    fn cpu_tick(&self, elapsed: Duration) -> Result<Vec<u8>, ProfileError> {
        let running = locked(&self.cpu).clone();
        let cpu = match running {
            Some(cpu) => cpu,
            None => {
                let cpu = self.start_cpu()?;
                *locked(&self.cpu) = Some(Arc::clone(&cpu));
                cpu
            }
        };
        match cpu.take() {
            Ok(reports) => Ok(gzip(&encode(&reports, self.sample_rate(), elapsed))),
            Err(error) => {
                *locked(&self.cpu) = None; // a new one at the next tick
                Err(error)
            }
        }
    }
}

/// Allows one profile on demand at a time.
struct OnDemand<'a>(&'a AtomicBool);

impl Drop for OnDemand<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Cpu {
    fn start(sample_rate: u32) -> Result<Arc<Self>, ProfileError> {
        let backend = pprof_backend(PprofConfig { sample_rate }, BackendConfig::default());
        Ok(Arc::new(Self {
            backend: backend.initialize().map_err(failed)?,
            samples: Mutex::default(),
        }))
    }

    /// Moves what the profiler has collected to where it is waited for. Returns whether anything not yet pushed bears
    /// `tag`: another drain may have come before this one.
    fn drain(&self, tag: Option<&Tag>) -> Result<bool, ProfileError> {
        let mut samples = locked(&self.samples);
        let batch = report(&self.backend)?;
        let ReportData::Reports(reports) = batch.data else {
            return Err(failed("the CPU profiler returned no reports"));
        };
        if let Some(tap) = &mut samples.tap {
            tap.extend(reports.iter().cloned());
        }
        samples.pending.extend(reports);
        Ok(tag.is_some_and(|tag| samples.bear(tag)))
    }

    fn take(&self) -> Result<Vec<Report>, ProfileError> {
        self.drain(None)?;
        Ok(std::mem::take(&mut locked(&self.samples).pending))
    }

    /// What is sampled during `duration`.
    fn watch(&self, duration: Duration) -> Result<Vec<Report>, ProfileError> {
        self.drain(None)?;
        locked(&self.samples).tap = Some(Vec::new());
        std::thread::sleep(duration);
        let drained = self.drain(None);
        let tap = locked(&self.samples).tap.take();
        drained.map(|_| tap.unwrap_or_default())
    }

    fn tag(&self, tag: Tag, add: bool) {
        let tag = ThreadTag::new(ThreadId::pthread_self(), tag);
        // A missing label is no reason to fail the work that it would have marked.
        let _ = if add {
            self.backend.add_tag(tag)
        } else {
            self.backend.remove_tag(tag)
        };
    }
}

fn report(backend: &BackendImpl<BackendReady>) -> Result<ReportBatch, ProfileError> {
    let mut backend = locked(&backend.backend);
    let backend = backend
        .as_mut()
        .ok_or_else(|| failed("the profiler has been shut down"))?;
    backend.report().map_err(failed)
}

/// CPU profile of the next `duration` as gzipped pprof. Blocks that long: call it on a blocking thread.
///
/// # Errors
/// [`ProfileError::Busy`] while another one is being taken.
pub fn cpu(duration: Duration) -> Result<Vec<u8>, ProfileError> {
    let telemetry = Telemetry::current();
    let profiler = &telemetry.profiler;
    let reports = profiler.watch(duration)?;
    Ok(gzip(&encode(&reports, profiler.sample_rate(), duration)))
}

/// CPU profile of the next `duration` as an SVG flame graph; one without frames if the process slept all the time. Blocks
/// that long.
///
/// # Errors
/// As [`cpu`].
pub fn cpu_flamegraph(duration: Duration) -> Result<Vec<u8>, ProfileError> {
    draw(
        &folded(&Telemetry::current().profiler.watch(duration)?),
        duration,
    )
}

fn draw(stacks: &[String], duration: Duration) -> Result<Vec<u8>, ProfileError> {
    let title = format!("CPU samples in {} s", duration.as_secs_f64());
    if stacks.is_empty() {
        // The library takes no stacks for an error.
        let svg = format!(
            "<?xml version=\"1.0\" standalone=\"no\"?>\n\
             <svg version=\"1.1\" width=\"1200\" height=\"72\" xmlns=\"http://www.w3.org/2000/svg\">\
             <text x=\"600\" y=\"24\" text-anchor=\"middle\" font-size=\"17\">{title}</text>\
             <text x=\"600\" y=\"54\" text-anchor=\"middle\" font-size=\"12\">none: the process was idle</text></svg>\n"
        );
        return Ok(svg.into_bytes());
    }
    let mut svg = Vec::new();
    let mut options = inferno::flamegraph::Options::default();
    options.title = title;
    inferno::flamegraph::from_lines(&mut options, stacks.iter().map(String::as_str), &mut svg)
        .map_err(failed)?;
    Ok(svg)
}

/// What is allocated now, by allocation site, as gzipped pprof.
///
/// # Errors
/// [`ProfileError::Unsupported`] when it is switched off or jemalloc does not profile here.
pub fn heap() -> Result<Vec<u8>, ProfileError> {
    Telemetry::current().profiler.heap()
}

/// Lines of `outermost;…;innermost count`.
fn folded(reports: &[Report]) -> Vec<String> {
    let mut stacks: HashMap<String, usize> = HashMap::new();
    for (stack, count) in reports.iter().flat_map(|report| &report.data) {
        let names: Vec<_> = stack
            .frames
            .iter()
            .rev()
            .map(|frame| frame.name.as_deref().unwrap_or("?"))
            .collect();
        *stacks.entry(names.join(";")).or_default() += count;
    }
    stacks
        .into_iter()
        .map(|(stack, count)| format!("{stack} {count}"))
        .collect()
}

/// `reports`, which end now and cover `duration`, as pprof.
fn encode(reports: &Vec<Report>, sample_rate: u32, duration: Duration) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let start = now.saturating_sub(duration).as_nanos() as u64;
    pprof::encode(reports, sample_rate, start, duration.as_nanos() as u64).encode_to_vec()
}

/// Runs `work` with its CPU samples marked as the current span's and the route's. Only for work that stays on this
/// OS thread: call it inside `web::block`, in the span's scope, and never around an `.await`. Marking costs 0.06 to some
/// ms, so mark only what burns CPU. Does nothing more than run `work` when no CPU profiler runs.
///
/// The span gets the attribute by which its profile is found only if it really has samples; then the id in it is returned too. The first spans
/// of a process have none: the setting `PYROSCOPE_PROFILES` says why.
pub fn span_scope<R>(route: &str, work: impl FnOnce() -> R) -> (R, Option<String>) {
    let telemetry = Telemetry::current();
    let running = locked(&telemetry.profiler.cpu).clone();
    let Some(cpu) = running else {
        return (work(), None);
    };
    let context = Context::current();
    let span = context.span();
    if !span.span_context().is_sampled() {
        return (work(), None);
    }
    let id = span.span_context().span_id().to_string();
    let tags = [
        Tag::new(PROFILE_ID.to_owned(), id.clone()),
        Tag::new(ROUTE.to_owned(), route.to_owned()),
    ];
    let marked = Marked::new(&cpu, &tags);
    let before = thread_cpu_time();
    let result = work();
    // Less than half a sample's time has hardly been sampled: not worth looking.
    let used = thread_cpu_time().saturating_sub(before);
    let worth = used >= Duration::from_secs(1) / (2 * telemetry.profiler.sample_rate());
    let found = worth && cpu.drain(Some(&tags[0])).unwrap_or(false);
    drop(marked);
    if !found {
        return (result, None);
    }
    span.set_attribute(KeyValue::new(PROFILE_ID_ATTRIBUTE, id.clone()));
    (result, Some(id))
}

/// Marks this thread's samples until dropped, also when the work panics.
struct Marked<'a> {
    cpu: &'a Cpu,
    tags: &'a [Tag],
}

impl<'a> Marked<'a> {
    fn new(cpu: &'a Cpu, tags: &'a [Tag]) -> Self {
        tags.iter().for_each(|tag| cpu.tag(tag.clone(), true));
        Self { cpu, tags }
    }
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        self.tags
            .iter()
            .for_each(|tag| self.cpu.tag(tag.clone(), false));
    }
}

/// Processor time this thread has used. Where the system does not say, time that has passed stands for it.
fn thread_cpu_time() -> Duration {
    let nanos = || {
        let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        stat.split(' ').next()?.parse().ok()
    };
    match nanos() {
        Some(nanos) => Duration::from_nanos(nanos),
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    }
}

/// The threads that push.
#[derive(Default)]
pub(crate) struct Agents(Vec<Agent>);

struct Agent {
    name: &'static str,
    stop: Sender<()>,
    thread: JoinHandle<Result<(), String>>,
}

type Shutdown = (&'static str, Box<dyn FnOnce() -> Result<(), String> + Send>);

impl Agents {
    /// One job an agent: push what is left, and end.
    pub(crate) fn into_shutdowns(self) -> Vec<Shutdown> {
        let jobs = self.0.into_iter().map(|agent| {
            let job = move || {
                let _ = agent.stop.send(()); // an agent that has ended says so below
                agent
                    .thread
                    .join()
                    .map_err(|_| "the thread panicked".to_owned())?
            };
            (
                agent.name,
                Box::new(job) as Box<dyn FnOnce() -> Result<(), String> + Send>,
            )
        });
        jobs.collect()
    }
}

/// Starts pushing what the settings ask for. Returns what pushes, and what is asked for and cannot be had.
pub(crate) fn start(
    settings: &Profiles,
    resource: &BTreeMap<String, String>,
    health: &Health,
    telemetry: &Arc<Telemetry>,
) -> Result<(Agents, Option<String>), Error> {
    // A reference, so that the linker takes the file that holds it.
    #[cfg(target_os = "linux")]
    std::hint::black_box(&MALLOC_CONF);
    if !settings.heap {
        // SAFETY: `prof.active` takes a bool. It fails where jemalloc does not profile: then there is nothing to stop.
        let _ = unsafe { tikv_jemalloc_ctl::raw::write(b"prof.active\0", false) };
    }
    let Some(url) = &settings.url else {
        return Ok((Agents::default(), None));
    };
    let mut missing = None;
    let pusher = Pusher {
        client: export::client(&Otlp {
            endpoint: url.clone(),
            timeout: settings.interval.min(Duration::from_secs(10)),
            ..Otlp::default()
        })?,
        url: url.with_path("/push.v1.PusherService/Push"),
        labels: labels(resource),
        signal: Arc::clone(&health.profiles),
    };
    let mut agents = Agents::default();
    let profiled = Arc::clone(telemetry);
    if settings.cpu {
        agents.0.push(agent(
            "cpu profiles",
            "process_cpu",
            settings.interval,
            pusher.clone(),
            move |elapsed| profiled.profiler.cpu_tick(elapsed),
        )?);
    }
    if settings.heap {
        let profiled = Arc::clone(telemetry);
        match telemetry.profiler.heap_backend() {
            Ok(_) => agents.0.push(agent(
                "heap profiles",
                "memory",
                settings.interval,
                pusher,
                move |_| profiled.profiler.heap(),
            )?),
            Err(error) => missing = Some(format!("no heap profiles: {error}")),
        }
    }
    Ok((agents, missing))
}

/// Labels of every profile: what tells services and versions apart, and where Pyroscope's source view looks for the code.
fn labels(resource: &BTreeMap<String, String>) -> Vec<LabelPair> {
    let names = [
        ("service.name", "service_name"),
        ("service.namespace", "service_namespace"),
        ("service.version", "service_version"),
        ("deployment.environment.name", "deployment_environment_name"),
        ("host.name", "host_name"),
        ("vcs.repository.url.full", "service_repository"),
        ("vcs.ref.head.revision", "service_git_ref"),
        ("service.root_path", "service_root_path"), // the conventions have no name for it
    ];
    let labels = names.iter().filter_map(|(attribute, label)| {
        Some(LabelPair {
            name: (*label).to_owned(),
            value: resource.get(*attribute)?.clone(),
        })
    });
    labels.collect()
}

fn agent(
    name: &'static str,
    kind: &'static str,
    interval: Duration,
    pusher: Pusher,
    tick: impl Fn(Duration) -> Result<Vec<u8>, ProfileError> + Send + 'static,
) -> Result<Agent, Error> {
    let (stop, stopped) = mpsc::channel();
    let run = move || {
        // The first tick starts the profiler; its profile is empty and not pushed.
        if let Err(error) = guarded(|| tick(Duration::ZERO)) {
            tracing::warn!(target: "telemetry", "{name}: {error}");
        }
        let mut since = std::time::Instant::now();
        loop {
            let last = stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
            let elapsed = since.elapsed();
            since = std::time::Instant::now();
            let taken = guarded(|| tick(elapsed)).map_err(|message| (Cause::Other, message));
            let result = taken.and_then(|profile| pusher.send(kind, profile));
            let failure = result.as_ref().err().cloned();
            let lost = u64::from(failure.is_some());
            pusher.signal.count(1, lost, failure);
            if last {
                return result.map_err(|(_, message)| message);
            }
        }
    };
    let thread = std::thread::Builder::new().spawn(run);
    let thread = thread.map_err(|error| Error(format!("no thread for {name}: {error}")))?;
    Ok(Agent { name, stop, thread })
}

/// A panic must not end the thread that pushes for the rest of the program's life.
fn guarded<T>(f: impl FnOnce() -> Result<T, ProfileError>) -> Result<T, String> {
    match std::panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the profiler panicked".to_owned()),
    }
}

/// Sends profiles to Pyroscope, or to what receives in its place.
#[derive(Clone)]
struct Pusher {
    client: reqwest::blocking::Client,
    url: SecretUrl,
    labels: Vec<LabelPair>,
    signal: Arc<Signal>,
}

impl Pusher {
    fn send(&self, kind: &str, raw_profile: Vec<u8>) -> Result<(), (Cause, String)> {
        let name = LabelPair {
            name: "__name__".to_owned(),
            value: kind.to_owned(),
        };
        let request = PushRequest {
            series: vec![RawProfileSeries {
                labels: [vec![name], self.labels.clone()].concat(),
                samples: vec![RawSample {
                    raw_profile,
                    id: uuid::Uuid::new_v4().to_string(),
                }],
            }],
        };
        let response = self
            .client
            .post(self.url.expose())
            .header("Content-Type", "application/proto")
            .header("Content-Encoding", "gzip")
            .body(gzip(&request.encode_to_vec()))
            .send()
            .map_err(|error| export::cause(error, &self.url))?;
        export::refusal(response.status().as_u16()).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyroscope::backend::{StackFrame, StackTrace};

    #[test]
    fn stacks_fold_from_the_outermost_frame() {
        let frame = |name: &str| StackFrame {
            name: Some(name.to_owned()),
            ..StackFrame::default()
        };
        let stack = |names: &[&str]| StackTrace {
            frames: names.iter().map(|name| frame(name)).collect(),
            ..StackTrace::default()
        };
        let data = HashMap::from([(stack(&["inner", "main"]), 2), (stack(&["main"]), 1)]);
        let mut lines = folded(&[Report::new(data)]);
        lines.sort();
        assert_eq!(lines, ["main 1", "main;inner 2"]);
    }

    #[test]
    fn a_graph_of_no_samples_is_a_graph() {
        let of = |stacks: &[String]| {
            String::from_utf8(draw(stacks, Duration::from_secs(2)).unwrap()).unwrap()
        };
        let empty = of(&[]);
        assert!(
            empty.contains("<svg") && empty.trim_end().ends_with("</svg>"),
            "{empty}"
        );
        assert!(empty.contains("CPU samples in 2 s") && empty.contains("the process was idle"));
        assert!(of(&["main;inner 3".to_owned()]).contains("inner (3 samples"));
    }

    #[test]
    fn a_tag_is_found_in_all_that_waits() {
        let tag = |value: &str| Tag::new(PROFILE_ID.to_owned(), value.to_owned());
        let mut stack = StackTrace::default();
        stack.metadata.tags.insert(tag("a"));
        let mut samples = Samples::default();
        samples
            .pending
            .push(Report::new(HashMap::from([(stack, 1)])));
        samples.pending.push(Report::new(HashMap::new()));
        assert!(samples.bear(&tag("a")));
        assert!(!samples.bear(&tag("b")));
    }

    #[test]
    fn a_profile_that_cannot_be_taken_is_lost_and_counted() {
        let signal = Arc::new(Signal::default());
        let pusher = Pusher {
            client: export::client(&Otlp::default()).unwrap(),
            url: SecretUrl::default(),
            labels: Vec::new(),
            signal: Arc::clone(&signal),
        };
        let never = Duration::from_secs(3600);
        let agent = agent("test", "none", never, pusher, |_| {
            Err(failed("no profiler"))
        });
        let (_, shutdown) = Agents(vec![agent.unwrap()]).into_shutdowns().remove(0);
        assert_eq!(shutdown(), Err("no profiler".to_owned()));
        assert_eq!(signal.lost(), 1);
    }

    #[test]
    fn labels_are_those_of_the_resource() {
        let resource = BTreeMap::from([
            ("service.name".to_owned(), "s".to_owned()),
            ("service.version".to_owned(), "1".to_owned()),
            ("process.pid".to_owned(), "7".to_owned()),
            ("vcs.repository.url.full".to_owned(), "r".to_owned()),
            ("vcs.ref.head.revision".to_owned(), "c0ffee".to_owned()),
            ("service.root_path".to_owned(), "p".to_owned()),
        ]);
        let labels: Vec<_> = labels(&resource)
            .into_iter()
            .map(|label| (label.name, label.value))
            .collect();
        let expected = [
            ("service_name", "s"),
            ("service_version", "1"),
            ("service_repository", "r"),
            ("service_git_ref", "c0ffee"),
            ("service_root_path", "p"),
        ];
        assert_eq!(
            labels,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
