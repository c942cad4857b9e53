//! URLs that may hold credentials.
use std::fmt;

/// A URL, or what was given as one. It prints without what may be a secret: user name and password, the query, and the
/// fragment are each replaced by `***`. What is no URL is replaced whole, as it may be a password that stands in the wrong
/// variable; only a path, a file's URL and `host:port` are shown, which are common mistakes. [`SecretUrl::expose`] gives it
/// whole, to those who connect with it.
///
/// ```
/// # use signalbox_telemetry::SecretUrl;
/// let url = SecretUrl::new("postgres://app:hunter2@db:5432/shop?sslpassword=x");
/// assert_eq!(url.to_string(), "postgres://***@db:5432/shop?***");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Keeps `url` as it is: it need not be a valid one.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with `path` added to its own, before the query.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        let at = self.0.find(['?', '#']).unwrap_or(self.0.len());
        let (base, query) = self.0.split_at(at);
        Self(format!("{}{path}{query}", base.trim_end_matches('/')))
    }

    /// The URL with its credentials. Not for messages.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl From<&str> for SecretUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl std::str::FromStr for SecretUrl {
    type Err = std::convert::Infallible;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(url))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(in_scheme) => {
                (scheme, rest)
            }
            _ => return f.write_str(&without_scheme(&self.0)),
        };
        write!(f, "{scheme}://")?;
        // Up to the last @, wherever it stands: an unescaped password may hold any character, `/`, `?` and `#` too, and
        // what is no valid URL is refused with a message that shows it.
        let rest = match rest.rsplit_once('@') {
            Some((_, rest)) => {
                f.write_str("***@")?;
                rest
            }
            None => rest,
        };
        f.write_str(&without_query(rest, &['?', '#']))
    }
}

/// What is shown of a text that has no `scheme://`.
fn without_scheme(text: &str) -> String {
    let is_path = ["/", "sqlite:", "file:", "unix:"]
        .iter()
        .any(|start| text.starts_with(start));
    match text.rsplit_once('@') {
        Some((_, rest)) if is_host_and_port(rest) => format!("***@{rest}"),
        None if text.is_empty() || is_host_and_port(text) => text.to_owned(),
        None if is_path => without_query(text, &['?', '#', '=']),
        _ => "***".to_owned(),
    }
}

fn without_query(text: &str, begins: &[char]) -> String {
    match text.find(begins) {
        Some(at) => format!("{}***", &text[..=at]),
        None => text.to_owned(),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let in_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.bytes().all(in_host) && port.parse::<u16>().is_ok()
    })
}

fn in_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

// A derived `Debug` of the settings around it must not tell it either.
impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_printed_as_stars() {
        for (given, shown) in [
            ("http://collector:4318", "http://collector:4318"),
            (
                "http://u:secret@collector:4318/v1",
                "http://***@collector:4318/v1",
            ),
            ("https://secret@collector", "https://***@collector"),
            ("redis://:secret@cache:6379/0", "redis://***@cache:6379/0"),
            ("sqlite:///var/lib/shop.db", "sqlite:///var/lib/shop.db"),
            ("https://c/v1?token=secret", "https://c/v1?***"),
            ("https://c/v1#secret", "https://c/v1#***"),
            // What is no valid URL is shown in refusals.
            ("mysql://u:sec/ret@db/shop", "mysql://***@db/shop"),
            ("mysql://u:sec?ret@db/shop", "mysql://***@db/shop"),
            ("mysql://u:sec#ret@db/shop", "mysql://***@db/shop"),
            ("mysql://u:sec@ret@db/shop", "mysql://***@db/shop"),
            ("u:secret@collector:4318", "***@collector:4318"),
            ("secret://@://secret@c", "secret://***@c"),
            ("postgres://u:p@db?sslpassword=secret@x", "postgres://***@x"),
            ("collector:4317", "collector:4317"),
            ("[::1]:4317", "[::1]:4317"),
            ("/explore?left=secret", "/explore?***"),
            ("sqlite:data/shop.db?key=secret", "sqlite:data/shop.db?***"),
            ("", ""),
            // A password may stand where a URL should.
            ("secret", "***"),
            ("sec@ret", "***"),
            ("u:secret", "***"),
            ("u:secret@db", "***"),
            ("://secret", "***"),
            ("c2VjcmV0==", "***"),
            ("host=db user=u password=secret dbname=shop", "***"),
            ("Server=db;Password=secret", "***"),
            ("jdbc:mysql://db/shop?password=secret", "***"),
        ] {
            let url = SecretUrl::new(given);
            assert_eq!(url.to_string(), shown, "{given}");
            assert_eq!(format!("{url:?}"), format!("\"{shown}\""));
            // What is printed can be printed again.
            assert_eq!(SecretUrl::new(shown).to_string(), shown, "{given}");
            assert_eq!(url.expose(), given);
        }
    }
}
