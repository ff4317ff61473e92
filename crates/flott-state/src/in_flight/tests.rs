use super::*;
use proptest::prelude::*;

fn edge(source: &str, routing: Routing) -> InFlightEdge {
    let uid = |name: &str| OperatorUid(name.to_owned());
    InFlightEdge { source: uid(source), target: uid("target"), input: 0, side: None, ordinal: 0, routing }
}

fn layout(subtask: u32, parallelism: u32, routing: Routing) -> InFlightLayout {
    let channel = |producer| InFlightChannel {
        edge: 0,
        producer: SubtaskIndex(producer),
        watermark: Watermark(7),
        is_idle: producer == 1,
    };
    InFlightLayout {
        subtask: SubtaskIndex(subtask),
        parallelism,
        max_parallelism: 16,
        edges: vec![edge("source", routing)],
        channels: vec![channel(0), channel(1)],
    }
}

fn entries() -> Vec<Vec<u8>> {
    let batch = RecordBatch::from_columns(vec!["a".to_owned(), "b".to_owned()], vec![1, 2]);
    let elements: [StreamElement<String>; 4] = [
        StreamElement::Records(batch),
        StreamElement::Watermark(Watermark(9)),
        StreamElement::Status(StreamStatus::Idle),
        StreamElement::EndOfData,
    ];
    let mut entries = vec![encode_layout(layout(0, 2, Routing::ByKey), &[]).unwrap()];
    for (channel, element) in elements.iter().enumerate() {
        entries.extend(encode_element(channel % 2, element).unwrap());
    }
    entries
}

#[test]
fn what_was_in_flight_is_read_as_it_was_written_without_the_end_which_comes_again() {
    let entries = entries();
    let parts = decode_parts(&entries).unwrap();
    let [InFlightPart { layout: read, elements, .. }] = &*parts else { panic!("{parts:?}") };
    assert_eq!(*read, layout(0, 2, Routing::ByKey));
    let [(0, InFlightElement::Records(bytes)), rest @ ..] = &**elements else { panic!("{elements:?}") };
    let batch = decode_records::<String>(bytes, None).unwrap();
    assert_eq!(batch.into_columns(), (vec!["a".to_owned(), "b".to_owned()], vec![1, 2]));
    let expected =
        [(1, InFlightElement::Watermark(Watermark(9))), (0, InFlightElement::Status(StreamStatus::Idle))];
    assert_eq!(rest, expected);
    assert_eq!(entries.iter().map(|entry| count_records(entry)).sum::<u64>(), 2);
    assert!(decode_records::<u64>(&bytes[..bytes.len() - 1], None).is_err());
    assert_eq!(decode_parts(&entries[1..]).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn damage_is_an_error_or_other_content_and_never_a_panic() {
    let entries = entries();
    for (idx, entry) in entries.iter().enumerate() {
        for at in 0..entry.len() {
            for changed in [entry[..at].to_vec(), {
                let mut flipped = entry.clone();
                flipped[at] ^= 0x55;
                flipped
            }] {
                let mut damaged = entries.clone();
                damaged[idx] = changed;
                for part in decode_parts(&damaged).unwrap_or_default() {
                    for (_, element) in part.elements {
                        if let InFlightElement::Records(bytes) = element {
                            drop(decode_records::<String>(bytes, None));
                        }
                    }
                }
                drop(assign_in_flight([&*damaged], SubtaskIndex(0), 3, 16));
            }
        }
    }
}

proptest! {
    /// Whoever may own a record gets to see it, and what may go to any goes to one.
    #[test]
    fn every_new_subtask_gets_what_may_hold_records_of_its_own(
        old in 1_u32..7, new in 1_u32..7, of_old in 0_u32..7, group in 0_u32..16,
    ) {
        let of_old = of_old % old;
        let sees = |routing| -> Vec<u32> {
            let entries = vec![encode_layout(layout(of_old, old, routing), &[]).unwrap()];
            let gets = |subtask: &u32| {
                !assign_in_flight([&*entries], SubtaskIndex(*subtask), new, 16).unwrap().is_empty()
            };
            (0..new).filter(gets).collect()
        };
        prop_assert_eq!(sees(Routing::Any), vec![of_old % new]);
        prop_assert_eq!(sees(Routing::ByFunction), (0..new).collect::<Vec<_>>());
        let group = flott_types::KeyGroup(group);
        let owns = |subtask: u32, parallelism| key_group_range(SubtaskIndex(subtask), 16, parallelism).contains(group);
        if owns(of_old, old) {
            let owner = (0..new).find(|subtask| owns(*subtask, new)).unwrap();
            prop_assert!(sees(Routing::ByKey).contains(&owner));
        }
    }
}
