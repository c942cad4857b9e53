//! The stack that `make up` starts, seen from inside its network: is each part ready, and does a sample of each signal get through?
//!
//! Runs from our image (`docker compose exec probe …`, `docker compose run --rm ctl …`), so that Docker is all a user needs.

pub mod addresses;
pub mod doctor;
mod exposition;
mod parts;
pub mod probe;
pub mod send;
pub mod verify;
pub mod wait;
pub mod watch;
