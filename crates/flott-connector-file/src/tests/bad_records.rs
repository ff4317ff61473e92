//! Records that cannot stand in a file: nothing of them is there, and everything of the others.

use super::get;
use crate::{CsvFormat, FileSink, LinesWriter, RollingPolicy};
use expect_test::{Expect, expect};
use flott_api::{OnError, Sink, SinkContext, SinkWriter};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::{RecordBatch, SubtaskIndex};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use std::path::Path;

#[derive(Clone, Debug, Serialize)]
struct Sale {
    country: &'static str,
    #[serde(serialize_with = "refuse_13")]
    amount: u32,
}

#[derive(Clone, Debug, Serialize)]
struct Amount(#[serde(serialize_with = "refuse_13")] u32);

fn refuse_13<S: Serializer>(amount: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    if *amount == 13 { Err(S::Error::custom("13 is unlucky")) } else { serializer.serialize_u32(*amount) }
}

fn sale(country: &'static str, amount: u32) -> Sale {
    Sale { country, amount }
}

/// Bad ones first, between and last.
fn sales() -> Vec<Sale> {
    vec![sale("DE", 13), sale("DE", 1), sale("FR", 13), sale("DE", 13), sale("DE", 2), sale("DE", 13)]
}

fn write<T: Send + 'static>(
    sink: &FileSink<T>,
    records: Vec<T>,
    env: &Env,
    on_error: OnError,
) -> (Result<(), String>, u64) {
    let ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1).with_on_error::<()>(on_error);
    let bad_records = ctx.bad_records.clone();
    let mut writer = sink.create_writer(ctx).expect("a writer");
    let written = writer.write(RecordBatch::untimed(records)).and_then(|()| writer.finish());
    (written.map_err(|error| error.to_string()), bad_records.take().n_records)
}

fn check<T: Clone + Send + 'static>(sink: FileSink<T>, records: Vec<T>, expected: Expect) {
    let sink = sink.rolling(RollingPolicy::never());
    let env = Simulation::new(1).env();
    let (written, n_bad) = write(&sink, records.clone(), &env, OnError::Skip);
    written.expect("written");
    let mut paths = env.fs().list(Path::new("/out")).expect("a directory");
    paths.retain(|path| !path.ends_with(".flott"));
    let texts = paths.iter().map(|path| String::from_utf8(get(&env, path)).expect("UTF-8"));
    expected.assert_eq(&format!("{}{n_bad} bad\n", texts.collect::<Vec<_>>().join("--\n")));
    let error = write(&sink, records, &Simulation::new(1).env(), OnError::Fail).0.expect_err("it fails");
    assert!(error.starts_with("bad record for directory '/out': "), "{error}");
    assert!(error.contains("13 is unlucky") && error.contains("set on_error of the sink"), "{error}");
}

#[test]
fn a_record_that_a_format_cannot_say_leaves_nothing_in_the_file() {
    check(
        FileSink::csv("/out"),
        sales(),
        expect![[r#"
            country,amount
            DE,1
            DE,2
            4 bad
        "#]],
    );
    // The number of fields is that of the first good record, also behind a bad one.
    let row = |amounts: &[u32]| amounts.iter().copied().map(Amount).collect::<Vec<_>>();
    let rows = [&[1, 2, 13][..], &[1, 2], &[3, 13], &[4], &[5, 6, 7], &[8, 9]].map(row);
    check(
        FileSink::format("/out", CsvFormat::new().without_header().without_quotes()),
        rows.to_vec(),
        expect![[r#"
            1,2
            8,9
            4 bad
        "#]],
    );
    check(
        FileSink::json("/out"),
        sales(),
        expect![[r#"
            {"country":"DE","amount":1}
            {"country":"DE","amount":2}
            4 bad
        "#]],
    );
    let lines = LinesWriter::new(|sale: &Sale, line: &mut String| {
        line.push_str(sale.country);
        if sale.amount == 13 { Err("13 is unlucky".into()) } else { Ok(()) }
    });
    check(
        FileSink::format("/out", lines),
        sales(),
        expect![[r#"
            DE
            DE
            4 bad
        "#]],
    );
}

#[test]
fn a_partition_with_nothing_but_bad_records_has_no_file() {
    let env = Simulation::new(1).env();
    let sink = FileSink::json("/out").partition_by(|sale: &Sale| sale.country.to_owned());
    assert_eq!(write(&sink, sales(), &env, OnError::Skip).1, 4);
    let paths = env.fs().list(Path::new("/out")).expect("a directory");
    let partitions: Vec<_> = paths.iter().filter(|path| !path.ends_with(".flott")).collect();
    assert_eq!(partitions, [Path::new("/out/DE")]);
}

#[test]
fn a_record_whose_partition_has_no_name_is_bad() {
    let env = Simulation::new(1).env();
    let partition = |sale: &Sale| if sale.amount == 13 { String::new() } else { sale.country.to_owned() };
    let sink = FileSink::json("/out").partition_by(partition);
    assert_eq!(write(&sink, sales(), &env, OnError::Skip).1, 4);
    let error = write(&sink, sales(), &env, OnError::Fail).0.expect_err("it fails");
    assert!(error.contains("the partition of the record has no name, so it has no directory"), "{error}");
}
