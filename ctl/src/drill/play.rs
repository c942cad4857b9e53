//! The player: a process of its own that sends what everybody sends and does what goes wrong, until it is told to stop.
//!
//! Every mechanism ends with its process: a transaction with its connection, a client with its sockets. So a crash heals too.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, Url};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::definition::{Drill, Fault, fill};
use super::state::{Desk, Run};
use crate::output::say;
use crate::stack::send::sample::random_id;
use crate::stop::Stop;
use crate::{http, load};

/// After a mechanism failed, such as a database that is away: how long until it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Plays until it is told to stop.
pub async fn play(desk: &Desk, drill: &Drill, run: &Run, database: &str) -> Result<(), String> {
    let _playing = desk.play()?;
    let mut stop = Stop::listen().map_err(|error| error.to_string())?;
    let service: Url = run
        .service
        .parse()
        .map_err(|error| format!("the service's URL: {error}"))?;
    let chosen = drill.chosen(run.seed);
    let mut parts = JoinSet::new();
    let mut engine = load::endless(&service, &drill.load.mix, drill.load.rate)
        .map_err(|error| error.to_string())?;
    parts.spawn(async move { while engine.reports.recv().await.is_some() {} });
    for fault in &drill.fault {
        match filled(fault, &chosen)? {
            Ready::HeldTransaction {
                statement,
                hold,
                every,
            } => {
                let database = database.to_owned();
                parts.spawn(async move { hold_again(&database, &statement, hold, every).await });
            }
            Ready::Retries {
                target,
                every,
                attempts,
                client,
            } => {
                let url = service
                    .join(&target)
                    .map_err(|error| format!("{target}: {error}"))?;
                let sender =
                    http::client(Duration::from_secs(10), 8).map_err(|error| error.to_string())?;
                parts.spawn(
                    async move { call_again(&sender, &url, every, attempts, &client).await },
                );
            }
        }
    }
    stop.requested().await;
    parts.shutdown().await;
    Ok(())
}

/// A mechanism with the values of this run.
enum Ready {
    HeldTransaction {
        statement: String,
        hold: Duration,
        every: Duration,
    },
    Retries {
        target: String,
        every: Duration,
        attempts: u32,
        client: String,
    },
}

fn filled(fault: &Fault, chosen: &BTreeMap<String, String>) -> Result<Ready, String> {
    let number = |text: &str| {
        let text = fill(text, chosen);
        text.parse::<u32>()
            .map_err(|_| format!("`{text}` is no whole number"))
    };
    let millis = |text: &str| number(text).map(|ms| Duration::from_millis(ms.into()));
    Ok(match fault {
        Fault::HeldTransaction {
            statement,
            hold_ms,
            every_ms,
        } => Ready::HeldTransaction {
            statement: fill(statement, chosen),
            hold: millis(hold_ms)?,
            every: millis(every_ms)?,
        },
        Fault::Retries {
            target,
            rate,
            attempts,
            client,
        } => Ready::Retries {
            target: fill(target, chosen),
            every: Duration::try_from_secs_f64(1.0 / rate).map_err(|error| error.to_string())?,
            attempts: number(attempts)?,
            client: fill(client, chosen),
        },
    })
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
