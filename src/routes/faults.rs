//! Lesson: faults on demand. `GET`, `PUT` and `DELETE /faults` show, set and switch off the default faults.
//!
//! Where to look: see `crate::faults`.

use actix_web::web::{Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Kind};
use crate::faults::inject::Faults;
use crate::faults::plan::Plan;

#[derive(Serialize, ToSchema)]
pub struct State {
    /// What is injected into every request that does not ask for its own.
    default: Plan,
    /// Bytes leaked so far and not given back.
    #[schema(minimum = 0)]
    leaked_bytes: usize,
}

fn state(faults: &Faults) -> Json<State> {
    Json(State {
        default: faults.plan(),
        leaked_bytes: faults.leaked_bytes(),
    })
}

/// The default faults.
#[utoipa::path(get, path = "/faults", tag = "faults",
    responses((status = 200, description = "What is injected by default", body = State)))]
pub async fn show(faults: Data<Faults>) -> Json<State> {
    state(&faults)
}

/// Replaces the default faults; what is not named is off.
#[utoipa::path(put, path = "/faults", tag = "faults", request_body = Plan,
    responses((status = 200, description = "What is injected from now on", body = State)))]
pub async fn set(faults: Data<Faults>, plan: Json<Plan>) -> Result<Json<State>, Error> {
    plan.check()
        .map_err(|reason| Error::new(Kind::Unprocessable, reason))?;
    faults.set(*plan);
    Ok(state(&faults))
}

/// Switches all default faults off and gives leaked memory back.
#[utoipa::path(delete, path = "/faults", tag = "faults",
    responses((status = 200, description = "Everything is off", body = State)))]
pub async fn reset(faults: Data<Faults>) -> Json<State> {
    faults.reset();
    state(&faults)
}
