//! `signalboxctl load`: a mix of requests at a fixed rate, and where to look at what they caused.

mod engine;
pub mod links;
mod mix;
mod progress;
mod record;
mod report;

use std::time::{Duration, Instant};

use reqwest::{Client, Url};

use self::engine::{Plan, Report as News};
use self::links::Templates;
use self::mix::Mix;
use self::progress::Progress;
use self::record::Record;
use self::report::Report;
use crate::http;
use crate::output::say;
use crate::stop::Stop;

/// Three that the service knows by default and one that it does not, which it records as `other`.
const CLIENT_IDS: [&str; 4] = ["11111", "22222", "33333", "44444"];
const MAX_REQUESTS: f64 = 10_000_000.0;

#[derive(clap::Args)]
pub struct Args {
    /// The service
    #[arg(long, env = "SIGNALBOX_URL", default_value = "http://127.0.0.1:18080")]
    url: Url,
    /// Requests a second
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    rate: f64,
    /// How long; with --count it follows from the rate
    #[arg(long, default_value = "1m", value_parser = crate::duration::parse)]
    duration: Duration,
    /// Exactly so many requests, instead of a duration
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=MAX_REQUESTS as u64))]
    count: Option<u64>,
    /// Requests at once, at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// How long to wait for an answer, and how late a request may be sent
    #[arg(long, default_value = "10s", value_parser = crate::duration::parse)]
    timeout: Duration,
    /// Names or paths, each with its weight
    #[arg(long, default_value_t = mix::default_mix(), value_name = "NAME=WEIGHT,…")]
    mix: String,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.01..=10_000.0).contains(rate))
        .ok_or_else(|| "must be 0.01 to 10000 requests a second".into())
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--mix: {0}")]
    Mix(String),
    #[error("--rate times --duration must be 1 to {MAX_REQUESTS} requests, not {0}")]
    Amount(f64),
    #[error(
        "cannot reach {url}: {cause}. Start the service with `make demo` or `make up`, or name another with --url"
    )]
    Unreachable { url: Url, cause: String },
    #[error("no request was answered")]
    NoAnswer,
    #[error("{0}")]
    Setup(String),
}

pub async fn run(args: Args) -> Result<(), Error> {
    let mix: Mix = args.mix.parse().map_err(Error::Mix)?;
    let total = total(&args)?;
    let client = http::client(args.timeout, args.concurrency.into())
        .map_err(|error| Error::Setup(error.to_string()))?;
    let templates = templates(&client, &args.url).await?;
    let mut stop = Stop::listen().map_err(|error| Error::Setup(error.to_string()))?;
    let endpoints: Vec<_> = mix.endpoints().collect();
    let mut record = Record::new(endpoints.len()).map_err(Error::Setup)?;
    let plan = Plan {
        requests: requests(&mix, &args.url)?,
        rate: args.rate,
        total,
        concurrency: args.concurrency.into(),
        patience: args.timeout,
    };

    eprintln!(
        "sending {total} requests to {}, {} a second",
        args.url, args.rate
    );
    let begin = Instant::now();
    let (mut late, mut missed) = (0, 0);
    let mut progress = Progress::new(total);
    let mut engine = engine::start(plan, client);
    loop {
        let news = tokio::select! {
            news = engine.reports.recv() => news,
            () = stop.requested() => None,
        };
        match news {
            Some(News::Sent {
                sample,
                late: was_late,
            }) => {
                late += u64::from(was_late);
                progress.one_more(sample.is_error());
                record.add(sample);
            }
            Some(News::Missed) => {
                missed += 1;
                progress.one_more(true);
            }
            None => break,
        }
    }
    drop(engine);
    progress.finish();

    let elapsed = begin.elapsed();
    let report = Report {
        endpoints,
        record: &record,
        templates: &templates,
        asked_rate: args.rate,
        elapsed,
        late,
        missed,
    };
    say!("{report}");
    if record.statuses.is_empty() {
        Err(Error::NoAnswer)
    } else {
        Ok(())
    }
}

fn total(args: &Args) -> Result<u64, Error> {
    let asked = (args.rate * args.duration.as_secs_f64()).round();
    match args.count {
        Some(count) => Ok(count),
        None if (1.0..=MAX_REQUESTS).contains(&asked) => Ok(asked as u64),
        None => Err(Error::Amount(asked)),
    }
}

/// One round of the mix. The client ids shift from one request to the next, so that each endpoint sees all of them.
fn requests(mix: &Mix, base: &Url) -> Result<Vec<(usize, reqwest::Request)>, Error> {
    let endpoints: Vec<_> = mix.endpoints().collect();
    let mut seen = vec![0_usize; endpoints.len()];
    mix.sequence()
        .into_iter()
        .map(|index| {
            let client_id = CLIENT_IDS[seen[index] % CLIENT_IDS.len()];
            seen[index] += 1;
            let request = endpoints[index]
                .request(base, Some(client_id))
                .map_err(Error::Setup)?;
            Ok((index, request))
        })
        .collect()
}

/// Asks the service where its signals can be seen; that it answers at all is what must be known before a load is sent. A service
/// that does not hand out links is loaded all the same.
async fn templates(client: &Client, base: &Url) -> Result<Templates, Error> {
    let url = base
        .join("/links")
        .map_err(|error| Error::Setup(error.to_string()))?;
    let answer = client.get(url).send().await;
    let answer = answer.map_err(|error| Error::Unreachable {
        url: base.clone(),
        cause: http::cause(&error),
    })?;
    Ok(answer.json().await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_endpoint_is_called_by_every_client() {
        let mix: Mix = "api=4,ping=8".parse().unwrap();
        let requests = requests(&mix, &"http://127.0.0.1:1".parse().unwrap()).unwrap();
        for endpoint in [0, 1] {
            let of_endpoint = requests.iter().filter(|(index, _)| *index == endpoint);
            let clients: BTreeSet<&str> = of_endpoint
                .map(|(_, request)| request.headers()["client-id"].to_str().unwrap())
                .collect();
            assert_eq!(clients, BTreeSet::from(CLIENT_IDS));
        }
    }

    #[test]
    fn rates_out_of_bounds_are_refused() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "10001", "NaN", "inf", "fast"] {
            assert!(rate(text).is_err(), "{text} was accepted");
        }
    }
}
