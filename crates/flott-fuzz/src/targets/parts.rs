//! Parts of both versions, read as a whole and section by section: both must say the same.

use super::snapshots::{fixtures, framed, seeds_of};
use super::{put, tagged};
use flott_checkpoint::{
    Manifest, OpenSnapshot, OperatorManifest, SubtaskManifest, describe_snapshot, open_snapshot,
    verify_snapshot, visit_operators,
};
use flott_env::sim::Simulation;
use flott_state::{OperatorSnapshot, StateSettings};
use flott_types::{Configuration, ErrorKind, FileHandle, KEY_HASH_VERSION, OperatorUid, Result};
use std::path::Path;
use twox_hash::XxHash3_64;

const MAGIC: [u8; 8] = *b"FLOTTSNP";
/// Magic and version.
const HEADER_LEN: u64 = 12;
/// Those of the fixtures, and one for what is made here.
const UIDS: [&str; 2] = ["count", OPERATOR];
const OPERATOR: &str = "fuzz";

/// The file that an input stands for. Its first byte says how: whole; the body of version 1; sections, index and its length in version 2; the list
/// states of an operator in version 2; a key group of it.
fn file(input: &[u8]) -> Vec<u8> {
    let Some((how, content)) = input.split_first() else { return Vec::new() };
    match how % 5 {
        2 => sealed(content),
        3 => sealed(&indexed(&[], content)),
        // No list, union or broadcast state.
        4 => sealed(&indexed(content, &[0; 24])),
        _ => framed(MAGIC, input),
    }
}

/// Version 2 around sections, index and its length.
fn sealed(content: &[u8]) -> Vec<u8> {
    let header = [&MAGIC[..], &2_u32.to_le_bytes()].concat();
    let n_len = content.len().saturating_sub(8);
    let index_len = content.get(n_len..).and_then(|len| Some(u64::from_le_bytes(len.try_into().ok()?)));
    let index_at = n_len.saturating_sub(index_len.unwrap_or_default().try_into().unwrap_or(usize::MAX));
    let checksum = [&header, content.get(index_at..).unwrap_or_default()].concat();
    let checksum = XxHash3_64::oneshot(&checksum).to_le_bytes();
    [&header, content, &checksum].concat()
}

/// The sections of one operator, their index and its length.
fn indexed(group: &[u8], lists: &[u8]) -> Vec<u8> {
    let section = |offset: u64, bytes: &[u8]| {
        let numbers = [offset, bytes.len() as u64, XxHash3_64::oneshot(bytes)];
        let first = bytes.first().copied().unwrap_or_default();
        [&numbers.map(u64::to_le_bytes).concat()[..], &[first]].concat()
    };
    let number = |number: u64| number.to_le_bytes();
    let text = |text: &str| [&number(text.len() as u64)[..], text.as_bytes()].concat();
    let index = [
        &number(1)[..],
        &text(OPERATOR),
        &KEY_HASH_VERSION.to_le_bytes(),
        &8_u32.to_le_bytes(),
        &number(1),
        &text("state"),
        &number(1),
        &3_u32.to_le_bytes(),
        &number(1),
        &section(HEADER_LEN, group),
        &section(HEADER_LEN + group.len() as u64, lists),
    ]
    .concat();
    [group, lists, &index, &number(index.len() as u64)].concat()
}

fn open(bytes: &[u8], section_bytes: usize) -> OpenSnapshot {
    let settings = StateSettings { section_bytes, ..StateSettings::new(&Configuration::default()) };
    let env = Simulation::new(1).env().with_settings(settings);
    let mut manifest = Manifest::decode("a fixture", &fixture()).expect("it is right");
    let handle = FileHandle {
        path: format!("{}/part", manifest.directory),
        len: bytes.len() as u64,
        checksum: XxHash3_64::oneshot(bytes),
    };
    let subtask = SubtaskManifest { part: Some(handle), bases: vec![], finished: false };
    let operator = |uid: &str| OperatorManifest {
        uid: OperatorUid(uid.to_owned()),
        name: uid.to_owned(),
        parallelism: 1,
        max_parallelism: 8,
        subtasks: vec![subtask.clone()],
        enumerator: None,
    };
    manifest.operators = UIDS.map(operator).to_vec();
    let dir = Path::new("/savepoints").join(&manifest.directory);
    put(&env, &dir.join("_metadata"), &manifest.encode());
    put(&env, &dir.join("part"), bytes);
    open_snapshot(&env, &dir).expect("the manifest is right")
}

fn fixture() -> Vec<u8> {
    include_bytes!("../../../flott-checkpoint/fixtures/v1/savepoint/_metadata").to_vec()
}

fn read(snapshot: &OpenSnapshot) -> Result<Vec<(OperatorUid, OperatorSnapshot)>> {
    let mut operators = Vec::new();
    visit_operators(snapshot, |uid, _, snapshot| {
        operators.push((uid.clone(), snapshot.in_memory()?));
        Ok(())
    })?;
    Ok(operators)
}

pub(crate) fn part(input: &[u8]) {
    let bytes = file(input);
    let (whole, by_sections) = (open(&bytes, usize::MAX), open(&bytes, 0));
    match (read(&whole), read(&by_sections)) {
        (Ok(whole), Ok(by_sections)) => assert_eq!(whole, by_sections),
        // Sections that nobody reads are not compared: the operator is not of the manifest.
        (Err(error), Ok(_)) => assert_eq!(error.kind(), ErrorKind::Corruption, "{}", error.report()),
        (whole, Err(error)) => {
            assert!(whole.is_err(), "only section by section: {}", error.report());
            assert!(
                matches!(error.kind(), ErrorKind::Corruption | ErrorKind::UserError),
                "{}",
                error.report()
            );
        }
    }
    drop(verify_snapshot(&by_sections));
    drop(describe_snapshot(&by_sections));
}

pub(crate) fn files() -> Vec<Vec<u8>> {
    let parts = fixtures().1;
    let whole = parts.iter().flat_map(|file| seeds_of(file));
    let lists = [
        &1_u64.to_le_bytes()[..],
        &[4, 0, 0, 0, 0, 0, 0, 0],
        b"list",
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0, 7, 8],
        &[0; 16],
    ]
    .concat();
    let both = indexed(b"\x01entries", &lists);
    let made = [tagged(2, &both), tagged(3, &lists), tagged(4, b"\x01entries"), tagged(0, &sealed(&both))];
    whole.chain(made).collect()
}
