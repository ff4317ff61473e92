//! Parts of all versions, whole and damaged.

use super::index::IndexedState;
use super::*;
use crate::codec::{checksum, frame, put_bytes, put_len, unframe};
use crate::store::LocalStore;
use flott_env::FileSystem;
use flott_env::sim::MemoryFs;
use flott_schema::{EntrySchemas, OperatorSchemas, Type};
use flott_state::{SectionKind, SnapshotWriter};
use flott_types::{CheckpointId, ErrorKind, FileHandle, KeyGroup};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

type Snapshots = BTreeMap<OperatorUid, OperatorSnapshot>;

fn without_changes(part: PartOperators) -> Snapshots {
    let operators = part.into_iter();
    operators
        .map(|(uid, operator)| {
            assert!(operator.continued.is_empty());
            (uid, operator.snapshot)
        })
        .collect()
}

fn small() -> Vec<(OperatorUid, OperatorSnapshot)> {
    let mut two = GroupBytes::from(vec![1, 2, 3]);
    two.push(SectionKind::Removed, vec![4]);
    let groups = [(KeyGroup(3), two), (KeyGroup(5), vec![].into())];
    let mut snapshot = OperatorSnapshot {
        max_parallelism: 8,
        keyed: [("count".to_owned(), groups.into()), ("empty".to_owned(), BTreeMap::new())].into(),
        list: [("splits".to_owned(), vec![vec![4], vec![]])].into(),
        union: [("offsets".to_owned(), vec![vec![5, 6]])].into(),
        broadcast: [("rules".to_owned(), vec![7])].into(),
        ..OperatorSnapshot::default()
    };
    snapshot.schemas.list.push("splits", 1, Some(&Arc::new(Type::U8)));
    snapshot.schemas.list.push("splits", 1, None);
    snapshot.schemas.broadcast.push("rules", 1, Some(&Arc::new(Type::U8)));
    vec![(OperatorUid("a".to_owned()), snapshot), (OperatorUid("b".to_owned()), OperatorSnapshot::default())]
}

fn store(disk: &MemoryFs) -> Arc<dyn ObjectStore> {
    Arc::new(LocalStore::new(Arc::new(disk.clone()), "/", 1))
}

/// Writes a part, and returns its bytes.
fn encode(snapshots: &[(OperatorUid, OperatorSnapshot)]) -> Vec<u8> {
    let disk = MemoryFs::default();
    let mut part = Box::new(PartWriter::new(&store(&disk), "part".to_owned()).expect("begun"));
    for (uid, snapshot) in snapshots {
        part.operator(uid, snapshot).expect("written");
    }
    let handle = part.finish().expect("finished");
    let bytes = disk.files()[Path::new("/part")].clone();
    assert_eq!((handle.len, handle.checksum), (bytes.len() as u64, checksum(&bytes)));
    bytes
}

/// How version 1 was written.
fn encode_v1(snapshots: &[(OperatorUid, OperatorSnapshot)]) -> Vec<u8> {
    frame(v1::FORMAT, 0, |out| {
        put_len(out, snapshots.len());
        for (uid, snapshot) in snapshots {
            put_bytes(out, uid.0.as_bytes());
            out.extend(snapshot.key_hash_version.to_le_bytes());
            out.extend(snapshot.max_parallelism.to_le_bytes());
            put_len(out, snapshot.keyed.len());
            for (name, groups) in &snapshot.keyed {
                put_bytes(out, name.as_bytes());
                put_len(out, groups.len());
                for (group, bytes) in groups {
                    out.extend(group.0.to_le_bytes());
                    put_bytes(out, &bytes.to_vec().expect("it is in memory"));
                }
            }
            lists::put_states(out, snapshot);
        }
    })
}

