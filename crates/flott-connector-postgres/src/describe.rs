//! Errors that say what was attempted, on what, and what to do.

use crate::client::{PgError, ServerError};
use crate::options::ConnectionOptions;
use flott_types::{Error, ErrorKind};

/// Names database, table, statement and remedy. The statement has no values in it, and no password is ever part of one.
#[cold]
pub(crate) fn describe(options: &ConnectionOptions, table: &str, statement: &str, error: PgError) -> Error {
    let (kind, remedy) = match &error {
        PgError::Io(_) => {
            (ErrorKind::Retry, "the connection broke or could not be made: see whether the server runs")
        }
        PgError::Protocol(_) => (ErrorKind::FailJob, "see whether a PostgreSQL server listens there"),
        PgError::Server(error) => remedy(error),
    };
    let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = format!(
        "cannot execute [{statement}] for table '{table}' of PostgreSQL database {options}; {remedy}"
    );
    Error::new(kind, message).with_source(error)
}

/// As [`describe`], before there is a session.
#[cold]
pub(crate) fn describe_connect(options: &ConnectionOptions, error: PgError) -> Error {
    let (kind, remedy) = match &error {
        PgError::Io(_) => {
            (ErrorKind::Retry, "see whether the server runs, and host, port and sslmode are right")
        }
        PgError::Protocol(_) => (ErrorKind::FailJob, "see whether a PostgreSQL server listens there"),
        PgError::Server(error) => remedy(error),
    };
    let user = &options.username;
    Error::new(kind, format!("cannot connect to PostgreSQL database {options} as user '{user}'; {remedy}"))
        .with_source(error)
}

/// Whether the server refuses a row for what is in it, by a type, a constraint or a trigger, and would again.
pub(crate) fn is_of_the_row(error: &Error) -> bool {
    // Data exceptions, violated constraints, keys too long for an index, and what triggers raise.
    const CODES: [&str; 4] = ["22", "23", "54000", "P0001"];
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<PgError>());
    source.is_some_and(|error| CODES.iter().any(|code| error.code().starts_with(code)))
}

fn remedy(error: &ServerError) -> (ErrorKind, &'static str) {
    use ErrorKind::{Retry, UserError};
    let message = error.message.as_str();
    match error.code.as_str() {
        "28P01" | "28000" => {
            (UserError, "check user name and password, and what pg_hba.conf of the server allows")
        }
        "3D000" => (UserError, "create the database or name another one in the URL"),
        "42P01" => (UserError, "create the table, or give the statement for it to create_table of the sink"),
        "42703" => (UserError, "name columns that the table has"),
        "42P10" => (UserError, "declare the key as PRIMARY KEY or UNIQUE in the table"),
        "42501" => (UserError, "grant the user what the statement needs"),
        "42601" | "42804" | "42883" | "22P02" | "22P03" | "22P04" | "22003" | "22007" | "22008" | "22001"
        | "22021" => (
            UserError,
            "the column's type does not take the value: change the type or the record, or say what becomes of such records (on_error of the sink)",
        ),
        "25006" => (UserError, "the database only reads: connect to the primary, not to a standby"),
        "55000" if message.contains("prepared transactions are disabled") => (UserError, PREPARED_REMEDY),
        "53200" if message.contains("prepared transactions") => (Retry, PREPARED_REMEDY),
        "55000" if message.contains("is busy") => {
            (Retry, "another session is ending the transaction: try again")
        }
        "53300" => (Retry, "raise max_connections of the server, or lower the parallelism"),
        "53100" => (Retry, "free space on the server's disk"),
        "55P03" => (
            Retry,
            "somebody holds a lock for longer than lock_timeout, perhaps a prepared transaction with a row of the same key: see pg_locks \
             and pg_prepared_xacts, end the other transaction, or wait longer",
        ),
        "57P01" if message.contains("terminating connection") => {
            (Retry, "somebody ended the connection: another attempt of the job, or the server shuts down")
        }
        "55000" if message.contains("wal_level") => (UserError, WAL_LEVEL_REMEDY),
        "55006" => (Retry, "somebody else uses it: end the other reader"),
        code if code.starts_with("23") => (
            UserError,
            "the table does not accept the row: change its constraints or the records, replace rows with upsert_by, or say what becomes of such records \
             (on_error of the sink)",
        ),
        code if ["08", "40", "57", "53"].iter().any(|class| code.starts_with(class)) => {
            (Retry, "the server cannot do it now: try again")
        }
        _ => (ErrorKind::FailSubtask, "see the cause"),
    }
}

/// What a transactional sink needs.
pub(crate) const PREPARED_REMEDY: &str = "set max_prepared_transactions of the server to twice the sink's parallelism at least (postgresql.conf, then restart it)";

/// What change data capture needs.
pub(crate) const WAL_LEVEL_REMEDY: &str =
    "set wal_level = logical (postgresql.conf, then restart the server)";
