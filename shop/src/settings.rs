//! Every setting of the program. Those of its telemetry are in `signalbox-telemetry`.

use std::net::SocketAddr;
use std::time::Duration;

use signalbox_telemetry::{Identity, SecretUrl, SettingError};

/// What is read from the environment at the start.
pub struct Settings {
    /// `SHOP_LISTEN`: address and port, default `127.0.0.1:18070`. `stdin` takes standard input, which must be a socket that listens already: None.
    pub listen: Option<SocketAddr>,
    /// `SHOP_CONTROL_LISTEN`: where variants are chosen. Absent: nowhere.
    pub control: Option<SocketAddr>,
    /// `DATABASE_URL`: `sqlite:` and a path, default `sqlite:data/shop.db`. Made and filled when it does not exist.
    pub database: SecretUrl,
    /// `SHOP_DATABASE_CONNECTIONS`: connections at most, default 6.
    pub connections: u32,
    /// `SHOP_PAYMENT_URLS`: base URLs of the payment service's replicas, separated by commas; asked in turn. Default `http://127.0.0.1:18071`.
    pub payments: Vec<String>,
    /// How long all signals together have to be flushed at the end.
    pub flush_timeout: Duration,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0} must be {1}")]
pub struct Wrong(&'static str, &'static str);

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// A value that does not parse, by its variable's name.
    pub fn from_env() -> Result<Self, Wrong> {
        // An empty variable counts as unset.
        let text = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        };
        let address = |name, text: String| {
            text.parse()
                .map_err(|_| Wrong(name, "an address and a port, such as 127.0.0.1:18070"))
        };
        let listen = match text("SHOP_LISTEN") {
            Some(value) if value == "stdin" => None,
            value => Some(address(
                "SHOP_LISTEN",
                value.unwrap_or("127.0.0.1:18070".into()),
            )?),
        };
        let connections = text("SHOP_DATABASE_CONNECTIONS").unwrap_or("6".into());
        let connections = connections
            .parse()
            .ok()
            .filter(|count| (1..=64).contains(count));
        let payments = text("SHOP_PAYMENT_URLS").unwrap_or("http://127.0.0.1:18071".into());
        Ok(Self {
            listen,
            control: text("SHOP_CONTROL_LISTEN")
                .map(|value| address("SHOP_CONTROL_LISTEN", value))
                .transpose()?,
            database: SecretUrl::from(
                text("DATABASE_URL")
                    .unwrap_or("sqlite:data/shop.db".into())
                    .as_str(),
            ),
            connections: connections.ok_or(Wrong("SHOP_DATABASE_CONNECTIONS", "1 to 64"))?,
            payments: payments
                .split(',')
                .map(|url| url.trim().trim_end_matches('/').to_owned())
                .collect(),
            flush_timeout: Duration::from_secs(2),
        })
    }
}

/// Settings of the telemetry of `service`.
///
/// # Errors
/// A wrong value, by its variable's name.
pub fn telemetry(service: &'static str) -> Result<signalbox_telemetry::Settings, SettingError> {
    signalbox_telemetry::Settings::from_env(Identity {
        service_name: service,
        service_namespace: "shop",
        service_version: env!("CARGO_PKG_VERSION"),
        metric_prefix: "shop",
        request_id_attribute: "request.id",
    })
}
