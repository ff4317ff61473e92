use super::{context, get, prefix, read_all, tree, writer};
use crate::{Compression, FileSink, FileSource, PartitionCommit, PartitionPath, RollingPolicy};
use flott_api::{Sink, SinkWriter};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::RecordBatch;
use std::path::Path;
use std::time::Duration;

fn batch<T>(records: impl IntoIterator<Item = T>) -> RecordBatch<T> {
    RecordBatch::untimed(records.into_iter().collect())
}

/// The names of files with `#` for their beginning, those that are in progress first and in parentheses.
fn names(env: &Env) -> Vec<String> {
    let strip = |name: String| {
        let name = name.replace(&prefix(0), "#");
        match name.strip_prefix(".flott/").and_then(|name| name.rsplit_once('.')) {
            Some((name, _)) => format!("({name})"),
            None => name,
        }
    };
    tree(env, Path::new("/out")).into_iter().map(strip).collect()
}

#[test]
fn a_part_is_hidden_until_it_is_complete() {
    let env = Simulation::new(1).env();
    let mut writer = writer(&FileSink::lines("/out").rolling(RollingPolicy::never()), &env, 0);
    assert_eq!(names(&env), [] as [&str; 0], "no records, no file");
    writer.write(batch(0..3)).expect("written");
    writer.flush().expect("flushed");
    assert_eq!(names(&env), ["(#0.txt)"]);
    assert_eq!(read_all(&FileSource::lines("/out"), &env, 1, 9), [] as [String; 0]);
    assert_eq!(SinkWriter::<i32>::next_timer(&writer), None);
    writer.finish().expect("finished");
    assert_eq!(names(&env), ["#0.txt"]);
    assert_eq!(read_all(&FileSource::lines("/out"), &env, 1, 9), ["0", "1", "2"]);
}

#[test]
fn a_part_is_complete_when_it_is_large_enough_whatever_the_batches() {
    for batch_records in [1, 2, 5, 12] {
        let env = Simulation::new(1).env();
        let policy = RollingPolicy::never().max_part_size(10);
        let mut writer = writer(&FileSink::lines("/out").rolling(policy), &env, 0);
        let records: Vec<i32> = (100..112).collect();
        for records in records.chunks(batch_records) {
            writer.write(batch(records.to_vec())).expect("written");
        }
        writer.finish().expect("finished");
        assert_eq!(names(&env), ["#0.txt", "#1.txt", "#2.txt", "#3.txt"]);
        assert_eq!(get(&env, Path::new(&format!("/out/{}1.txt", prefix(0)))), b"103\n104\n105\n");
    }
}

#[test]
fn compressed_parts_roll_by_their_size_on_disk() {
    let env = Simulation::new(1).env();
    let policy = RollingPolicy::never().max_part_size(200_000);
    let sink = FileSink::lines("/out").rolling(policy).compression(Compression::Zstd);
    let mut writer = writer(&sink, &env, 0);
    let mut rng = flott_env::sim::SimRng::new(1);
    let lines: Vec<String> = (0..40_000).map(|_| format!("{:032x}", rng.next_u64())).collect();
    for lines in lines.chunks(1000) {
        writer.write(batch(lines.to_vec())).expect("written");
    }
    writer.finish().expect("finished");
    let sizes: Vec<u64> = names(&env)
        .iter()
        .map(|name| format!("/out/{}", name.replace('#', &prefix(0))))
        .map(|path| env.fs().metadata(Path::new(&path)).expect("a file").len)
        .collect();
    let last = sizes.len() - 1;
    assert!(last >= 1 && sizes[..last].iter().all(|size| (150_000..400_000).contains(size)), "{sizes:?}");
    assert!(read_all(&FileSource::lines("/out"), &env, 1, 999).len() == lines.len());
}

/// Lets the wall clock of a simulation advance and calls the writer's timer as the engine does.
fn advance<W: SinkWriter<&'static str>>(simulation: &Simulation, writer: &mut W, ms: u64) {
    let env = simulation.env();
    simulation.run(async move { env.sleep(Duration::from_millis(ms)).await }).expect("ends");
    let now = simulation.env().processing_time();
    if writer.next_timer().is_some_and(|timer| timer <= now) {
        writer.on_processing_time(now).expect("rolled");
    }
}

