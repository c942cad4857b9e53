//! Lesson: the browser is a service too. Where `SIGNALBOX_FARO_URL` says so, the page tells what it sees.
//!
//! Where to look: the trace of a request begins with the browser's span; a thrown error and the web vitals are records of
//! `signalbox-console`. Without that setting the page loads nothing of this.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};
use maud::{Markup, html};

use crate::error::{Error, Kind};
use crate::settings::SecretUrl;

/// Where the page sends what it sees; `None`: nowhere.
#[derive(Debug, Clone)]
pub struct Faro(Option<SecretUrl>);

impl Faro {
    pub fn new(url: Option<SecretUrl>) -> Self {
        Self(url)
    }

    /// What the page's policy must allow beyond itself: the collector's origin.
    pub fn policy(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |url| {
            let url = url.expose();
            let path = url.find("://").map_or(url.len(), |scheme| {
                let host = scheme + "://".len();
                url[host..].find('/').map_or(url.len(), |end| host + end)
            });
            format!("; connect-src 'self' {}", &url[..path])
        })
    }

    /// Before the console's own script: what it fetches shall be seen.
    pub fn scripts(&self) -> Markup {
        html! {
            @if let Some(url) = &self.0 {
                script src="/console/faro/web-sdk.js" defer {}
                script src="/console/faro/web-tracing.js" defer {}
                script src="/console/faro/start.js" data-url=(url.expose()) data-version=(env!("CARGO_PKG_VERSION")) defer {}
            }
        }
    }

    /// A way to make the page fail.
    pub fn offer(&self) -> Markup {
        html! {
            @if self.0.is_some() {
                form.offer action="/" method="get" {
                    p.lesson { "An error in the page itself: no server sees it, the browser tells." }
                    button #throw type="button" { "Throw" }
                }
            }
        }
    }
}

/// One of the scripts.
pub async fn script(file: web::Path<String>) -> Result<HttpResponse, Error> {
    let text = match file.as_str() {
        "web-sdk.js" => include_str!("vendor/faro-web-sdk.iife.js"),
        "web-tracing.js" => include_str!("vendor/faro-web-tracing.iife.js"),
        "start.js" => include_str!("start.js"),
        _ => return Err(Error::new(Kind::NotFound, "there is no such script")),
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8"))
        .body(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_the_collector_and_nobody_else() {
        let policy = |url: &str| Faro::new(Some(url.into())).policy();
        assert_eq!(
            policy("http://127.0.0.1:12347/collect"),
            "; connect-src 'self' http://127.0.0.1:12347"
        );
        assert_eq!(
            policy("https://faro.example"),
            "; connect-src 'self' https://faro.example"
        );
        assert_eq!(Faro::new(None).policy(), "");
    }
}
