//! What the sink promises, one by one, driven by hand.

use flott_api::{Committable, CommittableId, OnError, Sink, SinkContext, SinkGeneration, SinkWriter};
use flott_connector_postgres::{PostgresSink, PostgresValue, PostgresWriter};
use flott_env::Env;
use flott_services::Postgres as Server;
use flott_types::{CheckpointId, ErrorKind, JobId, RecordBatch, RowChange, RowKind, SubtaskIndex};
use serde::Serialize;
use std::time::Duration;

fn context(subtask: u32, parallelism: u32, generation: u64) -> SinkContext {
    let mut ctx = SinkContext::new(Env::real().unwrap(), SubtaskIndex(subtask), parallelism, generation);
    (ctx.job_id, ctx.has_checkpoints) = (JobId(7), true);
    ctx.generation = Some(SinkGeneration { history: 1, job: generation, subtask: generation });
    ctx
}

fn sink(url: &str) -> PostgresSink<i64> {
    PostgresSink::with_row(url, "results", ["n"], |n: &i64| vec![PostgresValue::from(*n)])
        .create_table("CREATE TABLE IF NOT EXISTS results(n bigint)")
}

fn write(writer: &mut PostgresWriter<i64>, n: i64) -> flott_api::UserResult {
    writer.write(RecordBatch::untimed(vec![n]))?;
    SinkWriter::<i64>::finish(writer)
}

fn started<T: Send + 'static>(
    sink: &PostgresSink<T>,
    ctx: &SinkContext,
    restored: Option<u64>,
) -> PostgresWriter<T> {
    let mut writer = sink.create_writer(ctx.clone()).unwrap();
    writer.restore(Vec::new(), restored.map(CheckpointId)).unwrap();
    writer
}

fn committable(id: u128, checkpoint: u64, payload: Vec<u8>) -> Committable {
    let (id, checkpoint_id) = (CommittableId(id), CheckpointId(checkpoint));
    Committable { id, checkpoint_id, subtask: SubtaskIndex(0), payload }
}

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";

pub(crate) fn prepared_transactions_of_dead_attempts_are_rolled_back(server: &Server) {
    let database = server.database();
    let sink = sink(&server.url(&database));
    // Checkpoint 1 was complete and not committed, 2 was not complete, when the first attempt died.
    let mut payloads = Vec::new();
    for subtask in 0..3 {
        let mut writer = started(&sink, &context(subtask, 3, 1), None);
        for checkpoint in [1, 2] {
            write(&mut writer, i64::from(subtask) * 10 + checkpoint).unwrap();
            let prepared = writer.prepare_commit(CheckpointId(checkpoint as u64), false).unwrap();
            if checkpoint == 1 {
                payloads.extend(prepared);
            }
        }
        // What is not prepared goes by itself.
        write(&mut writer, 99).unwrap();
    }
    assert_eq!(server.sql(&database, PREPARED), "6");
    let others = sink.clone();
    let mut other = context(0, 1, 1);
    other.uid.0 = "another".to_owned();
    let mut writer = started(&others, &other, None);
    write(&mut writer, 77).unwrap();
    writer.prepare_commit(CheckpointId(2), false).unwrap();
    // With another parallelism.
    let _writers = [0, 1].map(|subtask| started(&sink, &context(subtask, 2, 2), Some(1)));
    assert_eq!(server.sql(&database, PREPARED), "4", "those of checkpoint 1, and one of another sink");
    let mut committer = sink.create_committer(context(1, 2, 2)).unwrap().unwrap();
    let committables: Vec<_> =
        payloads.into_iter().enumerate().map(|(idx, it)| committable(idx as u128, 1, it)).collect();
    committer.commit(&committables).unwrap();
    committer.commit(&committables).unwrap();
    assert_eq!(server.sql(&database, "SELECT n FROM results ORDER BY n"), "1\n11\n21");
    // A job that starts from nothing leaves nothing.
    started(&others, &other, None);
    assert_eq!(server.sql(&database, PREPARED), "0");
}

