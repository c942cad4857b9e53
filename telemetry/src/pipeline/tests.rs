//! From the threads' buffers to a collector, over real sockets.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;

use super::buffers::Buffers;
use super::encoding::{self, Run};
use super::exporter;
use super::health::Signal;
use super::queue::Queue;
use super::transport::Transport;
use crate::base::settings::{Batch, Otlp};

const LONG: Duration = Duration::from_secs(30);

fn batch() -> Batch {
    Batch {
        delay: Duration::from_secs(3600), // tests flush
        queue_bytes: 1024 * 1024,
        queue_items: usize::MAX,
        size: 8,
        timeout: LONG,
    }
}

fn span(name: String) -> SpanData {
    SpanData {
        name: name.into(),
        ..encoding::tests::plain(1)
    }
}

fn push(buffers: &Buffers, name: String) {
    let span = span(name);
    buffers.push(&span.instrumentation_scope, None, |out| {
        encoding::span(out, &span, None)
    });
}

/// What a collector does with a request.
enum Answer {
    Status(u16),
    Body(Vec<u8>),
    /// Closes the connection.
    Break,
    /// Never answers.
    Hang,
}

/// A collector that answers as `answers` say, and 200 from then on. Returns what it took, request by request.
fn collector(answers: Vec<Answer>, gzip: bool) -> (Otlp, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let otlp = Otlp {
        endpoint: format!("http://{}/v1/traces", listener.local_addr().unwrap()).into(),
        timeout: LONG,
        gzip,
        ..Otlp::default()
    };
    let (taken, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        let mut hanging = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some((head, body)) = request(&mut reader) {
                let (status, answer) = match answers.next().unwrap_or(Answer::Status(200)) {
                    Answer::Status(status) => (status, Vec::new()),
                    Answer::Body(body) => (200, body),
                    Answer::Break => break,
                    Answer::Hang => {
                        hanging.push(stream);
                        break;
                    }
                };
                if status == 200 {
                    assert_eq!(head.contains("content-encoding: gzip"), gzip);
                    let _ = taken.send(names(&body, gzip));
                }
                respond(&stream, status, &answer);
            }
        }
    });
    (otlp, requests)
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .to_lowercase()
        .split_once("content-length: ")?
        .1
        .to_owned();
    let mut body = vec![0; length.lines().next()?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((head.to_lowercase(), body))
}

fn respond(mut stream: &TcpStream, status: u16, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} X\r\nretry-after: 0\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

fn names(body: &[u8], gzip: bool) -> Vec<String> {
    let mut plain = Vec::new();
    match gzip {
        true => flate2::read::GzDecoder::new(body)
            .read_to_end(&mut plain)
            .unwrap(),
        false => plain.write(body).unwrap(),
    };
    let request = ExportTraceServiceRequest::decode(plain.as_slice()).unwrap();
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes
        .flat_map(|scope| &scope.spans)
        .map(|span| span.name.clone())
        .collect()
}

struct Pipeline {
    buffers: Arc<Buffers>,
    queue: Arc<Queue>,
    counts: Arc<Signal>,
}

fn pipeline(otlp: &Otlp, batch: Batch) -> Pipeline {
    let counts = Arc::<Signal>::default();
    let queue = Queue::new(batch, |_| true, &counts);
    let buffers = Arc::new(Buffers::new(vec![Arc::clone(&queue)]));
    let transport = Transport::new(otlp).unwrap();
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("a", "b"))
        .build();
    exporter::start("traces", &buffers, &queue, transport, &resource).unwrap();
    Pipeline {
        buffers,
        queue,
        counts,
    }
}

fn names_of(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("span {n}")).collect()
}

#[test]
fn what_the_collector_cannot_take_is_sent_again_in_its_order() {
    for gzip in [false, true] {
        let answers = [429, 502, 503, 504].map(Answer::Status);
        let answers = answers.into_iter().chain([Answer::Break]).collect();
        let (otlp, requests) = collector(answers, gzip);
        let pipeline = pipeline(&otlp, batch());
        names_of(20)
            .into_iter()
            .for_each(|name| push(&pipeline.buffers, name));
        pipeline.queue.flush(LONG).unwrap();
        let taken: Vec<_> = requests.try_iter().collect();
        assert_eq!(
            taken.iter().map(Vec::len).collect::<Vec<_>>(),
            [8, 8, 4],
            "batches of 8"
        );
        assert_eq!(taken.concat(), names_of(20), "each once");
        assert_eq!(
            (pipeline.counts.exported(), pipeline.counts.lost()),
            (20, 0)
        );
        assert_eq!(pipeline.counts.queued(), 0);
    }
}

