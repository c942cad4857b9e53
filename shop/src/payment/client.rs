//! How the shop calls the payment service: its replicas in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use signalbox_telemetry::{causes, client};

use crate::problem::Problem;
use crate::settings::Settings;

/// How long a charge may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The replicas of the payment service.
pub struct Payments {
    client: Client,
    replicas: Vec<String>,
    next: AtomicUsize,
}

impl Payments {
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(settings: &Settings) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: Client::builder().no_proxy().timeout(TIMEOUT).build()?,
            replicas: settings.payments.clone(),
            next: AtomicUsize::new(0),
        })
    }

    /// Charges a card of that brand.
    ///
    /// # Errors
    /// [`Problem::Refused`], or [`Problem::Payment`] when the service failed.
    pub async fn charge(&self, brand: &str, cents: i64) -> Result<(), Problem> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let replica = &self.replicas[turn % self.replicas.len()];
        let request = self
            .client
            .post(format!("{replica}/charges/{brand}/{cents}"))
            .build();
        let request = request.map_err(|error| Problem::Payment(causes(&error)))?;
        let answer = client::send(&self.client, request, "/charges/{brand}/{cents}").await;
        let answer = answer.map_err(|error| Problem::Payment(causes(&error)))?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::PAYMENT_REQUIRED => Err(Problem::Refused),
            status => Err(Problem::Payment(format!("it answered {status}"))),
        }
    }
}
