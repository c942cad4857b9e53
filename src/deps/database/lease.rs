//! A connection out of the pool, which goes back only from a state that is known.
//!
//! After a failed statement nobody can tell from here in which transaction a connection is. SQLite rolls back by itself
//! when its disk is full, and sqlx goes on counting the transaction as open: on such a connection later transactions are
//! savepoints, whose COMMIT succeeds and stores nothing. A caller that went away in the middle leaves the same doubt, and
//! so does a server that stopped answering. A new connection costs milliseconds; orders that do not exist cost more.

use std::ops::{Deref, DerefMut};

use sqlx::Database;
use sqlx::pool::PoolConnection;

use crate::error::{Error, Kind};

/// Closed when it is dropped, unless [`Lease::settle`] found its state known.
pub struct Lease<DB: Database> {
    connection: PoolConnection<DB>,
    known: bool,
}

impl<DB: Database> Lease<DB> {
    pub fn new(connection: PoolConnection<DB>) -> Self {
        Self {
            connection,
            known: false,
        }
    }

    /// The end of its use with `outcome`, of a whole transaction or of a statement outside any. It goes back to the pool
    /// after a success, or when the database refused a lone statement, which is then undone as if it had never been.
    pub fn settle<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.known = match &outcome {
            Ok(_) => true,
            Err(error) => {
                error.kind() == Kind::DatabaseFailed
                    && !sqlx::Connection::is_in_transaction(&*self.connection)
            }
        };
        outcome
    }
}

impl<DB: Database> Deref for Lease<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Lease<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        if !self.known {
            self.connection.close_on_drop();
        }
    }
}
