//! Requests to the server, as many as it answers or at a rate.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 4;
/// Connections where requests come at a rate: one that waits for its answer must not hold up the others.
const PACED_CONNECTIONS: usize = 16;

const REQUEST: &[u8] =
    b"GET /items/7 HTTP/1.1\r\nhost: 127.0.0.1:80\r\nuser-agent: overhead/1\r\n\r\n";

/// One connection.
struct Connection(TcpStream);

impl Connection {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_nodelay(true).expect("an option");
        Self(stream)
    }

    fn request(&mut self) {
        self.0.write_all(REQUEST).expect("is sent");
        let mut answer = [0; 4096];
        let mut length = 0;
        while !answer[..length].ends_with(b"\r\n\r\nok") {
            length += self.0.read(&mut answer[length..]).expect("answers");
        }
    }
}

/// Sends `requests` as fast as they are answered.
pub fn load(port: u16, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut connection = Connection::open(port);
                (0..requests / CONNECTIONS).for_each(|_| connection.request());
            });
        }
    });
}

/// Sends `rate` requests a second for `time`, whether or not the server keeps up. Returns how long each took from when
/// it was due, shortest first.
pub fn paced(port: u16, rate: u64, time: Duration) -> Vec<Duration> {
    let total = rate * time.as_secs();
    let start = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PACED_CONNECTIONS as u64)
            .map(|first| {
                scope.spawn(move || {
                    let mut connection = Connection::open(port);
                    let due = |n| start + Duration::from_nanos(n * 1_000_000_000 / rate);
                    let numbers = (first..total).step_by(PACED_CONNECTIONS);
                    numbers
                        .map(|n| {
                            std::thread::sleep(due(n).saturating_duration_since(Instant::now()));
                            connection.request();
                            due(n).elapsed()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.flat_map(|took| took.expect("sends")).collect()
    });
    took.sort();
    took
}
