//! What belongs to no key, with the types as which it was written: operator state, and records in flight.

use super::keyed_state::{Kept, KeptLater, kept};
use super::{cut, joined};
use flott_schema::OperatorSchemas;
use flott_state::{
    BroadcastState, IN_FLIGHT, InFlightChannel, InFlightEdge, InFlightElement, InFlightLayout,
    OperatorListState, OperatorSnapshot, OperatorStateBackend, Routing, StateTypes, decode_parts,
    decode_records, encode_element, encode_layout, record_schema,
};
use flott_types::{OperatorUid, RecordBatch, StreamElement, SubtaskIndex, Watermark};

fn backend(snapshot: &OperatorSnapshot) -> OperatorStateBackend {
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    backend.restore(snapshot).expect("the names are right");
    backend
}

/// A record of schemas, an entry of a list, and broadcast state, read as what both versions of a program keep.
pub(crate) fn restore(bytes: &[u8]) {
    let (record, rest) = cut(bytes);
    let (entry, broadcast) = cut(rest);
    let Ok(schemas) = OperatorSchemas::decode(record) else { return };
    let again =
        OperatorSchemas::decode(&schemas.encode().expect("encoded")).expect("what was written is read");
    let mut stripped = schemas.clone();
    stripped.strip();
    assert_eq!(again, stripped);
    let snapshot = OperatorSnapshot {
        list: [("list".to_owned(), vec![entry.to_vec()])].into(),
        union: [("union".to_owned(), vec![entry.to_vec()])].into(),
        broadcast: [("broadcast".to_owned(), broadcast.to_vec())].into(),
        schemas,
        ..OperatorSnapshot::default()
    };
    let read = contents(&backend(&snapshot));
    let restored = backend(&snapshot);
    // As the newer version, which writes what it has read as its own type.
    let has_read = OperatorListState::<KeptLater>::new("list").get(&restored).is_ok()
        && BroadcastState::<String, KeptLater>::new("broadcast").is_empty(&restored).is_ok();
    let mut written = OperatorSnapshot::default();
    restored.snapshot(&mut written).expect("written");
    if has_read {
        let again = contents(&backend(&written));
        assert_eq!(again[1..], read[1..]);
    }
}

/// What both versions see; as text, since a number may be none.
fn contents(backend: &OperatorStateBackend) -> [Option<String>; 3] {
    fn text<T: std::fmt::Debug>(read: flott_types::Result<T>) -> Option<String> {
        read.ok().map(|read| format!("{read:?}"))
    }
    let of_broadcast = BroadcastState::<String, KeptLater>::new("broadcast");
    let broadcast = of_broadcast.iter(backend).map(Iterator::collect::<Vec<_>>);
    [
        text(OperatorListState::<Kept>::union("union").get(backend)),
        text(OperatorListState::<KeptLater>::new("list").get(backend)),
        text(broadcast),
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    OperatorListState::new("list").add(&mut backend, kept()).expect("added");
    OperatorListState::union("union").add(&mut backend, kept()).expect("added");
    BroadcastState::new("broadcast").put(&mut backend, "k".to_owned(), kept()).expect("put");
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).expect("written");
    let record = snapshot.schemas.encode().expect("encoded");
    let entry = snapshot.list.get("list").and_then(|entries| entries.first()).expect("written");
    let broadcast = snapshot.broadcast.get("broadcast").expect("written");
    [&record[..], &[]].map(|record| joined(record, &joined(entry, broadcast))).to_vec()
}

/// The entry that begins what is in flight, and one with records, read as both versions of their type.
pub(crate) fn in_flight(bytes: &[u8]) {
    let (layout, records) = cut(bytes);
    let entries = vec![layout.to_vec(), records.to_vec()];
    let snapshot = OperatorSnapshot {
        list: [(IN_FLIGHT.to_owned(), entries.clone())].into(),
        ..OperatorSnapshot::default()
    };
    let mut types = StateTypes::default();
    types.add_input::<KeptLater>();
    let fit = types.compare([&snapshot]);
    let Ok(parts) = decode_parts(&entries) else {
        assert!(fit.is_err());
        return;
    };
    for part in &parts {
        for (channel, element) in &part.elements {
            let InFlightElement::Records(bytes) = element else { continue };
            let written = part.schema_of(*channel);
            for batch in
                [decode_records::<KeptLater>(bytes, written), decode_records::<KeptLater>(bytes, None)]
            {
                let Ok(batch) = batch else { continue };
                let element = encode_element(*channel, &StreamElement::Records(batch)).expect("written");
                assert!(element.is_some());
            }
        }
    }
}

pub(crate) fn in_flight_seeds() -> Vec<Vec<u8>> {
    let layout = InFlightLayout {
        subtask: SubtaskIndex(0),
        parallelism: 1,
        max_parallelism: 8,
        edges: vec![InFlightEdge {
            source: OperatorUid("a".to_owned()),
            target: OperatorUid("b".to_owned()),
            input: 0,
            side: None,
            ordinal: 0,
            routing: Routing::ByKey,
        }],
        channels: vec![InFlightChannel {
            edge: 0,
            producer: SubtaskIndex(0),
            watermark: Watermark(5),
            is_idle: false,
        }],
    };
    let batch = StreamElement::Records(RecordBatch::from_columns(vec![kept(), kept()], vec![1, 2]));
    let records = encode_element(0, &batch).expect("written").expect("records");
    [record_schema::<Kept>(), record_schema::<KeptLater>(), None]
        .map(|schema| joined(&encode_layout(layout.clone(), &[schema]).expect("written"), &records))
        .to_vec()
}
