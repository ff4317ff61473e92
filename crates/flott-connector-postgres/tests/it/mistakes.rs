//! What users do wrong, and what they are told.

use flott_api::{Sink, SinkContext, SinkWriter};
use flott_connector_postgres::{PostgresSink, PostgresValue};
use flott_env::Env;
use flott_services::{POSTGRES_PASSWORD as PASSWORD, Postgres as Server, wait_for};
use flott_types::{Error, ErrorKind, RecordBatch, SubtaskIndex};

fn sink(url: &str, table: &str, columns: &[&str]) -> PostgresSink<String> {
    let n = columns.len();
    PostgresSink::with_row(url, table, columns.iter().copied(), move |text: &String| {
        vec![PostgresValue::from(text.as_str()); n]
    })
}

fn context() -> SinkContext {
    SinkContext::new(Env::real().unwrap(), SubtaskIndex(0), 4, 1)
}

fn refused(sink: &PostgresSink<String>) -> Error {
    sink.create_writer(context()).expect_err("it is refused")
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.report();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    assert!(!text.contains(PASSWORD), "{text}");
}

pub(crate) fn users_are_told_what_is_wrong_before_the_first_record(server: &Server) {
    use ErrorKind::{Retry, UserError};
    let database = server.database();
    let url = server.url(&database);
    server.sql(&database, "CREATE TABLE results(n bigint, name text)");
    let modes =
        |sink: PostgresSink<String>, key: &str| [sink.clone(), sink.clone().eager(), sink.upsert_by([key])];
    for sink in modes(sink(&url, "nowhere", &["a"]), "a") {
        check(
            &refused(&sink),
            UserError,
            &["table 'nowhere'", &database, "create_table", "\"nowhere\" does not exist"],
        );
    }
    for sink in modes(sink(&url, "results", &["n", "missing"]), "n") {
        check(&refused(&sink), UserError, &["name columns that the table has", "\"missing\" does not exist"]);
    }
    check(
        &refused(&sink(&url, "results", &["n"]).upsert_by(["n"])),
        UserError,
        &["declare the key as PRIMARY KEY or UNIQUE"],
    );
    check(
        &refused(&sink(&url, "results", &["n"]).upsert_by(["name"])),
        UserError,
        &["'name' of the key of table 'results' is not written"],
    );
    check(&refused(&sink(&url, "results", &[])), UserError, &["no columns"]);
    check(
        &refused(&sink(&url, "results", &["n"]).create_table("CREATE TABEL a(b int)")),
        UserError,
        &["[CREATE TABEL a(b int)]", "syntax error"],
    );
    check(
        &refused(&sink(&url, "results", &["n"]).password("wrong")),
        UserError,
        &["user 'flott'", "password", "28P01"],
    );
    check(
        &refused(&sink(&server.url("missing"), "results", &["n"])),
        UserError,
        &["\"missing\" does not exist", "name another one"],
    );
    check(
        &refused(&sink("postgres://flott@127.0.0.1:1/a", "results", &["n"])),
        Retry,
        &["cannot connect", "127.0.0.1:1"],
    );
    check(
        &refused(&sink("mysql://flott@127.0.0.1/a", "results", &["n"])),
        UserError,
        &["does not begin with 'postgres://'"],
    );
    let encrypted = url.replace("sslmode=disable", "sslmode=require");
    check(
        &refused(&sink(&encrypted, "results", &["n"])),
        Retry,
        &["does not encrypt connections", "sslmode"],
    );
    server.sql(&database, "CREATE USER stranger PASSWORD 'stranger'; CREATE TABLE mine(n bigint)");
    let stranger = sink(&url, "mine", &["n"]).username("stranger").password("stranger");
    check(&refused(&stranger), UserError, &["grant the user what the statement needs", "permission denied"]);
}

pub(crate) fn records_that_do_not_fit_are_named(server: &Server) {
    let database = server.database();
    server.sql(&database, "CREATE TABLE results(n bigint PRIMARY KEY, small smallint CHECK (small < 10))");
    let write = |column: &str, text: &str| {
        let sink = sink(&server.url(&database), "results", &["n", column]);
        let mut writer = sink.create_writer(context()).unwrap();
        SinkWriter::<String>::restore(&mut writer, Vec::new(), None).unwrap();
        let written = writer.write(RecordBatch::untimed(vec![text.to_owned()]));
        let error = written.and_then(|()| SinkWriter::<String>::finish(&mut writer)).unwrap_err();
        *error.downcast::<Error>().unwrap_or_else(|error| Box::new(Error::user(error.to_string())))
    };
    check(
        &write("small", "many"),
        ErrorKind::UserError,
        &["type does not take the value", "\"many\"", "column n", "table 'results'"],
    );
    check(
        &write("small", "99999"),
        ErrorKind::UserError,
        &["type does not take the value", "99999", "small"],
    );
    check(&write("small", "11"), ErrorKind::UserError, &["does not accept the row", "check constraint"]);
    check(&write("small", "a\0b"), ErrorKind::UserError, &["zero byte", "table 'results'"]);
    server.sql(&database, "INSERT INTO results VALUES(5, 5)");
    check(
        &write("small", "5"),
        ErrorKind::UserError,
        &["does not accept the row", "upsert_by", "(n)=(5) already exists"],
    );
}

