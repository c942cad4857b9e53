//! `signalboxctl load`: a mix of requests at a fixed rate, and where to look at what they caused.

mod engine;
pub mod links;
mod mix;
mod progress;
mod record;
mod report;

use std::time::{Duration, Instant};

use reqwest::{Client, Url};
use signalbox_telemetry::SecretUrl;

use self::engine::{Engine, Plan, Report as News};
use self::links::{Links, Templates};
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
    /// The service. A user and a password in it are sent and never printed
    #[arg(
        long,
        env = "SIGNALBOX_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:18080"
    )]
    url: SecretUrl,
    /// The service as links name it, where that is not how the load reaches it: from inside a container
    #[arg(
        long,
        env = "SIGNALBOX_PUBLIC_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    public_url: Option<SecretUrl>,
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
    Unreachable { url: SecretUrl, cause: String },
    #[error("{url} is no URL of a service: {cause}")]
    Url { url: SecretUrl, cause: String },
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
    let url = parsed(&args.url)?;
    let base = match &args.public_url {
        Some(public) => parsed(public)?,
        None => url.clone(),
    };
    let links = Links::new(base, &templates(&client, &url).await?);
    let mut stop = Stop::listen().map_err(|error| Error::Setup(error.to_string()))?;
    let endpoints: Vec<_> = mix.endpoints().collect();
    let mut record = Record::new(endpoints.len()).map_err(Error::Setup)?;
    let plan = Plan {
        requests: requests(&mix, &url)?,
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
        links: &links,
        hyperlinks: supports_hyperlinks::on(supports_hyperlinks::Stream::Stdout),
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

/// Not by the command line's own parser, which repeats what it refuses.
fn parsed(url: &SecretUrl) -> Result<Url, Error> {
    let parsed = Url::parse(url.expose()).map_err(|error| error.to_string());
    let parsed = parsed.and_then(|parsed| match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        _ => Err("it begins neither with http:// nor with https://".into()),
    });
    parsed.map_err(|cause| Error::Url {
        url: url.clone(),
        cause,
    })
}

/// A load without an end, for whoever runs it beside something else. Its reports must be read.
pub fn endless(url: &Url, mix: &str, rate: f64) -> Result<Engine, Error> {
    const CONCURRENCY: usize = 64;
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mix: Mix = mix.parse().map_err(Error::Mix)?;
    let client =
        http::client(TIMEOUT, CONCURRENCY).map_err(|error| Error::Setup(error.to_string()))?;
    let plan = Plan {
        requests: requests(&mix, url)?,
        rate,
        total: u64::MAX,
        concurrency: CONCURRENCY,
        patience: TIMEOUT,
    };
    Ok(engine::start(plan, client))
}

/// Whether a request was answered, with whatever status.
pub fn is_answered(report: &engine::Report) -> bool {
    matches!(report, News::Sent { sample, .. } if matches!(sample.outcome, record::Outcome::Answer { .. }))
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
        url: base.as_str().into(),
        cause: http::cause(&error),
    })?;
    let text = http::text(answer).await.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
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
    fn a_url_that_is_refused_is_told_without_its_password() {
        for (url, told) in [
            ("http://u:secret@[", "http://***@[ is no URL of a service: "),
            (
                "ftp://u:secret@host",
                "ftp://***@host is no URL of a service: it begins",
            ),
            ("u:secret@host", "*** is no URL of a service: "),
            ("secret", "*** is no URL of a service: "),
        ] {
            let error = parsed(&url.into()).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = Error::Unreachable {
            url: "http://u:secret@host/".into(),
            cause: String::new(),
        };
        assert!(
            error
                .to_string()
                .starts_with("cannot reach http://***@host/: ")
        );
    }

    #[test]
    fn rates_out_of_bounds_are_refused() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "10001", "NaN", "inf", "fast"] {
            assert!(rate(text).is_err(), "{text} was accepted");
        }
    }
}