/// Reads a file that is what its handle says: as a whole if it is not large, else section by section.
fn open(bytes: &[u8], whole_max: u64) -> Result<Snapshots> {
    let disk = MemoryFs::default();
    FileSystem::create(&disk, Path::new("/part"))
        .and_then(|mut file| file.write_all(bytes))
        .expect("written");
    let handle = FileHandle { path: "part".to_owned(), len: bytes.len() as u64, checksum: checksum(bytes) };
    let file =
        PartFile { store: store(&disk), path: "part".to_owned(), handle, checkpoint_id: CheckpointId(1) };
    let opened = without_changes(file.open(whole_max)?);
    opened.into_iter().map(|(uid, snapshot)| Ok((uid, snapshot.in_memory()?))).collect()
}

fn check_damage(damaged: &[u8], what: &str) {
    for result in [decode("part", damaged).map(without_changes), open(damaged, 0)] {
        let error = result.map(drop).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {}", error.report());
        assert!(error.to_string().contains("'part'"), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    for whole in [encode(&small()), encode_v1(&small())] {
        for len in 0..whole.len() {
            check_damage(&whole[..len], &format!("truncated at {len}"));
        }
    }
}

/// Also where the handle has the checksum of the damaged file: the file has checksums of its own.
#[test]
fn every_flipped_bit_is_an_error() {
    for whole in [encode(&small()), encode_v1(&small())] {
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check_damage(&flipped, &format!("bit {bit}"));
        }
    }
}

#[test]
fn every_added_byte_is_an_error() {
    let whole = encode(&small());
    for at in 0..=whole.len() {
        check_damage(&[&whole[..at], &[0], &whole[at..]].concat(), &format!("a byte at {at}"));
    }
}

#[test]
fn what_is_there_twice_is_an_error_also_with_a_right_checksum() {
    let [first, _] = small().try_into().expect("two");
    for bytes in [encode(&[first.clone(), first.clone()]), encode_v1(&[first.clone(), first.clone()])] {
        let error = decode("part", &bytes).expect_err("the operator is there twice");
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().ends_with("operator 'a' is there twice"), "{error}");
    }
    let mut part = PartWriter::new(&store(&MemoryFs::default()), "part".to_owned()).expect("begun");
    part.state("count", false).expect("the first");
    part.operator(&first.0, &first.1).expect_err("the operator has the state, too");
}

#[test]
fn another_version_is_refused_and_not_taken_for_damage() {
    let mut bytes = index::header(VERSION + 1);
    bytes.extend(index::encode(&bytes, &[]));
    for result in [decode("part", &bytes).map(without_changes), open(&bytes, 0)] {
        let error = result.expect_err("a later version");
        assert_eq!(error.kind(), ErrorKind::UserError);
        expect_test::expect!["file 'part' has format version 5, this build reads versions 1 to 4"]
            .assert_eq(&error.to_string());
    }
}

#[test]
fn sections_that_overlap_or_leave_a_gap_are_damage() {
    let section = |offset, len| Section { offset, len, checksum: 0, first: 0, kind: SectionKind::Whole };
    let check = |of_group: Section, lists: Section| {
        let mut bytes = index::header(VERSION);
        bytes.extend([0; 20]);
        let operator = IndexedOperator {
            uid: OperatorUid("a".to_owned()),
            key_hash_version: 1,
            max_parallelism: 8,
            keyed: [(
                "x".to_owned(),
                IndexedState { continues: false, groups: [(KeyGroup(0), vec![of_group])].into() },
            )]
            .into(),
            lists,
        };
        bytes.extend(index::encode(&index::header(VERSION), &[operator]));
        check_damage(&bytes, &format!("{of_group:?} {lists:?}"));
    };
    check(section(12, 10), section(21, 11));
    check(section(12, 10), section(23, 9));
    check(section(12, 10), section(22, 9));
    check(section(0, 22), section(22, 10));
    check(section(12, u64::MAX), section(22, 10));
    check(section(u64::MAX, 1), section(12, 20));
}

