//! What a failed statement means: its class in the signals, and its status for the caller.

use std::borrow::Cow;

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::error::{Error, Kind};

/// Classes of database errors: a closed set for `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It does not answer, or ended the connection.
    Away,
    /// No connection of the pool became free in time.
    PoolTimeout,
    /// Somebody else writes (SQLite).
    Busy,
    /// It ended the transaction because it and another waited for each other.
    Deadlock,
    /// The statement, or its wait for a lock, took too long.
    Timeout,
    /// The values break a constraint.
    Constraint,
    /// No room is left on its disk, or in what its file may grow to.
    Full,
    /// It takes no writes: a read-only file, a standby, or so set by its operators.
    ReadOnly,
    /// Its files cannot be read or written.
    Io,
    Other,
}

impl Class {
    /// `error.type`
    pub fn name(self) -> &'static str {
        match self {
            Self::Away => "unavailable",
            Self::PoolTimeout => "pool_timeout",
            Self::Busy => "busy",
            Self::Deadlock => "deadlock",
            Self::Timeout => "timeout",
            Self::Constraint => "constraint",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Io => "io_error",
            Self::Other => "_OTHER",
        }
    }

    /// What the caller is answered.
    pub fn kind(self) -> Kind {
        match self {
            Self::Away | Self::PoolTimeout | Self::Busy | Self::Deadlock | Self::Io => {
                Kind::DependencyUnavailable
            }
            Self::ReadOnly => Kind::ReadOnly,
            Self::Full => Kind::StorageFull,
            Self::Timeout => Kind::DeadlineExceeded,
            Self::Constraint | Self::Other => Kind::DatabaseFailed,
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Away | Self::PoolTimeout => "the database does not answer",
            Self::Busy => "the database is busy",
            Self::Deadlock => "the database ended the transaction to resolve a deadlock",
            Self::Timeout => "the database took too long",
            Self::Constraint => "the database refused the values",
            Self::Full => "the database has no room left to write",
            Self::ReadOnly => "the database takes no writes: it is read-only",
            Self::Io => "the database cannot read or write its files",
            Self::Other => "the database could not do it",
        }
    }

    /// Whether the transaction may have been committed although its COMMIT failed so.
    pub fn leaves_commit_open(self) -> bool {
        matches!(self, Self::Away | Self::Timeout)
    }

    /// What readiness says of a database whose check failed with `error`.
    pub fn status(error: &sqlx::Error) -> &'static str {
        match Self::of(error) {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            _ => "away",
        }
    }

    /// The class of an error.
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Away,
            sqlx::Error::PoolTimedOut => Self::PoolTimeout,
            sqlx::Error::Database(error) if error.kind() != ErrorKind::Other => Self::Constraint,
            sqlx::Error::Database(error) => of_answer(error.as_ref()),
            _ => Self::Other,
        }
    }
}

/// The class of what the database itself answered. Each has codes of its own, some of which look alike.
fn of_answer(error: &dyn DatabaseError) -> Class {
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        of_mysql(error.number())
    } else if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        of_postgres(error.code())
    } else if error.try_downcast_ref::<SqliteError>().is_some() {
        let code = error.code().and_then(|code| code.parse().ok());
        code.map_or(Class::Other, of_sqlite)
    } else {
        Class::Other
    }
}

/// By the primary code, which is the low byte of an extended one. <https://www.sqlite.org/rescode.html>
fn of_sqlite(code: u32) -> Class {
    /// The index of the log in memory cannot grow, which is for want of room too.
    const IOERR_SHMSIZE: u32 = 4874;
    match (code, code & 0xff) {
        (IOERR_SHMSIZE, _) => Class::Full,
        (_, 5 | 6) => Class::Busy,
        (_, 8) => Class::ReadOnly,
        (_, 9) => Class::Timeout,
        (_, 10 | 14) => Class::Io,
        (_, 13) => Class::Full,
        _ => Class::Other,
    }
}

/// By SQLSTATE. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn of_postgres(code: &str) -> Class {
    match code {
        "25006" => Class::ReadOnly,
        // The session idled too long in its transaction, or at all.
        "25P03" | "57P05" => Class::Away,
        // The server stops, starts, or ended the session.
        "57P01" | "57P02" | "57P03" => Class::Away,
        "40001" | "40P01" => Class::Deadlock,
        // The statement timeout, or a cancel request; the lock timeout.
        "57014" | "55P03" => Class::Timeout,
        "53100" => Class::Full,
        "58000" | "58030" => Class::Io,
        // Connection exceptions; insufficient resources, such as too many connections.
        _ if code.starts_with("08") || code.starts_with("53") => Class::Away,
        _ => Class::Other,
    }
}

/// By number. <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>,
/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>
fn of_mysql(number: u16) -> Class {
    match number {
        // The disk is full; the table is full, which InnoDB says of its disk.
        1021 | 1114 => Class::Full,
        // Errors while reading and writing files; of the storage engine.
        1023 | 1024 | 1026 | 1030 => Class::Io,
        // Too many connections; the server stops; the connection was ended, or broke.
        1040 | 1053 | 1077..=1079 | 1152 | 1158..=1161 | 1184 | 1203 | 1927 | 4031 => Class::Away,
        1213 => Class::Deadlock,
        // The wait for a row took too long; the statement timeouts of MariaDB and of MySQL; a statement that was ended.
        1205 | 1317 | 1969 | 3024 => Class::Timeout,
        1290 | 1792 | 1836 => Class::ReadOnly,
        _ => Class::Other,
    }
}

/// The error that a caller is answered with.
pub fn failed(error: sqlx::Error) -> Error {
    let class = Class::of(&error);
    Error::new(class.kind(), class.detail()).because(error)
}

/// `db.response.status_code`. MySQL's is its number: its SQLSTATE is only a class, and the semantic conventions ask for
/// the number.
pub fn code(error: &dyn DatabaseError) -> Option<Cow<'_, str>> {
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => Some(error.number().to_string().into()),
        None => error.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_told_apart_by_its_database() {
        // SQLite's "cannot sync" and MySQL's "index file is broken" have one number.
        assert_eq!((of_sqlite(1034), of_mysql(1034)), (Class::Io, Class::Other));
        assert_eq!((of_sqlite(13), of_sqlite(4874)), (Class::Full, Class::Full));
        assert_eq!(of_sqlite(1544), Class::ReadOnly);
        assert_eq!(of_sqlite(517), Class::Busy);
        assert_eq!(of_postgres("53100"), Class::Full);
        assert_eq!(of_postgres("53300"), Class::Away);
        assert_eq!(of_postgres("40P01"), Class::Deadlock);
        assert_eq!(
            (of_mysql(1114), of_mysql(1290)),
            (Class::Full, Class::ReadOnly)
        );
    }

    #[test]
    fn a_class_without_room_or_rights_to_write_has_a_status_of_its_own() {
        assert_eq!(Class::Full.kind().status().as_u16(), 507);
        assert_eq!(Class::ReadOnly.kind().status().as_u16(), 503);
        assert_ne!(Class::ReadOnly.kind(), Class::Away.kind());
    }
}