pub(crate) fn a_zombie_cannot_prepare(server: &Server) {
    let database = server.database();
    let sink = sink(&server.url(&database));
    let mut zombie = started(&sink, &context(0, 2, 1), None);
    write(&mut zombie, 1).unwrap();
    let mut idle = started(&sink, &context(1, 2, 1), None);
    // It stopped between two steps of its start.
    let mut late = sink.create_writer(context(0, 2, 1)).unwrap();
    let mut successor = started(&sink, &context(0, 1, 2), None);
    // In the middle of a transaction.
    zombie.prepare_commit(CheckpointId(1), false).unwrap_err();
    write(&mut zombie, 2).unwrap_err();
    // Not in a transaction: it connects again, and is told.
    let error = write(&mut idle, 3).unwrap_err().downcast::<flott_types::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let error = late.restore(Vec::new(), None).unwrap_err().downcast::<flott_types::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    write(&mut successor, 4).unwrap();
    let prepared = successor.prepare_commit(CheckpointId(2), true).unwrap();
    assert_eq!(server.sql(&database, PREPARED), "1");
    let mut committer = sink.create_committer(context(0, 1, 2)).unwrap().unwrap();
    committer.commit(&prepared.into_iter().map(|it| committable(1, 2, it)).collect::<Vec<_>>()).unwrap();
    assert_eq!(server.sql(&database, "SELECT n FROM results"), "4");
}

