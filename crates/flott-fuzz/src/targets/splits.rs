//! Splits with their positions: as a snapshot gives them back to sources, and as people write them.

use super::{put, tagged};
use flott_api::sources::HybridSource;
use flott_api::testing::{SourceDriver, SourceSnapshot};
use flott_api::{Source, StartingPosition};
use flott_connector_file::{FileSource, FileTailSource};
use flott_connector_nexmark::{Event, NexmarkConfig, NexmarkSource};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_state::decode;
use std::path::Path;
use std::task::{Context, Waker};

const FILE: &str = "/numbers";
const N_SOURCES: u8 = 5;

fn world() -> Env {
    let env = Simulation::new(1).env();
    let text: String = (0..100).map(|number| format!("{number}\n")).collect();
    put(&env, Path::new(FILE), text.as_bytes());
    env
}

fn files() -> FileSource<String> {
    FileSource::lines(FILE).split_bytes(50)
}

/// Whose lines before a position are not only records.
fn table() -> FileSource<(u8,)> {
    FileSource::csv(FILE)
}

fn tail() -> FileTailSource<String> {
    FileTailSource::lines(FILE)
}

fn nexmark() -> NexmarkSource<Event> {
    NexmarkSource::new(NexmarkConfig::bounded(50)).expect("it is right")
}

fn hybrid() -> HybridSource<String> {
    HybridSource::builder(files()).then(files()).build()
}

fn poll<S: Source>(driver: &mut SourceDriver<S>) {
    let mut cx = Context::from_waker(Waker::noop());
    (0..3).for_each(|_| drop(driver.poll_all(&mut cx, 10)));
}

/// The first byte says whose they are and how long the enumerator's state is; a split follows.
pub(crate) fn restore(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (enumerator, split) = rest.split_at_checked(usize::from(first / N_SOURCES)).unwrap_or((rest, &[]));
    match first % N_SOURCES {
        0 => go_on(&files(), enumerator, split),
        1 => go_on(&nexmark(), enumerator, split),
        2 => go_on(&table(), enumerator, split),
        3 => go_on(&tail(), enumerator, split),
        _ => go_on(&hybrid(), enumerator, split),
    }
}

fn go_on<S: Source>(source: &S, enumerator: &[u8], split: &[u8]) {
    let split = decode::<S::Split>("a split", split).ok();
    let snapshot = SourceSnapshot { enumerator: enumerator.to_vec(), splits: split.into_iter().collect() };
    if let Ok(mut driver) = SourceDriver::restore(source, &world(), 2, snapshot) {
        poll(&mut driver);
        drop(driver.snapshot());
    }
}

/// What the sources remember after a few records.
pub(crate) fn snapshots() -> Vec<Vec<u8>> {
    let plain = [remembered(&files(), 0), remembered(&nexmark(), 1), remembered(&table(), 2)].concat();
    [plain, remembered(&tail(), 3), remembered(&hybrid(), 4)].concat()
}

fn after_some<S: Source>(source: &S) -> SourceSnapshot<S::Split> {
    let mut driver = SourceDriver::start(source, &world(), 2).expect("it starts");
    drop(driver.poll_all(&mut Context::from_waker(Waker::noop()), 7));
    driver.snapshot().expect("a snapshot")
}

fn remembered<S: Source>(source: &S, whose: u8) -> Vec<Vec<u8>> {
    let SourceSnapshot { enumerator, splits } = after_some(source);
    let first = enumerator.len() as u8 * N_SOURCES + whose;
    let encoded = splits.iter().map(|split| flott_state::encode("a split", split).expect("encoded"));
    encoded.map(|split| [&[first], enumerator.as_slice(), &split].concat()).collect()
}

/// Positions as JSON, for a source that the first byte names.
pub(crate) fn start(bytes: &[u8]) {
    let Some((whose, text)) = bytes.split_first() else { return };
    let Ok(start) = StartingPosition::of_json(&String::from_utf8_lossy(text)) else { return };
    match whose % N_SOURCES {
        0 => start_at(&files(), start),
        1 => start_at(&nexmark(), start),
        2 => start_at(&table(), start),
        3 => start_at(&tail(), start),
        _ => start_at(&hybrid(), start),
    }
}

fn start_at<S: Source>(source: &S, start: StartingPosition) {
    if let Ok(Some(splits)) = start.splits::<S::Split>() {
        let again = StartingPosition::of_splits(&splits).expect("written");
        let read = again.splits::<S::Split>().expect("what was written is read").expect("positions");
        assert_eq!(StartingPosition::of_splits(&read).expect("written"), again);
    }
    if let Ok(mut driver) = SourceDriver::start_at(source, &world(), 2, start) {
        poll(&mut driver);
    }
}

pub(crate) fn positions() -> Vec<Vec<u8>> {
    let plain = vec![written(&files(), 0), written(&nexmark(), 1), written(&table(), 2)];
    [plain, vec![written(&tail(), 3), written(&hybrid(), 4)]].concat()
}

fn written<S: Source>(source: &S, whose: u8) -> Vec<u8> {
    let start = StartingPosition::of_splits(&after_some(source).splits).expect("written");
    let StartingPosition::Positions(positions) = start else { return Vec::new() };
    tagged(whose, format!("[{}]", positions.join(",")).as_bytes())
}