#[test]
fn what_the_collector_refuses_is_not_sent_again() {
    for status in [400, 401, 404, 413, 500, 501, 301] {
        let (otlp, requests) = collector(vec![Answer::Status(status)], false);
        let pipeline = pipeline(&otlp, batch());
        push(&pipeline.buffers, "refused".to_owned());
        pipeline.queue.flush(LONG).unwrap_err();
        push(&pipeline.buffers, "taken".to_owned());
        pipeline.queue.flush(LONG).unwrap();
        assert_eq!(
            requests.try_iter().collect::<Vec<_>>(),
            [["taken"]],
            "{status}"
        );
        assert_eq!((pipeline.counts.exported(), pipeline.counts.lost()), (1, 1));
    }
}

#[test]
fn what_the_collector_rejects_of_a_batch_is_counted() {
    let answer = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 2,
            error_message: "too old".to_owned(),
        }),
    };
    let (otlp, requests) = collector(vec![Answer::Body(answer.encode_to_vec())], false);
    let pipeline = pipeline(&otlp, batch());
    names_of(3)
        .into_iter()
        .for_each(|name| push(&pipeline.buffers, name));
    pipeline.queue.flush(LONG).unwrap();
    assert_eq!(
        requests.try_iter().count(),
        1,
        "a partial success is not repeated"
    );
    assert_eq!((pipeline.counts.exported(), pipeline.counts.lost()), (1, 2));
}

#[test]
fn an_odd_answer_changes_nothing() {
    let deep = vec![3 << 3 | 3; 60_000];
    let answers = [deep, b"<html>".to_vec(), vec![0; 3 * 1024 * 1024]].map(Answer::Body);
    let (otlp, requests) = collector(answers.into(), false);
    let pipeline = pipeline(&otlp, batch());
    for n in 0..3_u64 {
        push(&pipeline.buffers, "a".to_owned());
        pipeline.queue.flush(LONG).unwrap();
        assert_eq!(
            (pipeline.counts.exported(), pipeline.counts.lost()),
            (n + 1, 0)
        );
    }
    assert_eq!(requests.try_iter().count(), 3);
}

#[test]
fn a_collector_that_hangs_costs_the_shutdown_no_more_than_its_time() {
    let (otlp, _requests) = collector(vec![Answer::Hang], false);
    let pipeline = pipeline(&otlp, batch());
    names_of(9)
        .into_iter()
        .for_each(|name| push(&pipeline.buffers, name));
    pipeline
        .queue
        .shut_down(Duration::from_millis(200))
        .unwrap_err();
    // The thread counts what it had no time for, and takes nothing more.
    pipeline.queue.join();
    assert_eq!((pipeline.counts.exported(), pipeline.counts.lost()), (0, 9));
    push(&pipeline.buffers, "too late".to_owned());
    pipeline.buffers.drain();
    assert_eq!((pipeline.counts.queued(), pipeline.counts.lost()), (0, 10));
}

#[test]
fn a_file_without_certificates_is_refused() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let otlp = Otlp {
        certificate: Some(file.into()),
        ..Otlp::default()
    };
    let error = Transport::new(&otlp).err().unwrap().to_string();
    let expected = format!(
        "telemetry cannot start: OTEL_EXPORTER_OTLP_CERTIFICATE, or that of the signal: {file}: no certificate in PEM format"
    );
    assert_eq!(error, expected);
}

#[test]
fn a_queue_closes_when_nothing_waits() {
    let pipeline = full_queue(batch());
    push(&pipeline.buffers, "late".to_owned());
    pipeline.buffers.drain();
    assert!(pipeline.queue.close().is_none());
    assert_eq!(waiting(&pipeline), ["late"]);
    assert!(pipeline.queue.close().is_some());
}

#[test]
fn who_drains_finds_all_in_the_queue_also_beside_others_who_drain() {
    let pipeline = full_queue(batch());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                pipeline.buffers.drain();
            }
        });
        let found = (1..=1_000).all(|n| {
            push(&pipeline.buffers, "a".to_owned());
            pipeline.buffers.drain();
            pipeline.counts.queued() == n
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(found, "{} queued", pipeline.counts.queued());
    });
}

/// A queue that nobody empties.
fn full_queue(batch: Batch) -> Pipeline {
    let counts = Arc::<Signal>::default();
    let queue = Queue::new(batch, |_| true, &counts);
    let buffers = Arc::new(Buffers::new(vec![Arc::clone(&queue)]));
    Pipeline {
        buffers,
        queue,
        counts,
    }
}