pub(crate) fn a_transaction_that_somebody_rolled_back_is_lost_and_that_is_said(server: &Server) {
    let database = server.database();
    let sink = sink(&server.url(&database));
    let mut writer = started(&sink, &context(0, 1, 1), None);
    assert!(writer.prepare_commit(CheckpointId(1), false).unwrap().is_empty(), "nothing was written");
    write(&mut writer, 1).unwrap();
    let prepared = writer.prepare_commit(CheckpointId(2), false).unwrap();
    let gid = server.sql(&database, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
    server.sql(&database, &format!("ROLLBACK PREPARED '{gid}'"));
    let mut committer = sink.create_committer(context(0, 1, 1)).unwrap().unwrap();
    let error = committer.commit(&[committable(1, 2, prepared[0].clone())]).unwrap_err().to_string();
    assert!(
        error.contains("1 rows of checkpoint 2 for table 'results' are lost") && error.contains(&gid),
        "{error}"
    );
}

#[derive(Clone, Debug, Serialize)]
struct Wide {
    id: i64,
    price: f64,
    amount: String,
    name: Option<String>,
    is_open: bool,
    at: String,
    tags: serde_json::Value,
}

fn wide(id: i64, name: Option<&str>) -> Wide {
    Wide {
        id,
        price: 0.1,
        amount: "12345678901234567890.123".to_owned(),
        name: name.map(str::to_owned),
        is_open: true,
        at: "2024-02-29T12:00:00Z".to_owned(),
        tags: serde_json::json!({"a": [1, "x"]}),
    }
}

const WIDE: &str = "CREATE SCHEMA IF NOT EXISTS \"my Shop\"; CREATE TABLE IF NOT EXISTS \"my Shop\".\"the \"\"Table\"(id bigint PRIMARY KEY, \
    price double precision, amount numeric, name text, is_open boolean, at timestamptz, tags jsonb)";
const WIDE_COLUMNS: [&str; 7] = ["id", "price", "amount", "name", "is_open", "at", "tags"];

type Number = (i64, String);

/// Rows that the sink, a type, a constraint, an index and a trigger refuse, and four good ones between them.
fn numbers() -> Vec<Number> {
    let number = |n: i64, text: &str| (n, text.to_owned());
    let long = "x".repeat(100);
    vec![
        number(3, "violates the CHECK"),
        number(1, "good"),
        number(2, "zero\0byte"),
        number(1 << 40, "no integer"),
        number(4, "good"),
        number(5, &long),
        number(6, "raise"),
        number(7, "good"),
        number(1, "again"),
        number(8, "good"),
    ]
}

pub(crate) fn rows_that_the_table_does_not_take_are_left_out_and_the_others_are_there(server: &Server) {
    const CREATE: &str =
        "CREATE TABLE IF NOT EXISTS numbers(n integer PRIMARY KEY CHECK(n <> 3), name varchar(99));
        CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.name = 'raise' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE OR REPLACE TRIGGER refuses BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION refuse()";
    for mode in ["transactional", "eager", "upsert"] {
        let database = server.database();
        let row = |(n, name): &Number| vec![PostgresValue::from(*n), PostgresValue::from(name.clone())];
        let sink = PostgresSink::with_row(server.url(&database), "numbers", ["n", "name"], row);
        let sink = sink.create_table(CREATE);
        let sink = match mode {
            "transactional" => sink,
            "eager" => sink.eager(),
            _ => sink.upsert_by(["n"]),
        };
        let ctx = context(0, 1, 1).with_on_error::<Number>(OnError::SideOutput);
        let mut writer = sink.create_writer(ctx.clone()).unwrap();
        writer.restore(Vec::new(), None).unwrap();
        // A checkpoint with nothing but a bad row is one.
        writer.write(RecordBatch::untimed(vec![(3, String::new())])).unwrap();
        let mut payloads = writer.prepare_commit(CheckpointId(1), false).unwrap();
        assert_eq!(ctx.bad_records.take().n_records, 1, "{mode}");
        writer.write(RecordBatch::untimed(numbers())).unwrap();
        payloads.extend(writer.prepare_commit(CheckpointId(2), true).unwrap());
        if let Some(mut committer) = sink.create_committer(ctx.clone()).unwrap() {
            let number = |(id, payload)| committable(id as u128, id as u64 + 1, payload);
            let committables: Vec<_> = payloads.into_iter().enumerate().map(number).collect();
            committer.commit(&committables).unwrap();
        }
        let read = server.sql(&database, "SELECT n, name FROM numbers ORDER BY n");
        let first = if mode == "upsert" { "1|again" } else { "1|good" };
        assert_eq!(read, format!("{first}\n4|good\n7|good\n8|good"), "{mode}");
        let letters = ctx.bad_records.take().dead_letters;
        let bad: Vec<i64> =
            letters.iter().map(|it| serde_json::from_slice::<Number>(&it.raw).unwrap().0).collect();
        // The sink finds the zero byte before the database sees a row.
        let mut expected = vec![2, 3, 1 << 40, 5, 6];
        expected.extend((mode != "upsert").then_some(1));
        assert_eq!(bad, expected, "{mode}");
        assert!(letters.iter().all(|it| it.split.0 == "table 'numbers'"), "{letters:?}");
        assert!(letters[1].message.contains("violates check constraint"), "{}", letters[1].message);
        // If nobody has said that bad rows may be left out, they fail the job.
        let mut writer = started(&sink, &context(0, 1, 2), Some(2));
        let written = writer.write(RecordBatch::untimed(numbers())).and_then(|()| writer.finish());
        let error = written.unwrap_err().to_string();
        assert!(error.contains("zero byte") && error.contains("on_error of the sink"), "{error}");
        let mut writer = started(&sink, &context(0, 1, 3), Some(2));
        let written =
            writer.write(RecordBatch::untimed(vec![(3, String::new())])).and_then(|()| writer.finish());
        assert!(written.unwrap_err().to_string().contains("on_error of the sink"), "{mode}");
    }
}

pub(crate) fn values_of_all_types_arrive(server: &Server) {
    let database = server.database();
    for mode in 0..3 {
        let sink = PostgresSink::<Wide>::new(server.url(&database), "my Shop.the \"Table", WIDE_COLUMNS)
            .create_table(WIDE);
        let sink = match mode {
            0 => sink.upsert_by(["id"]),
            1 => sink.eager(),
            _ => sink,
        };
        let mut writer = sink.create_writer(context(0, 1, mode)).unwrap();
        SinkWriter::<Wide>::restore(&mut writer, Vec::new(), None).unwrap();
        let odd = "tab\t back\\slash \n line 'quote' \\N é";
        let id = mode as i64 * 10;
        writer.write(RecordBatch::untimed(vec![wide(id, Some(odd)), wide(id + 1, None)])).unwrap();
        SinkWriter::<Wide>::finish(&mut writer).unwrap();
        let prepared = SinkWriter::<Wide>::prepare_commit(&mut writer, CheckpointId(1), true).unwrap();
        if let Some(mut committer) = sink.create_committer(context(0, 1, mode)).unwrap() {
            committer
                .commit(&prepared.into_iter().map(|it| committable(1, 1, it)).collect::<Vec<_>>())
                .unwrap();
        }
        let row = server.sql(
            &database,
            &format!("SELECT id, price, amount, name = E'tab\\t back\\\\slash \\n line ''quote'' \\\\N é', is_open, at = '2024-02-29 12:00Z', \
             tags FROM \"my Shop\".\"the \"\"Table\" WHERE id / 10 = {mode} ORDER BY id"),
        );
        let expected = |id: i64, name: &str| {
            format!("{id}|0.1|12345678901234567890.123|{name}|t|t|{{\"a\": [1, \"x\"]}}")
        };
        assert_eq!(row, format!("{}\n{}", expected(id, "t"), expected(id + 1, "")), "mode {mode}");
    }
}

pub(crate) fn changes_make_a_table_follow(server: &Server) {
    let database = server.database();
    let sink = PostgresSink::<RowChange<Wide>>::changes(
        server.url(&database),
        "my Shop.the \"Table",
        WIDE_COLUMNS.to_vec(),
        vec!["id"],
    )
    .create_table(WIDE);
    let mut writer = sink.create_writer(context(0, 1, 1)).unwrap();
    SinkWriter::<RowChange<Wide>>::restore(&mut writer, Vec::new(), None).unwrap();
    let change = |kind, id, name: &str| RowChange { kind, row: wide(id, Some(name)) };
    // Several changes of a key in one batch, also a delete of what was never there.
    let changes = vec![
        change(RowKind::Insert, 1, "a"),
        change(RowKind::UpdateBefore, 1, "a"),
        change(RowKind::UpdateAfter, 1, "b"),
        change(RowKind::Insert, 2, "a"),
        change(RowKind::Delete, 2, "a"),
        change(RowKind::Delete, 9, "a"),
        change(RowKind::Insert, 3, "a"),
        change(RowKind::Delete, 3, "a"),
        change(RowKind::Insert, 3, "c"),
    ];
    writer.write(RecordBatch::untimed(changes)).unwrap();
    SinkWriter::<RowChange<Wide>>::finish(&mut writer).unwrap();
    let rows = "SELECT id, name FROM \"my Shop\".\"the \"\"Table\" ORDER BY id";
    assert_eq!(server.sql(&database, rows), "1|b\n3|c");
    let changes = vec![
        change(RowKind::UpdateBefore, 1, "b"),
        change(RowKind::UpdateAfter, 4, "b"),
        change(RowKind::Delete, 3, "c"),
    ];
    writer.write(RecordBatch::untimed(changes)).unwrap();
    SinkWriter::<RowChange<Wide>>::finish(&mut writer).unwrap();
    assert_eq!(server.sql(&database, rows), "4|b");
}

pub(crate) fn a_transaction_outlives_the_limits_of_the_server(_: &Server) {
    let server =
        Server::start(&["idle_in_transaction_session_timeout=100ms", "synchronous_commit=off"]).unwrap();
    let sink = sink(&server.url("postgres"));
    let mut writer = started(&sink, &context(0, 1, 1), None);
    write(&mut writer, 1).unwrap();
    server.sql("postgres", "SELECT pg_sleep(1)");
    write(&mut writer, 2).unwrap();
    let prepared = writer.prepare_commit(CheckpointId(1), true).unwrap();
    let mut committer = sink.create_committer(context(0, 1, 1)).unwrap().unwrap();
    committer.commit(&[committable(1, 1, prepared[0].clone())]).unwrap();
    assert_eq!(server.sql("postgres", "SELECT n FROM results ORDER BY n"), "1\n2");
}

/// The second waits for the first, which is committed by the one who waits: that must have an end.
pub(crate) fn rows_with_one_key_in_neighbouring_checkpoints_are_an_error_in_time(server: &Server) {
    let database = server.database();
    server.sql(&database, "CREATE TABLE results(n bigint PRIMARY KEY)");
    let sink = sink(&server.url(&database)).lock_timeout(Duration::from_millis(200));
    let mut writer = started(&sink, &context(0, 1, 1), None);
    write(&mut writer, 1).unwrap();
    writer.prepare_commit(CheckpointId(1), false).unwrap();
    let error = write(&mut writer, 1).unwrap_err().downcast::<flott_types::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert!(
        error.to_string().contains("perhaps a prepared transaction with a row of the same key"),
        "{error}"
    );
    drop(writer);
    started(&sink, &context(0, 1, 2), None);
    assert_eq!(server.sql(&database, PREPARED), "0");
}
