//! Is the one who answers at that address our viewer? Telemetry can hold anything, so nothing is sent before this is known.

use reqwest::Client;
use serde::Deserialize;

use crate::http;

#[derive(Deserialize)]
struct Identity {
    name: String,
    version: String,
}

/// Asks for its name and version, which must be lens and this program's own. The error says what was found instead.
pub async fn is_lens(client: &Client, url: &str) -> Result<(), String> {
    let answer = http::ask(client.get(format!("{url}/api/identity"))).await?;
    let identity: Identity =
        serde_json::from_str(&answer).map_err(|_| "it does not say who it is".to_owned())?;
    if identity.name == "lens" && identity.version == env!("CARGO_PKG_VERSION") {
        Ok(())
    } else {
        Err(format!("it is {} {}", identity.name, identity.version))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// Asks a server that answers once with that body.
    async fn ask(body: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /api/identity "));
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        });
        http::install_tls_provider();
        let answer = is_lens(&http::client(Duration::from_secs(5), 1).unwrap(), &url).await;
        server.join().unwrap();
        answer
    }

    #[tokio::test]
    async fn only_lens_of_this_version_is_accepted() {
        assert_eq!(
            ask(concat!(
                r#"{"name":"lens","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#""}"#
            ))
            .await,
            Ok(())
        );
        assert_eq!(
            ask(r#"{"name":"lens","version":"9.9.9"}"#).await,
            Err("it is lens 9.9.9".into())
        );
        assert_eq!(
            ask(r#"{"name":"alloy","version":"1.18.1"}"#).await,
            Err("it is alloy 1.18.1".into())
        );
        assert_eq!(ask("hello").await, Err("it does not say who it is".into()));
    }
}