#[test]
fn sections_of_a_large_file_are_compared_when_they_are_read() {
    let disk = MemoryFs::default();
    let bytes = encode(&small());
    FileSystem::create(&disk, Path::new("/part"))
        .and_then(|mut file| file.write_all(&bytes))
        .expect("written");
    let handle = FileHandle { path: "part".to_owned(), len: bytes.len() as u64, checksum: checksum(&bytes) };
    let file =
        PartFile { store: store(&disk), path: "part".to_owned(), handle, checkpoint_id: CheckpointId(1) };
    let opened = without_changes(file.open(0).expect("whole"));
    let group = &opened[&OperatorUid("a".to_owned())].keyed["count"][&KeyGroup(3)];
    assert!(group.is_stored());
    assert_eq!(group.first_bytes().collect::<Vec<_>>(), [Some(1), Some(4)]);
    assert_eq!(group.to_vec().expect("read"), [1, 2, 3, 4]);
    let mut flipped = bytes.clone();
    flipped[13] ^= 1;
    disk.corrupt(Path::new("/part"), flipped);
    assert_eq!(group.to_vec().expect_err("flipped").kind(), ErrorKind::Corruption);
    disk.corrupt(Path::new("/part"), bytes[..13].to_vec());
    assert_eq!(group.to_vec().expect_err("truncated").kind(), ErrorKind::Corruption);
    FileSystem::remove(&disk, Path::new("/part")).expect("removed");
    let error = group.to_vec().expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    expect_test::expect!["file 'part' of checkpoint 1 is missing"].assert_eq(&error.to_string());
}

#[test]
fn nothing_is_left_of_a_part_that_is_not_finished() {
    let disk = MemoryFs::default();
    let mut part = PartWriter::new(&store(&disk), "part".to_owned()).expect("begun");
    part.section(KeyGroup(0), SectionKind::Whole, &[7; 200_000]).expect("written");
    assert_eq!(disk.files().len(), 1, "a temporary file");
    drop(part);
    assert_eq!(disk.files().len(), 0);
}

/// The bytes of each version: files written by it must be readable for ever after.
#[test]
fn the_formats_are_pinned() {
    let mut of_v1 = small();
    let keyed = &mut of_v1[0].1.keyed;
    keyed.remove("empty");
    *keyed.get_mut("count").and_then(|groups| groups.get_mut(&KeyGroup(3))).expect("there") =
        vec![1, 2, 3].into();
    let v1 = encode_v1(&of_v1);
    of_v1[0].1.schemas = OperatorSchemas::default();
    assert_eq!(open(&v1, 0).expect("whole").into_iter().collect::<Vec<_>>(), of_v1);
    for (bytes, pinned) in [(v1, PINNED_V1), (encode(&small()), PINNED_V4)] {
        assert_eq!((bytes.len(), checksum(&bytes)), pinned);
    }
}

const PINNED_V1: (usize, u64) = (276, 11_088_553_560_549_908_433);
const PINNED_V4: (usize, u64) = (550, 16_148_053_358_317_908_594);

fn snapshot() -> impl Strategy<Value = OperatorSnapshot> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..9);
    let kind = (0..3_u8).prop_map(|number| SectionKind::from_number(number).expect("a kind"));
    let sections = prop::collection::vec((kind, bytes()), 1..3).prop_map(|sections| {
        let mut group = GroupBytes::default();
        sections.into_iter().for_each(|(kind, section)| group.push(kind, section));
        group
    });
    let groups = prop::collection::btree_map((0..8_u32).prop_map(KeyGroup), sections, 0..4);
    let lists = || prop::collection::btree_map("[a-c]?", prop::collection::vec(bytes(), 0..3), 0..3);
    let keyed = prop::collection::btree_map("[a-c]?", groups, 0..3);
    let broadcast = prop::collection::btree_map("[a-c]?", bytes(), 0..3);
    (any::<u32>(), any::<u32>(), keyed, lists(), lists(), broadcast).prop_map(
        |(key_hash_version, max_parallelism, keyed, list, union, broadcast)| OperatorSnapshot {
            key_hash_version,
            max_parallelism,
            keyed,
            list,
            union,
            broadcast,
            schemas: OperatorSchemas::default(),
        },
    )
}

