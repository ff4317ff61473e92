//! What is fuzzed.

use crate::targets::{
    batches, cold, config, encoded, entries, files, http_log, joins, kafka, keyed_state, messages,
    operator_state, operators, parts, postgres, sinks, snapshots, socket, splits, sqlite, values,
};
use std::path::{Path, PathBuf};

/// A decoder with inputs to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of its binary in `fuzz/`.
    pub name: &'static str,
    /// Decodes, and returns whatever the bytes are.
    pub run: Run,
    seeds: Seeds,
    /// Changes of its seeds that a test tries; slow decoders get fewer.
    pub n_tested: u32,
}

type Run = fn(&[u8]);
type Seeds = fn() -> Vec<Vec<u8>>;

const fn target(name: &'static str, (run, seeds): (Run, Seeds), n_tested: u32) -> Target {
    Target { name, run, seeds, n_tested }
}

/// All targets.
pub const TARGETS: [Target; 36] = [
    target("manifest", (snapshots::manifest, snapshots::manifests), 2_000),
    target("owner", (snapshots::owner, snapshots::owners), 300),
    target("part", (parts::part, parts::files), 500),
    target("schemas", (keyed_state::schemas, keyed_state::records), 4_000),
    target("keyed_state", (keyed_state::restore, keyed_state::snapshots), 4_000),
    target("timers", (operator_state::timers, operator_state::timer_seeds), 4_000),
    target("operator_state", (operator_state::restore, operator_state::seeds), 4_000),
    target("operator_schemas", (entries::restore, entries::seeds), 4_000),
    target("in_flight", (entries::in_flight, entries::in_flight_seeds), 4_000),
    target("operators", (operators::restore, operators::seeds), 3_000),
    target("joins", (joins::restore, joins::seeds), 1_000),
    target("cold", (cold::read, cold::runs), 500),
    target("splits", (splits::restore, splits::snapshots), 2_000),
    target("positions", (splits::start, splits::positions), 2_000),
    target("csv", (files::csv, files::csv_files), 500),
    target("json", (files::json, files::json_files), 500),
    target("lines", (files::lines, files::line_files), 500),
    target("parquet", (files::parquet, files::parquet_files), 1_000),
    target("socket", (socket::lines, socket::streams), 1_000),
    target("file_sink", (sinks::restore, sinks::prepared), 1_000),
    target("sqlite_sink", (sqlite::commit, sqlite::seeds), 200),
    target("json_message", (messages::json, messages::json_seeds), 4_000),
    target("debezium_message", (messages::debezium, messages::debezium_seeds), 4_000),
    target("csv_message", (messages::csv, messages::csv_seeds), 4_000),
    target("avro_message", (encoded::avro, encoded::avro_seeds), 4_000),
    target("protobuf_message", (encoded::protobuf, encoded::protobuf_seeds), 4_000),
    target("json_batch", (batches::json, batches::json_seeds), 2_000),
    target("csv_batch", (batches::csv, batches::csv_seeds), 2_000),
    target("avro_batch", (batches::avro, batches::avro_seeds), 1_000),
    target("protobuf_batch", (batches::protobuf, batches::protobuf_seeds), 2_000),
    target("kafka_broker", (kafka::answers, kafka::seeds), 2_000),
    target("postgres_server", (postgres::server, postgres::transcripts), 4_000),
    target("http_log", (http_log::read, http_log::logs), 1_000),
    target("http_log_entries", (http_log::recover, http_log::entries), 2_000),
    target("config", (config::load, config::files), 1_500),
    target("values", (values::set, values::texts), 4_000),
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Inputs that are accepted, or nearly, and those that once did harm.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
        let of_target = files_in(&regressions).into_iter().filter(|dir| dir.ends_with(self.name));
        let harmful = of_target.flat_map(|dir| files_in(&dir)).map(|file| contents(&file));
        (self.seeds)().into_iter().chain(harmful).collect()
    }
}

/// The files in a directory of the repository.
#[expect(clippy::disallowed_methods, reason = "files of the repository, not of a job")]
pub(crate) fn files_in(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).expect("listed").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[expect(clippy::disallowed_methods, reason = "files of the repository, not of a job")]
pub(crate) fn contents(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("read")
}
