use super::{Trip, put, read_all, read_interrupted, trip, write};
use crate::ParquetFormat;
use arrow_schema::{DataType, Field, Schema};
use flott_api::testing::SourceDriver;
use flott_connector_file::FileSource;
use flott_env::sim::Simulation;
use flott_format_arrow::ArrowBatch;
use std::path::Path;
use std::sync::Arc;

fn source(path: &Path, format: ParquetFormat) -> FileSource<ArrowBatch> {
    FileSource::format(path, format.arrow())
}

fn rows(batches: &[ArrowBatch]) -> Vec<Trip> {
    let rows = |batch: &ArrowBatch| serde_arrow::from_record_batch::<Vec<Trip>>(batch).expect("rows");
    batches.iter().flat_map(rows).collect()
}

#[test]
fn batches_have_the_rows_of_the_file_wherever_reading_is_interrupted() {
    let env = Simulation::new(1).env();
    let records: Vec<Trip> = (0..2_500).map(trip).collect();
    let path = write(&env, ParquetFormat::new().row_group_bytes(1 << 14), records.clone());
    let source = source(&path, ParquetFormat::new());
    let batches = read_all(&source, &env, 1, 700);
    assert!(batches.len() > 2 && rows(&batches) == records);
    for n_calls in 0..=batches.len() {
        assert!(rows(&read_interrupted(&source, &env, n_calls, 700)) == records, "{n_calls}");
    }
}

#[test]
fn only_the_columns_of_the_schema_are_read_in_its_order() {
    let env = Simulation::new(1).env();
    let path = write(&env, ParquetFormat::new(), (0..10).map(trip).collect());
    let schema = |name, data_type, nullable| {
        let id = Field::new("id", DataType::UInt64, false);
        ParquetFormat::new().schema(Arc::new(Schema::new(vec![Field::new(name, data_type, nullable), id])))
    };
    let batches = read_all(&source(&path, schema("late", DataType::Boolean, false)), &env, 1, 700);
    let names: Vec<_> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!((names, batches[0].num_rows()), (vec!["late".to_owned(), "id".to_owned()], 10));
    for (name, data_type, nullable, expected) in [
        ("gone", DataType::Utf8, true, "has no column 'gone'"),
        ("late", DataType::Utf8, false, "has the type Boolean; the schema says Utf8 without nulls"),
        ("delay", DataType::Int32, false, "has the type Int32, and may have nulls"),
    ] {
        let source = source(&path, schema(name, data_type, nullable));
        let error = SourceDriver::start(&source, &env, 1)
            .and_then(|mut driver| driver.read_available(700).map(drop).map_err(|failed| failed.error));
        let error = error.expect_err("refused").report();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_damaged_file_is_an_error() {
    let env = Simulation::new(1).env();
    let path = write(&env, ParquetFormat::new(), (0..10).map(trip).collect());
    put(&env, &path, b"PAR1 no Parquet PAR1");
    let started = SourceDriver::start(&source(&path, ParquetFormat::new()), &env, 1);
    let read =
        started.and_then(|mut driver| driver.read_available(10).map(drop).map_err(|failed| failed.error));
    assert!(read.expect_err("refused").report().contains("is no Parquet file"));
}
