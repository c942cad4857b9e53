//! The HTTP client of every subcommand: answers are read within a bound, and errors are told in one line.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, redirect};
use serde::de::DeserializeOwned;

/// The largest answer that is read, in bytes after decompression. The largest that is wanted, a thousand log records or the
/// metrics of a store, is a tenth of it.
const MAX_ANSWER: usize = 32 << 20;
/// How much of an unwanted answer is repeated in an error, in characters.
const MAX_GIST: usize = 160;

/// reqwest is built without a TLS provider (one C compiler must be enough to build it); this chooses ring for the process.
pub fn install_tls_provider() {
    // Err means that one is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that follows no redirect (a 3xx may be what was asked for) and ignores proxy variables: it speaks to this machine or
/// to the addresses it was given.
pub fn client(timeout: Duration, connections: usize) -> reqwest::Result<Client> {
    build(|| builder(timeout, connections))
}

/// One that says with every request whose data it is: the stores ask for it when they have tenants, and ignore it when not.
/// `a|b` reads both.
pub fn client_as(tenant: &'static str) -> reqwest::Result<Client> {
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-scope-orgid"),
        HeaderValue::from_static(tenant),
    )]);
    build(|| builder(Duration::from_secs(15), 8).default_headers(headers.clone()))
}

/// On a system without authorities, as a small image is, the client trusts nobody: it still speaks plain HTTP.
fn build(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    let built = builder().build();
    built.or_else(|_| builder().tls_certs_only([]).build())
}

fn builder(timeout: Duration, connections: usize) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(timeout)
        .pool_max_idle_per_host(connections)
        .user_agent(concat!("signalboxctl/", env!("CARGO_PKG_VERSION")))
}

/// The innermost cause, which is the one a person can act on: "Connection refused", not "error sending request".
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut source = error.source();
    // The address may hold a password, and whoever asked knows it.
    let mut cause = error.to_string();
    if let Some(url) = error.url() {
        cause = cause.replace(url.as_str(), "it");
    }
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    cause
}

/// The body of an answer as text.
pub async fn text(answer: Response) -> Result<String, String> {
    bounded(answer, MAX_ANSWER).await
}

async fn bounded(mut answer: Response, max: usize) -> Result<String, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| cause(&error))? {
        if body.len() + chunk.len() > max {
            return Err(format!("the answer is larger than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Sends a request and reads what it is answered with, if that is a success. Otherwise the status and what the answer says.
pub async fn ask(request: RequestBuilder) -> Result<String, String> {
    let answer = request.send().await.map_err(|error| cause(&error))?;
    let status = answer.status();
    let body = text(answer).await;
    if status.is_success() {
        return body;
    }
    let status = status.to_string();
    match gist(&body.unwrap_or_default()) {
        gist if gist.is_empty() || gist == status => Err(status),
        gist => Err(format!("{status}: {gist}")),
    }
}

/// The same for JSON. serde_json refuses what is nested deeper than 128 levels.
pub async fn ask_json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, String> {
    serde_json::from_str(&ask(request).await?)
        .map_err(|error| format!("the answer is not the JSON that was expected: {error}"))
}

/// What an error page or document says, in one line: the message of a JSON document, the title of a web page, else its beginning.
pub fn gist(body: &str) -> String {
    let body = body.trim();
    let json = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    let message = ["error", "message", "detail"]
        .iter()
        .find_map(|member| json[*member].as_str());
    let title = || Some(body.split_once("<title>")?.1.split_once("</title>")?.0);
    let text = message.or_else(title).unwrap_or(body);
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_GIST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
pub mod testing {
    //! A server that answers every connection with the same bytes.

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Its base URL. `answer` is a whole HTTP answer, head and body.
    pub async fn answering(answer: Vec<u8>) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        Ok(format!("http://{address}"))
    }

    /// A whole answer with that status line and body.
    pub fn answer(status: &str, body: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{answer, answering};
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    async fn get(answer: Vec<u8>) -> Result<RequestBuilder, Box<dyn std::error::Error>> {
        install_tls_provider();
        let url = answering(answer).await?;
        Ok(client(Duration::from_secs(5), 1)?.get(url))
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_a_bound() -> Outcome {
        let five = get(answer("200 OK", "12345")).await?.send().await?;
        assert_eq!(bounded(five, 5).await, Ok("12345".into()));
        let six = get(answer("200 OK", "123456")).await?.send().await?;
        assert_eq!(
            bounded(six, 5).await,
            Err("the answer is larger than 5 bytes".into())
        );
        Ok(())
    }

    #[tokio::test]
    async fn json_of_any_depth_does_not_end_the_process() -> Outcome {
        for depth in [1_500, 500_000] {
            let nested = "[".repeat(depth) + &"]".repeat(depth);
            let told = ask_json::<serde_json::Value>(get(answer("200 OK", &nested)).await?).await;
            let told = told.expect_err("too deep");
            assert!(told.contains("recursion limit exceeded"), "{told}");
            // The same as the body of an error.
            let told = ask(get(answer("500 Internal Server Error", &nested)).await?).await;
            let told = told.expect_err("an error");
            assert!(told.starts_with("500 Internal Server Error: [[["), "{told}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_error_is_its_status_and_one_line() -> Outcome {
        let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center>nginx</center>\r\n</body>\r\n</html>\r\n";
        for (status, body, told) in [
            ("502 Bad Gateway", page, "502 Bad Gateway"),
            (
                "404 Not Found",
                "no such\n  trace\n",
                "404 Not Found: no such trace",
            ),
            (
                "400 Bad Request",
                r#"{"status":"error","errorType":"bad_data","error":"parse error:\nunexpected end"}"#,
                "400 Bad Request: parse error: unexpected end",
            ),
            ("503 Service Unavailable", "", "503 Service Unavailable"),
        ] {
            assert_eq!(
                ask(get(answer(status, body)).await?).await,
                Err(told.into())
            );
        }
        Ok(())
    }

    #[test]
    fn a_long_body_is_cut_between_characters() {
        let told = gist(&"µ".repeat(1_000));
        assert_eq!(told, "µ".repeat(MAX_GIST) + "…");
    }
}
