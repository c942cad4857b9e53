//! The player: a process of its own that sends what everybody sends and does what goes wrong, until it is told to stop.
//!
//! Every mechanism ends with its process: a transaction with its connection, a client with its sockets. So a crash heals too.

mod clock;
mod proxy;
mod senders;
mod shop;
mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, Url};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::shop::Shop;
use self::traffic::Traffic;
use super::definition::{Drill, Fault, fill};
use super::state::{Desk, Run};
use crate::output::say;
use crate::stack::send::sample::random_id;
use crate::stop::Stop;
use crate::{http, load};

/// After a mechanism failed, such as a database that is away: how long until it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Clients of the shop: it tells these apart by name.
const CLIENTS: [&str; 4] = ["11111", "22222", "33333", "44444"];

/// Where the programs of the shop send their signals.
#[derive(Debug, Clone)]
pub struct Signals {
    /// URL for logs, metrics and traces.
    pub otlp: String,
    /// URL for profiles.
    pub profiles: String,
    /// URL of Loki's push API, on the stack.
    pub loki: String,
}

/// Plays until it is told to stop.
pub async fn play(
    desk: &Desk,
    drill: &Drill,
    run: &Run,
    database: &str,
    signals: &Signals,
) -> Result<(), String> {
    let _playing = desk.play()?;
    let mut stop = Stop::listen().map_err(|error| error.to_string())?;
    let chosen = drill.chosen(run.seed);
    let shop = match &drill.shop {
        None => None,
        Some(part) => {
            let starting = Shop::start(desk.folder(), signals, drill, part, &chosen);
            tokio::select! {
                shop = starting => Some(shop?),
                () = stop.requested() => return Ok(()),
            }
        }
    };
    let mut parts = JoinSet::new();
    let outcome = match begin(
        &mut parts,
        drill,
        run,
        &chosen,
        shop.as_ref(),
        (database, signals),
    )
    .await
    {
        Ok(()) => {
            desk.ready()?;
            let ended = async {
                match &shop {
                    Some(shop) => shop.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.requested() => Ok(()),
                what = ended => Err(what),
            }
        }
        failed => failed,
    };
    parts.shutdown().await;
    if let Some(shop) = shop {
        shop.stop().await;
    }
    outcome
}

/// Begins the load and what goes wrong.
async fn begin(
    parts: &mut JoinSet<()>,
    drill: &Drill,
    run: &Run,
    chosen: &BTreeMap<String, String>,
    shop: Option<&Shop>,
    (database, signals): (&str, &Signals),
) -> Result<(), String> {
    let service: Url = match shop {
        Some(shop) => shop.url.clone(),
        None => run
            .service
            .parse()
            .map_err(|error| format!("the service's URL: {error}"))?,
    };
    let database = shop.map_or(database, |shop| shop.database.as_str());
    let sender = || http::client(Duration::from_secs(10), 64).map_err(|error| error.to_string());
    if shop.is_some() {
        let traffic = Traffic::parse(&fill(&drill.load.mix, chosen), drill.load.rate, &CLIENTS)?;
        parts.spawn(traffic.send(sender()?, service.clone()));
    } else {
        let engine = load::endless(&service, &drill.load.mix, drill.load.rate)
            .map_err(|error| error.to_string())?;
        parts.spawn(engine.run());
    }
    let number = |text: &str| {
        let text = fill(text, chosen);
        text.parse::<u32>()
            .map_err(|_| format!("`{text}` is no whole number"))
    };
    let every =
        |rate: f64| Duration::try_from_secs_f64(1.0 / rate).map_err(|error| error.to_string());
    let millis = |text: &str| number(text).map(|ms| Duration::from_millis(ms.into()));
    for fault in &drill.fault {
        match fault {
            Fault::HeldTransaction {
                statement,
                hold_ms,
                every_ms,
            } => {
                let (database, statement) = (database.to_owned(), fill(statement, chosen));
                let (hold, every) = (millis(hold_ms)?, millis(every_ms)?);
                parts.spawn(async move { hold_again(&database, &statement, hold, every).await });
            }
            Fault::Retries {
                target,
                rate,
                attempts,
                client,
            } => {
                let target = fill(target, chosen);
                let url = service
                    .join(&target)
                    .map_err(|error| format!("{target}: {error}"))?;
                let every = every(*rate)?;
                let (attempts, client, sender) =
                    (number(attempts)?, fill(client, chosen), sender()?);
                parts.spawn(
                    async move { call_again(&sender, &url, every, attempts, &client).await },
                );
            }
            Fault::Flood {
                target,
                rate,
                client,
            } => {
                let traffic = Traffic::parse(
                    &format!("GET {}=1", fill(target, chosen)),
                    *rate,
                    &[&fill(client, chosen)],
                )?;
                parts.spawn(traffic.send(sender()?, service.clone()));
            }
            Fault::Statement { statement } => execute(database, &fill(statement, chosen)).await?,
            Fault::Variant {
                program,
                name,
                value,
            } => {
                let shop = shop.ok_or("a variant without a shop")?;
                shop.choose(
                    &fill(program, chosen),
                    &fill(name, chosen),
                    &fill(value, chosen),
                )
                .await?;
            }
            Fault::Streams {
                service,
                label,
                rate,
            } => {
                parts.spawn(senders::label_streams(
                    sender()?,
                    signals.loki.clone(),
                    fill(service, chosen),
                    fill(label, chosen),
                    every(*rate)?,
                ));
            }
            Fault::Singly { service, rate } => {
                parts.spawn(senders::export_singly(
                    sender()?,
                    signals.otlp.clone(),
                    fill(service, chosen),
                    every(*rate)?,
                ));
            }
            // Done when the programs were started, or by `make`.
            Fault::Deployment
            | Fault::Setting { .. }
            | Fault::Clock { .. }
            | Fault::Compose { .. } => {}
        }
    }
    Ok(())
}

/// Runs a statement of whoever has the database's login.
async fn execute(database: &str, statement: &str) -> Result<(), String> {
    macro_rules! execute {
        ($connection:ty) => {{
            let mut connection = <$connection>::connect(database).await?;
            // A drill's file is as trusted as this program: it comes with it, or the reader wrote it.
            sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
            connection.close().await
        }};
    }
    let executed: sqlx::Result<()> = async {
        match database.split(':').next() {
            Some("postgres" | "postgresql") => execute!(PgConnection),
            Some("mysql") => execute!(MySqlConnection),
            _ => execute!(SqliteConnection),
        }
    }
    .await;
    executed.map_err(|error| format!("the statement could not be run: {error}"))
}

async fn hold_again(database: &str, statement: &str, hold: Duration, every: Duration) {
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = hold_once(database, statement, hold).await {
            say!("the transaction could not be held: {error}");
            sleep(AGAIN).await;
        }
    }
}