/// With types for some entries.
fn typed_snapshot() -> impl Strategy<Value = OperatorSnapshot> {
    let types = prop::collection::vec(prop::option::of(prop::sample::select(vec![Type::U8, Type::Bool])), 9);
    (snapshot(), types).prop_map(|(mut snapshot, types)| {
        let mut types = types.into_iter().cycle().map(|ty| ty.map(Arc::new));
        let mut describe = |schemas: &mut EntrySchemas, name: &str, n_entries| {
            let types: Vec<_> = types.by_ref().take(n_entries).collect();
            // What has no type at all is not written.
            if types.iter().any(Option::is_some) {
                types.iter().for_each(|ty| schemas.push(name, 1, ty.as_ref()));
            }
        };
        let OperatorSnapshot { list, union, broadcast, schemas, .. } = &mut snapshot;
        list.iter().for_each(|(name, entries)| describe(&mut schemas.list, name, entries.len()));
        union.iter().for_each(|(name, entries)| describe(&mut schemas.union, name, entries.len()));
        broadcast.keys().for_each(|name| describe(&mut schemas.broadcast, name, 1));
        snapshot
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(snapshots in prop::collection::btree_map("[a-e]{0,3}".prop_map(OperatorUid), typed_snapshot(), 0..4)) {
        let written: Vec<_> = snapshots.clone().into_iter().collect();
        let bytes = encode(&written);
        prop_assert_eq!(&without_changes(decode("part", &bytes).expect("whole")), &snapshots);
        prop_assert_eq!(&open(&bytes, 0).expect("whole"), &snapshots);
        prop_assert_eq!(open(&encode_v1(&written), 0).expect("whole").len(), snapshots.len());
    }

    /// A hostile file has right checksums: what they cover can be anything, and is read without a panic or a great allocation.
    #[test]
    fn any_body_is_a_value_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200), n_sections in 0..50_usize) {
        let bodies = [frame(v1::FORMAT, 0, |out| out.extend(&body)), with_trailer(&body, n_sections)];
        for bytes in bodies {
            if let Err(error) = decode("part", &bytes) {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
            }
        }
        prop_assert!(decode("part", &body).is_err());
    }

    /// Nearly right bodies get further in.
    #[test]
    fn a_body_with_one_other_byte_is_a_value_or_an_error(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let whole = encode_v1(&small());
        let mut body = unframe(v1::FORMAT, "part", &whole).expect("whole").to_vec();
        let at = position.index(body.len());
        body[at] = byte;
        let first = frame(v1::FORMAT, 0, |out| out.extend(&body));
        let whole = encode(&small());
        let mut body = whole[HEADER_LEN..whole.len() - TRAILER_LEN].to_vec();
        let at = position.index(body.len());
        body[at] = byte;
        let trailer = &whole[whole.len() - TRAILER_LEN..];
        let index_len = u64::from_le_bytes(trailer[..8].try_into().expect("8 bytes")) as usize;
        for bytes in [first, with_trailer(&body, body.len() - index_len)] {
            if let Err(error) = decode("part", &bytes) {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
            }
        }
    }
}

/// A file of version 2 of which the first bytes are sections and the rest an index, with a right checksum.
fn with_trailer(body: &[u8], n_sections: usize) -> Vec<u8> {
    let n_sections = n_sections.min(body.len());
    let mut bytes = [&index::header(VERSION), body].concat();
    let mut index = body[n_sections..].to_vec();
    put_len(&mut index, body.len() - n_sections);
    put_len(&mut bytes, body.len() - n_sections);
    bytes.extend(checksum(&[index::header(VERSION), index].concat()).to_le_bytes());
    bytes
}
