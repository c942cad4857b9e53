//! One question to each of several parts: a container's health check, also for those whose image can run none.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use signalbox_telemetry::SecretUrl;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::parts;
use crate::http;

/// Below the four seconds that compose gives a health check.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// `http://…` that must answer 2xx, `tcp://host:port` that must accept, or the beginning of a part's name (`mimir`: all replicas)
    #[arg(required = true)]
    targets: Vec<String>,
}

/// Ends well if every target is ready; otherwise says which is not, and why.
pub async fn run(args: Args) -> Result<(), String> {
    let client = client()?;
    let mut urls = Vec::new();
    for target in args.targets {
        if target.contains("://") {
            urls.push(target);
            continue;
        }
        let known = urls.len();
        urls.extend(
            parts::from_env()?
                .into_iter()
                .filter(|part| part.name.starts_with(&target))
                .map(|part| part.ready),
        );
        if urls.len() == known {
            return Err(format!("no part of the stack is called {target}…"));
        }
    }
    let answers = join_all(urls.iter().map(|url| ask(&client, url))).await;
    let failures: Vec<String> = urls
        .iter()
        .zip(answers)
        .filter_map(|(url, answer)| {
            Some(format!(
                "{}: {}",
                SecretUrl::from(url.as_str()),
                answer.err()?
            ))
        })
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; "))
    }
}

/// The client for [`ask`].
pub fn client() -> Result<Client, String> {
    http::client(PATIENCE, 1).map_err(|error| error.to_string())
}

/// Err is the reason, in a few words.
pub async fn ask(client: &Client, url: &str) -> Result<(), String> {
    if let Some(address) = url.strip_prefix("tcp://") {
        return match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(connection) => connection.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".into()),
        };
    }
    http::ask(client.get(url)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::testing::{answer, answering};

    #[tokio::test]
    async fn only_success_is_ready_and_the_answer_says_why_not()
    -> Result<(), Box<dyn std::error::Error>> {
        http::install_tls_provider();
        let client = client()?;
        let ready = answering(answer("200 OK", "")).await?;
        let starting = answering(answer("503 Service Unavailable", "waiting\nx")).await?;
        assert_eq!(ask(&client, &ready).await, Ok(()));
        let socket = ready.replace("http://", "tcp://");
        assert_eq!(ask(&client, &socket).await, Ok(()));
        assert_eq!(
            ask(&client, &starting).await,
            Err("503 Service Unavailable: waiting x".into())
        );
        Ok(())
    }

    #[tokio::test]
    async fn a_closed_port_is_not_ready() -> Result<(), Box<dyn std::error::Error>> {
        http::install_tls_provider();
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let client = client()?;
        assert!(
            ask(&client, &format!("tcp://127.0.0.1:{port}"))
                .await
                .is_err()
        );
        assert!(
            ask(&client, &format!("http://127.0.0.1:{port}/"))
                .await
                .is_err()
        );
        Ok(())
    }
}