/// Takes the lock, keeps it, and gives it back with nothing changed.
async fn hold_once(database: &str, statement: &str, hold: Duration) -> sqlx::Result<()> {
    macro_rules! hold {
        ($connection:ty) => {{
            let mut connection = <$connection>::connect(database).await?;
            let mut transaction = connection.begin().await?;
            // A drill's file is as trusted as this program: it comes with it, or the reader wrote it.
            sqlx::query(AssertSqlSafe(statement.to_owned()))
                .execute(&mut *transaction)
                .await?;
            sleep(hold).await;
            transaction.rollback().await?;
            connection.close().await
        }};
    }
    match database.split(':').next() {
        Some("postgres" | "postgresql") => hold!(PgConnection),
        Some("mysql") => hold!(MySqlConnection),
        _ => hold!(SqliteConnection),
    }
}

async fn call_again(sender: &Client, url: &Url, every: Duration, attempts: u32, client: &str) {
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        // One call of one user: every attempt is sent with the same id.
        let call = random_id();
        for _ in 0..attempts {
            let request = sender.get(url.clone());
            let request = request
                .header("client-id", client)
                .header("x-request-id", &call);
            let failed = match request.send().await {
                Ok(answer) => answer.status().is_server_error(),
                Err(_) => true,
            };
            if !failed {
                break;
            }
        }
    }
}
