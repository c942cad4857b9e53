//! A small web shop in two roles: `shop serve` has catalogue, baskets and orders; `shop payment` authorises charges.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`settings`] | every setting: variable, default, what absence means |
//! | [`state`] | what the handlers share |
//! | [`server`] | listener, layers, graceful stop |
//! | [`database`] | SQLite: the pool, and a span and a metric of each statement |
//! | [`catalogue`], [`bestsellers`] | products, search, and what sells best |
//! | [`rankings`] | the cache of what sells best |
//! | [`basket`] | baskets and checkout |
//! | [`orders`], [`documents`] | what customers bought, and its papers |
//! | [`recent`] | what visitors looked at last |
//! | [`payment`] | the other role, and how the shop calls it |
//! | [`variants`] | where two implementations exist, which of them is in use |
//! | [`problem`] | error → status |

mod basket;
mod bestsellers;
mod catalogue;
mod database;
mod documents;
mod orders;
mod payment;
mod problem;
mod rankings;
mod recent;
mod server;
mod settings;
mod state;
mod variants;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use crate::database::Database;
use crate::payment::Payments;
use crate::settings::Settings;
use crate::state::Shop;
use crate::variants::Variants;

#[cfg(target_os = "linux")] // elsewhere the system's allocator, and no heap profiles
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A small web shop and its payment service. Settings are environment variables: shop/src/settings.rs.
#[derive(Parser)]
#[command(name = "shop", version)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Clone, Copy, Subcommand)]
enum Role {
    /// Catalogue, baskets, orders
    Serve,
    /// Authorises charges
    Payment,
}

fn main() -> ExitCode {
    match run(Cli::parse().role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role) -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_env()?;
    let name = match role {
        Role::Serve => "shop",
        Role::Payment => "payment",
    };
    let guard = signalbox_telemetry::init(&settings::telemetry(name)?)?; // before any runtime exists
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(role, &settings));
    let served = served.inspect_err(|error| tracing::error!("{error}"));
    if let Err(errors) = guard.shutdown(settings.flush_timeout) {
        eprintln!("shop: {errors}");
    }
    // What still blocks a thread need not end first.
    runtime.shutdown_background();
    served
}

async fn serve(role: Role, settings: &Settings) -> Result<(), Box<dyn Error>> {
    let variants = Arc::new(Variants::default());
    let router = match role {
        Role::Serve => server::shop(Arc::new(Shop {
            database: Database::open(settings).await?,
            rankings: rankings::Rankings::default(),
            recent: recent::Recent::default(),
            payments: Payments::new(settings)?,
            variants: Arc::clone(&variants),
        })),
        Role::Payment => payment::router(Arc::clone(&variants)),
    };
    server::run(settings, router, variants).await
}
