//! What a process used, what passed on its way, and bars of it.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Linux counts processor time in hundredths of a second for all its user-space interfaces.
const TICKS_PER_SECOND: f64 = 100.0;
/// Characters of the longest bar.
const WIDTH: f64 = 50.0;

/// What one row cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Processor time of the service for one request, in microseconds.
    pub cpu_us: f64,
    /// Its memory after the load, in MB.
    pub resident_mb: f64,
    /// What it sent to its receiver for one request, in bytes.
    pub sent_bytes: f64,
}

/// What a process has used so far.
#[derive(Debug, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
}

impl Usage {
    /// Reads it from `/proc`, which only Linux has.
    pub fn of(pid: i32) -> Result<Self, String> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .map_err(|error| format!("/proc/{pid}/{file}: {error}"))
        };
        Self::parse(&read("stat")?, &read("status")?)
            .ok_or_else(|| format!("/proc/{pid} has no numbers"))
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The program's name, in parentheses, may hold blanks; the fields behind it are numbers.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            resident_bytes: kilobytes << 10,
        })
    }
}

/// Passes on what is sent to `url`, and counts it.
pub struct Relay {
    pub url: String,
    bytes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts one on a free port of this machine.
    pub async fn start(to: &str) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("the relay: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
        let url = format!("http://{}", listener.local_addr().map_err(told)?);
        let to = to.trim_start_matches("http://").to_owned();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let (to, counter) = (to.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    if let Ok(to) = TcpStream::connect(&to).await {
                        pass(from, to, &counter).await;
                    }
                });
            }
        });
        Ok(Self { url, bytes, task })
    }

    /// Bytes that were sent through it so far, answers not counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(from: TcpStream, to: TcpStream, counter: &AtomicU64) {
    let (mut from_read, mut from_write) = from.into_split();
    let (mut to_read, mut to_write) = to.into_split();
    let there = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_read.read(&mut buffer).await {
            counter.fetch_add(read as u64, Ordering::Relaxed);
            if to_write.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_write.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut to_read, &mut from_write).await;
    };
    tokio::join!(there, back);
}

/// A bar for each row, as long as its share of the largest.
pub fn bars(costs: &[(&str, Cost)], of: impl Fn(&Cost) -> f64) -> String {
    let largest = costs
        .iter()
        .map(|(_, cost)| of(cost))
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut text = String::new();
    for (name, cost) in costs {
        let length = (WIDTH * of(cost) / largest).round() as usize;
        let _ = writeln!(text, "{name:<16} {}", "█".repeat(length));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_what_linux_writes() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 5000 0 3 0 150 50 0 0 20 0 5 0 1 2 3";
        let status = "Name:\ta\nVmHWM:\t 9000 kB\nVmRSS:\t    8192 kB\nThreads:\t5\n";
        let usage = Usage {
            cpu_seconds: 2.0,
            resident_bytes: 8 << 20,
        };
        assert_eq!(Usage::parse(stat, status), Some(usage));
        assert_eq!(Usage::parse("42 (a) S 1", status), None);
        assert_eq!(Usage::parse(stat, "Name:\ta\n"), None);
    }

    #[test]
    fn the_largest_has_the_longest_bar() {
        let cost = |cpu_us| Cost {
            cpu_us,
            resident_mb: 0.0,
            sent_bytes: 0.0,
        };
        let drawn = bars(&[("none", cost(25.0)), ("all", cost(100.0))], |cost| {
            cost.cpu_us
        });
        let lengths: Vec<usize> = drawn
            .lines()
            .map(|line| line.matches('█').count())
            .collect();
        assert_eq!(lengths, [13, 50]);
    }

    #[tokio::test]
    async fn a_relay_passes_on_what_it_counts() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            copy(&mut read, &mut write).await.unwrap();
        });
        let relay = Relay::start(&format!("http://{address}")).await.unwrap();
        let mut stream = TcpStream::connect(relay.url.trim_start_matches("http://"))
            .await
            .unwrap();
        stream.write_all(b"twelve bytes").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!((answer.as_str(), relay.bytes()), ("twelve bytes", 12));
    }
}
