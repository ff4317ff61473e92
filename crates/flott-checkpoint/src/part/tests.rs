use super::*;
use flott_types::ErrorKind;
use proptest::prelude::*;

fn small() -> Vec<(OperatorUid, OperatorSnapshot)> {
    let snapshot = OperatorSnapshot {
        max_parallelism: 8,
        keyed: [("count".to_owned(), [(KeyGroup(3), vec![1, 2, 3]), (KeyGroup(5), vec![])].into())].into(),
        list: [("splits".to_owned(), vec![vec![4], vec![]])].into(),
        union: [("offsets".to_owned(), vec![vec![5, 6]])].into(),
        broadcast: [("rules".to_owned(), vec![7])].into(),
        ..OperatorSnapshot::default()
    };
    vec![(OperatorUid("a".to_owned()), snapshot), (OperatorUid("b".to_owned()), OperatorSnapshot::default())]
}

#[test]
fn every_truncation_is_an_error() {
    let whole = encode(&small());
    for len in 0..whole.len() {
        let error = decode("part", &whole[..len]).expect_err("truncated");
        assert_eq!(error.kind(), ErrorKind::Corruption, "at {len}");
        assert!(error.to_string().starts_with("file 'part' is damaged at byte "), "{error}");
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let whole = encode(&small());
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = decode("part", &flipped).expect_err("flipped");
        assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
    }
}

#[test]
fn what_is_there_twice_is_an_error_also_with_a_right_checksum() {
    let [first, _] = small().try_into().expect("two");
    let error = decode("part", &encode(&[first.clone(), first])).expect_err("the operator is there twice");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().ends_with("operator 'a' is there twice"), "{error}");
}

/// The bytes of version 1: files written by it must be readable for ever after.
#[test]
fn the_format_of_version_one_is_pinned() {
    let bytes = encode(&small());
    assert_eq!((bytes.len(), crate::codec::checksum(&bytes)), PINNED);
}

const PINNED: (usize, u64) = (276, 11_088_553_560_549_908_433);

fn snapshot() -> impl Strategy<Value = OperatorSnapshot> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..9);
    let groups = || prop::collection::btree_map((0..8_u32).prop_map(KeyGroup), bytes(), 0..4);
    let lists = || prop::collection::btree_map("[a-c]?", prop::collection::vec(bytes(), 0..3), 0..3);
    let keyed = prop::collection::btree_map("[a-c]?", groups(), 0..3);
    let broadcast = prop::collection::btree_map("[a-c]?", bytes(), 0..3);
    (any::<u32>(), any::<u32>(), keyed, lists(), lists(), broadcast).prop_map(
        |(key_hash_version, max_parallelism, keyed, list, union, broadcast)| OperatorSnapshot {
            key_hash_version,
            max_parallelism,
            keyed,
            list,
            union,
            broadcast,
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read(snapshots in prop::collection::btree_map("[a-e]{0,3}".prop_map(OperatorUid), snapshot(), 0..4)) {
        let written: Vec<_> = snapshots.clone().into_iter().collect();
        prop_assert_eq!(decode("part", &encode(&written)).expect("whole"), snapshots);
    }

    /// A hostile file has a right frame: its body can be anything, and is read without a panic or a great allocation.
    #[test]
    fn any_body_is_a_value_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = decode("part", &frame(FORMAT, 0, |out| out.extend(&body))) {
            prop_assert_eq!(error.kind(), ErrorKind::Corruption);
        }
        prop_assert!(decode("part", &body).is_err());
    }

    /// Nearly right bodies get further in.
    #[test]
    fn a_body_with_one_other_byte_is_a_value_or_an_error(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let whole = encode(&small());
        let mut body = unframe(FORMAT, "part", &whole).expect("whole").to_vec();
        let position = position.index(body.len());
        body[position] = byte;
        if let Err(error) = decode("part", &frame(FORMAT, 0, |out| out.extend(&body))) {
            prop_assert_eq!(error.kind(), ErrorKind::Corruption);
        }
    }
}
