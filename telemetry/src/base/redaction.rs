//! What must not be told of a URL.
use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Query parameters whose values are signatures and keys, by the conventions:
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/>.
const SENSITIVE: [&str; 4] = ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"];

const REDACTED: &str = "REDACTED";

/// Which query parameters lose their values. Names compare with their case, as the conventions have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Names beyond those of the conventions.
    further: Vec<String>,
}

impl Redaction {
    pub(crate) fn new(further: Vec<String>) -> Self {
        Self { further }
    }

    fn is_sensitive(&self, name: &str) -> bool {
        // A name may be written in percent-encoding and mean the same.
        let name = percent_decode_str(name).decode_utf8_lossy();
        SENSITIVE.contains(&&*name) || self.further.iter().any(|further| *further == name)
    }

    /// `query` (without `?`) as it may be recorded: names stay, values of sensitive ones do not.
    pub(crate) fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        let sensitive = |pair: &str| {
            let named = pair.split_once('=');
            named.is_some_and(|(name, _)| self.is_sensitive(name))
        };
        if !query.split('&').any(sensitive) {
            return Cow::Borrowed(query);
        }
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if self.is_sensitive(name) => format!("{name}={REDACTED}"),
            _ => pair.to_owned(),
        });
        Cow::Owned(pairs.collect::<Vec<_>>().join("&"))
    }

    /// Takes from `url` its credentials and the values of sensitive parameters.
    pub(crate) fn url(&self, url: &mut reqwest::Url) {
        // Neither can fail for a URL with a host, and one without holds no credentials.
        if !url.username().is_empty() {
            let _ = url.set_username(REDACTED);
        }
        if url.password().is_some() {
            let _ = url.set_password(Some(REDACTED));
        }
        let redacted = match url.query().map(|query| self.query(query)) {
            Some(Cow::Owned(query)) => query,
            _ => return,
        };
        url.set_query(Some(&redacted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_sensitive_parameters_are_replaced() {
        let redaction = Redaction::new(vec!["token".to_owned()]);
        for (query, expected) in [
            ("", ""),
            ("a=1&b", "a=1&b"),
            ("sig=x", "sig=REDACTED"),
            ("q=1&sig=x&r=2", "q=1&sig=REDACTED&r=2"),
            (
                "AWSAccessKeyId=x&Signature=y%3D",
                "AWSAccessKeyId=REDACTED&Signature=REDACTED",
            ),
            ("X-Goog-Signature=x=y", "X-Goog-Signature=REDACTED"),
            ("%73ig=x", "%73ig=REDACTED"),
            ("token=t&token=u", "token=REDACTED&token=REDACTED"),
            ("sig=", "sig=REDACTED"),
            ("sig", "sig"),
            ("SIG=x&signature=y&Token=z", "SIG=x&signature=y&Token=z"),
        ] {
            assert_eq!(redaction.query(query), expected);
        }
        assert_eq!(Redaction::default().query("token=t"), "token=t");
    }

    #[test]
    fn a_url_keeps_no_credentials() {
        for (url, expected) in [
            ("http://h/p?q=1#f", "http://h/p?q=1#f"),
            (
                "http://u:p@h/?sig=x",
                "http://REDACTED:REDACTED@h/?sig=REDACTED",
            ),
            ("http://token@h/", "http://REDACTED@h/"),
            ("http://:p@h/", "http://:REDACTED@h/"),
        ] {
            let mut url: reqwest::Url = url.parse().unwrap();
            Redaction::default().url(&mut url);
            assert_eq!(url.as_str(), expected);
        }
    }
}