pub(crate) fn servers_that_cannot_prepare_are_refused(_: &Server) {
    for (n_max, problem) in [
        ("0", "it does not allow prepared transactions"),
        ("7", "allows 7 prepared transactions, and 4 subtasks need 8"),
    ] {
        let server = Server::start(&[&format!("max_prepared_transactions={n_max}")]).unwrap();
        let url = server.url("postgres");
        server.sql("postgres", "CREATE TABLE results(n text PRIMARY KEY)");
        let sink = sink(&url, "results", &["n"]);
        check(
            &refused(&sink),
            ErrorKind::UserError,
            &[problem, "set max_prepared_transactions", "PostgresSink::eager"],
        );
        sink.clone().eager().create_writer(context()).unwrap();
        sink.upsert_by(["n"]).create_writer(context()).unwrap();
    }
}

pub(crate) fn the_password_is_never_shown(server: &Server) {
    let sink = sink(&server.url("postgres"), "results", &["n"]);
    let text = format!("{sink:?}");
    assert!(text.contains("127.0.0.1") && !text.contains(PASSWORD), "{text}");
}

pub(crate) fn connections_are_encrypted_and_servers_have_to_be_who_they_say(_: &Server) {
    let server = Server::start(&Server::SSL).unwrap();
    server.sql("postgres", "CREATE TABLE results(n text)");
    let authority = server.authority();
    let url = |host: &str, options: &str| {
        let url = server.url("postgres").replace("127.0.0.1", host);
        url.replace("sslmode=disable", options)
    };
    let trusting = format!("sslmode=verify-full&sslrootcert={}", authority.display());
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING(pid) WHERE application_name = 'flott' AND ssl";
    for url in
        [url("127.0.0.1", "sslmode=prefer"), url("127.0.0.1", "sslmode=require"), url("localhost", &trusting)]
    {
        let sink = sink(&url, "results", &["n"]);
        let mut writer = sink.create_writer(context()).unwrap();
        SinkWriter::<String>::restore(&mut writer, Vec::new(), None).unwrap();
        assert_eq!(server.sql("postgres", encrypted), "1", "{sink:?}");
        // More than one packet.
        writer.write(RecordBatch::untimed(vec!["x".repeat(100_000); 3])).unwrap();
        SinkWriter::<String>::finish(&mut writer).unwrap();
    }
    for (url, problem) in [
        (url("127.0.0.1", &trusting), "not valid for name"),
        (url("localhost", "sslmode=verify-full"), "UnknownIssuer"),
        (url("localhost", "sslmode=verify-full&sslrootcert=/nowhere.pem"), "sslrootcert '/nowhere.pem'"),
    ] {
        check(&refused(&sink(&url, "results", &["n"])), ErrorKind::Retry, &["sslmode", problem]);
    }
}

pub(crate) fn users_prove_who_they_are_in_the_way_that_the_server_asks_for(_: &Server) {
    let server = Server::start(&[]).unwrap();
    server.sql("postgres", "CREATE TABLE results(n text); SET password_encryption = 'md5'; CREATE USER old PASSWORD 'secret'; GRANT ALL ON results TO old; \
        GRANT ALL ON SCHEMA public TO old");
    let connect = |user: &str, password: &str| {
        let url = format!("postgres://{user}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
        sink(&url, "results", &["n"]).password(password).create_writer(context()).map(drop)
    };
    connect("flott", PASSWORD).unwrap();
    for method in ["md5", "password"] {
        server.authenticate_by(method).unwrap();
        // The server reads its file in its own time.
        wait_for("the method", || connect("old", "secret").is_ok());
        check(&connect("old", "wrong").unwrap_err(), ErrorKind::UserError, &["user 'old'", "28P01"]);
        connect("flott", PASSWORD).unwrap();
    }
    server.authenticate_by("reject").unwrap();
    wait_for("the method", || connect("flott", PASSWORD).is_err());
    check(&connect("flott", PASSWORD).unwrap_err(), ErrorKind::UserError, &["pg_hba.conf"]);
}