fn waiting(pipeline: &Pipeline) -> Vec<String> {
    pipeline.buffers.drain();
    let mut names = Vec::new();
    while let Some(taken) = pipeline.queue.take() {
        for chunk in &taken.chunks {
            for (_, items) in pipeline.queue.taken(chunk) {
                for item in encoding::items(items) {
                    let span = opentelemetry_proto::tonic::trace::v1::Span::decode(item).unwrap();
                    names.push(span.name);
                }
            }
        }
        pipeline.queue.release();
    }
    names
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let pipeline = full_queue(Batch {
        queue_bytes: 64 * 1024,
        ..batch()
    });
    let names = names_of(2000);
    names
        .iter()
        .for_each(|name| push(&pipeline.buffers, name.clone()));
    let kept = waiting(&pipeline);
    assert_eq!(
        kept,
        names[names.len() - kept.len()..],
        "the newest, in their order"
    );
    let dropped = pipeline.counts.lost() as usize;
    assert_eq!(dropped + kept.len(), names.len(), "each is kept or counted");
    // A span takes about 60 bytes: the queue was nearly full and never more.
    assert!((700..1100).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn a_limit_of_items_holds_where_it_is_asked_for() {
    let pipeline = full_queue(Batch {
        queue_items: 16,
        size: 4,
        ..batch()
    });
    names_of(100)
        .into_iter()
        .for_each(|name| push(&pipeline.buffers, name));
    assert_eq!(waiting(&pipeline), names_of(100)[84..]);
    assert_eq!(pipeline.counts.lost(), 84);
}

#[test]
fn an_item_larger_than_the_queue_is_dropped_and_counted_and_nothing_else() {
    let (otlp, requests) = collector(Vec::new(), false);
    let batch = Batch {
        size: 512,
        ..batch()
    };
    let pipeline = pipeline(&otlp, batch);
    let names = names_of(3_000);
    for (n, name) in names.iter().enumerate() {
        push(&pipeline.buffers, name.clone());
        // The second has nothing before it in its chunk.
        if n == 1_500 || n == 2_999 {
            push(&pipeline.buffers, "x".repeat(2 * batch.queue_bytes));
            push(&pipeline.buffers, "y".repeat(2 * batch.queue_bytes));
        }
    }
    pipeline.queue.shut_down(LONG).unwrap();
    assert_eq!(requests.try_iter().collect::<Vec<_>>().concat(), names);
    assert_eq!(
        (pipeline.counts.exported(), pipeline.counts.lost()),
        (3_000, 4)
    );
    assert_eq!(pipeline.counts.queued(), 0);
}

#[test]
fn a_large_item_that_fits_is_kept_with_those_around_it() {
    let pipeline = full_queue(Batch {
        size: 512,
        ..batch()
    });
    let large = "x".repeat(900 * 1024);
    let names = ["a", "b", large.as_str(), "c"];
    for name in names {
        push(&pipeline.buffers, name.to_owned());
    }
    assert_eq!(waiting(&pipeline), names);
    assert_eq!(pipeline.counts.lost(), 0);
}

#[test]
fn what_has_no_room_beside_the_batch_that_is_sent_leaves_what_waits() {
    let pipeline = full_queue(batch());
    let large = "x".repeat(600 * 1024);
    push(&pipeline.buffers, large.clone());
    pipeline.queue.take().unwrap();
    push(&pipeline.buffers, "waits".to_owned());
    push(&pipeline.buffers, large.clone());
    assert_eq!(pipeline.counts.lost(), 1);
    pipeline.queue.release();
    push(&pipeline.buffers, large.clone());
    assert_eq!(waiting(&pipeline), ["waits".to_owned(), large]);
    assert_eq!(pipeline.counts.lost(), 1);
}

/// Holds something that writes when its thread's locals are destroyed.
struct Late(Arc<Buffers>, &'static str);

impl Drop for Late {
    fn drop(&mut self) {
        push(&self.0, self.1.to_owned());
    }
}

#[test]
fn threads_that_end_leave_their_items_behind() {
    thread_local!(static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) });
    let pipeline = full_queue(batch());
    let buffers = Arc::clone(&pipeline.buffers);
    let panicked = std::thread::spawn(move || {
        // Registered before this thread's chunk, and so destroyed after it.
        LATE.set(Some(Late(Arc::clone(&buffers), "at the thread's end")));
        push(&buffers, "before".to_owned());
        let _during = Late(buffers, "while unwinding");
        panic!("on purpose");
    });
    panicked.join().unwrap_err();
    let mut names = waiting(&pipeline);
    names.sort();
    assert_eq!(names, ["at the thread's end", "before", "while unwinding"]);
}

#[test]
fn a_destination_gets_only_the_runs_that_it_takes() {
    fn not_noise(run: &Run) -> bool {
        run.scope.name() != "noise"
    }
    let all = Queue::new(batch(), |_| true, &Arc::default());
    let some = Queue::new(batch(), not_noise, &Arc::default());
    let buffers = Buffers::new(vec![Arc::clone(&all), Arc::clone(&some)]);
    for scope in ["noise", "a", "noise", "noise", "a"] {
        let span = span(scope.to_owned());
        let scope = InstrumentationScope::builder(scope).build();
        buffers.push(&scope, None, |out| encoding::span(out, &span, None));
    }
    buffers.drain();
    assert_eq!(all.take().unwrap().items, 5);
    let taken = some.take().unwrap();
    assert_eq!(taken.items, 2);
    let runs: Vec<_> = some
        .taken(&taken.chunks[0])
        .map(|(run, _)| run.items)
        .collect();
    assert_eq!(runs, [1, 1]);
}