#[test]
fn parts_are_complete_by_age_and_by_inactivity() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let policy = RollingPolicy::never()
        .rollover_interval(Duration::from_millis(1000))
        .inactivity_interval(Duration::from_millis(400));
    let sink = FileSink::lines("/out").rolling(policy).partition_by(|record: &&str| record[..1].to_owned());
    let mut writer = writer(&sink, &env, 0);
    let start = env.processing_time();
    writer.write(batch(["a1", "b1"])).expect("written");
    assert_eq!(writer.next_timer(), Some(start + 400));
    advance(&simulation, &mut writer, 300);
    writer.write(batch(["a2"])).expect("written");
    assert_eq!(writer.next_timer(), Some(start + 400));
    advance(&simulation, &mut writer, 110);
    assert_eq!(names(&env), ["(#0.txt)", "b/#1.txt"], "b was inactive");
    for _ in 0..3 {
        advance(&simulation, &mut writer, 210);
        writer.write(batch(["a3"])).expect("written");
    }
    assert_eq!(names(&env), ["(#2.txt)", "a/#0.txt", "b/#1.txt"], "a was old");
    assert_eq!(get(&env, Path::new(&format!("/out/a/{}0.txt", prefix(0)))), b"a1\na2\na3\na3\n");
    writer.finish().expect("finished");
    assert_eq!(get(&env, Path::new(&format!("/out/a/{}2.txt", prefix(0)))), b"a3\n");
    assert_eq!(writer.next_timer(), None);
}

#[test]
fn partitions_have_directories_and_only_so_many_are_open() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let sink = FileSink::lines("/out").rolling(RollingPolicy::never()).open_partitions_max(2).partition_by(
        |record: &&str| PartitionPath::new().with("year", &record[..1]).with("name", &record[1..]),
    );
    let mut writer = writer(&sink, &env, 0);
    for record in ["1a", "2b", "1a", "1../x"] {
        writer.write(batch([record])).expect("written");
        advance(&simulation, &mut writer, 1);
    }
    assert_eq!(names(&env), ["(#0.txt)", "(#2.txt)", "year=2/name=b/#1.txt"], "b had no record for longest");
    writer.finish().expect("finished");
    assert_eq!(names(&env), ["year=1/name=..%2Fx/#2.txt", "year=1/name=a/#0.txt", "year=2/name=b/#1.txt"]);
    let mut records = read_all(&FileSource::lines("/out").recursive(), &env, 1, 9);
    records.sort_unstable();
    assert_eq!(records, ["1../x", "1a", "1a", "2b"]);
}

#[test]
fn a_subtask_that_starts_again_replaces_no_file() {
    let env = Simulation::new(1).env();
    for record in ["first", "second"] {
        let mut writer = writer(&FileSink::lines("/out"), &env, 0);
        writer.write(batch([record])).expect("written");
        writer.finish().expect("finished");
    }
    assert_eq!(names(&env), ["#0.txt", "#1.txt"]);
    assert_eq!(read_all(&FileSource::lines("/out"), &env, 1, 9), ["first", "second"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let env = Simulation::new(1).env();
    let ctx = || context(&env, 0);
    for prefix in ["", ".part", "_part", "../part"] {
        let error =
            FileSink::<String>::lines("/out").file_prefix(prefix).create_writer(ctx()).expect_err("refused");
        assert!(error.to_string().contains("cannot begin the name"), "{error}");
    }
    let policy = PartitionCommit::on_watermark(|_| None);
    let error = FileSink::<String>::lines("/out").partition_commit(policy).create_writer(ctx());
    assert!(error.expect_err("refused").to_string().contains("set partition_by"));
}

#[test]
fn real_files_are_written_too() {
    let env = Env::real().expect("an environment");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new/out");
    let sink = FileSink::csv(&path).partition_by(|(key, _): &(u8, String)| format!("key={key}"));
    let mut writer = writer(&sink, &env, 0);
    writer.write(batch([(1, "a".to_owned()), (2, "b".to_owned())])).expect("written");
    writer.finish().expect("finished");
    assert_eq!(tree(&env, &path), [format!("key=1/{}0.csv", prefix(0)), format!("key=2/{}1.csv", prefix(0))]);
}
