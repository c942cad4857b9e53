//! Lesson: who holds the lock. `GET /demo/lock?ms=` locks a row and keeps it; whoever else needs that row waits.
//!
//! Where to look: send it, and while it holds `GET /ping?fault=lock_wait_ms=3000`. The second request's span `UPDATE
//! products` is as long as the first one's hold; the first one's trace has the same statement, short, and its ROLLBACK much
//! later. With PostgreSQL or MySQL the sessions themselves tell who waits for whom, and each names its span in the comment
//! of its statement (`pg_stat_activity`, `SHOW PROCESSLIST`).

use std::time::Duration;

use actix_web::web::{Data, Json, Query};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::deps::database::Database;
use crate::error::Error;
use crate::limits::bounded;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Milliseconds to keep the row locked.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 8000, default = 2000)]
    ms: Option<String>,
}

/// What was held.
#[derive(Serialize, ToSchema)]
pub struct LockHeld {
    /// Milliseconds that the row was kept locked.
    #[schema(minimum = 1, maximum = 8000)]
    held_ms: u32,
}

/// Keeps a row locked, and changes nothing.
#[utoipa::path(get, path = "/demo/lock", tag = "demo", params(Params),
    responses((status = 200, description = "The row was locked and is free again", body = LockHeld)))]
pub async fn lock(
    params: Query<Params>,
    database: Data<Database>,
) -> Result<Json<LockHeld>, Error> {
    let held_ms = bounded("ms", params.ms.as_deref(), 2000, 1..=8000)?;
    database
        .hold_lock(Duration::from_millis(held_ms.into()))
        .await?;
    Ok(Json(LockHeld { held_ms }))
}
