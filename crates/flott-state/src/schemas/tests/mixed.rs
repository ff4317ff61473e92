//! Subtasks that have read a state since its type changed, and others that have not, meet in one.

use super::*;
use crate::handles::ValueState;
use crate::schemas::STATE_SCHEMAS;
use flott_schema::StateSchemas;

/// The first and the last key of a subtask.
fn keys_of(subtask: u32, parallelism: u32) -> Vec<u64> {
    let is_own = |key: &u64| {
        let group = key_group(key_hash(key), MAX_PARALLELISM);
        subtask_for_key_group(group, MAX_PARALLELISM, parallelism) == SubtaskIndex(subtask)
    };
    (0..200).filter(is_own).collect()
}

fn records(part: &OperatorSnapshot) -> Vec<StateSchemas> {
    let records = part.union[STATE_SCHEMAS].iter();
    records.map(|bytes| StateSchemas::decode(bytes).expect("a record").expect("of this version")).collect()
}

#[test]
fn each_key_group_is_read_by_the_schema_under_which_it_was_written() {
    for parallelism in [1, 3, 5] {
        let mut program = Program::<u64>::start(&[], 4, Backend::Memory);
        let old = ValueState::<u8>::new("x");
        (0..200).for_each(|key| old.set(program.at(key), key as u8).expect("set"));
        let mut program = Program::<u64>::start(&program.stop(), 4, Backend::Memory);
        // Two of four subtasks read the state as something wider, and write it so.
        let new = ValueState::<i64>::new("x");
        for key in keys_of(1, 4).into_iter().chain(keys_of(3, 4)) {
            assert_eq!(new.get(program.at(key)).expect("read"), Some(&(key as i64)));
        }
        // In one subtask they meet, and nobody reads them.
        let mut program = Program::<u64>::start(&program.stop(), parallelism, Backend::Memory);
        let parts = program.stop();
        if parallelism == 1 {
            let ranges: Vec<_> = records(&parts[0]).iter().map(|record| record.key_groups).collect();
            assert_eq!(ranges, [(0, 4), (4, 8), (8, 12), (12, 16)]);
        }
        let before = parts.iter().flat_map(|part| part.keyed["x"].clone()).collect::<Vec<_>>();
        program = Program::start(&parts, 4, Backend::Disk);
        let after = program.stop();
        assert_eq!(before, after.iter().flat_map(|part| part.keyed["x"].clone()).collect::<Vec<_>>());
        let newest = ValueState::<i128>::new("x");
        for key in 0..200 {
            assert_eq!(newest.get(program.at(key)).expect("read"), Some(&i128::from(key)));
        }
        assert!(program.stop().iter().all(|part| records(part).len() == 1), "all are of one type again");
        // What fits one of the two types only is refused.
        let mut program = Program::<u64>::start(&parts, 1, Backend::Memory);
        let error = report(ValueState::<u16>::new("x").get(program.at(1)));
        assert!(error.ends_with("field 'value' was i64 and is u16"), "{error}");
    }
}

#[test]
fn a_record_of_a_later_version_is_as_good_as_none() {
    let mut program = Program::<u64>::start(&[], 1, Backend::Memory);
    ValueState::new("x").set(program.at(1), 300_u16).expect("set");
    let mut parts = program.stop();
    parts[0].union.insert(STATE_SCHEMAS.to_owned(), vec![br#"{"version":7,"what":[]}"#.to_vec()]);
    let mut program = Program::<u64>::start(&parts, 1, Backend::Memory);
    assert_eq!(ValueState::new("x").get(program.at(1)).expect("the same type"), Some(&300_u16));
    let mut program = Program::<u64>::start(&parts, 1, Backend::Memory);
    let error = report(ValueState::<String>::new("x").get(program.at(1)));
    assert!(error.contains("the snapshot is of a later version of Flott"), "{error}");
}

#[test]
fn damaged_records_are_corruption() {
    let mut program = Program::<u64>::start(&[], 1, Backend::Memory);
    ValueState::new("x").set(program.at(1), 300_u16).expect("set");
    let intact = program.stop().remove(0);
    let bytes = &intact.union[STATE_SCHEMAS][0];
    for len in 0..bytes.len() {
        let mut part = intact.clone();
        part.union.insert(STATE_SCHEMAS.to_owned(), vec![bytes[..len].to_vec()]);
        let restored = KeyedStateBackend::<u64>::new(SubtaskIndex(0), 1, MAX_PARALLELISM).restore(&part);
        assert_eq!(restored.expect_err("it is cut off").kind(), flott_types::ErrorKind::Corruption);
    }
}
