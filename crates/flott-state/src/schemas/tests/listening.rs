//! Handles say that they are there, to whoever listens on their thread.

use super::*;
use crate::handles::{ListState, ValueState};
use crate::schemas::{HandleTypes, StateTypes};
use serde::{Deserialize, Deserializer, Serialize};

fn names(handles: &HandleTypes) -> Vec<String> {
    let mut types = StateTypes::default();
    types.add_handles::<u64>(handles);
    ["a", "b", "c"].into_iter().filter(|name| types.get(name).is_some()).map(str::to_owned).collect()
}

#[test]
fn made_and_cloned_handles_are_heard_and_only_while_somebody_listens() {
    let earlier = ValueState::<u32>::new("a");
    let ((inner, kept), outer) = HandleTypes::of(|| {
        let cloned = earlier.clone();
        let ((), inner) = HandleTypes::of(|| drop(ListState::<u32>::new("b")));
        (inner, cloned)
    });
    drop(kept.clone());
    assert_eq!((names(&inner), names(&outer)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    let caught = std::panic::catch_unwind(|| HandleTypes::of(|| panic!("the user's")));
    assert!(caught.is_err());
    let ((), heard) = HandleTypes::of(|| drop(ValueState::<u32>::new("c")));
    assert_eq!(names(&heard), ["c"]);
}

#[test]
fn a_type_that_panics_or_refuses_has_no_schema_and_works_as_without() {
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Panics(u8);
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let value = u8::deserialize(deserializer)?;
            assert!(value > 100, "made-up values are small");
            Ok(Self(value))
        }
    }
    let mut program = Program::<u64>::start(&[], 1, Backend::Memory);
    ValueState::new("x").set(program.at(1), Panics(200)).expect("set");
    let parts = program.stop();
    assert!(parts[0].union.is_empty(), "there is no schema to record");
    let mut program = Program::<u64>::start(&parts, 1, Backend::Memory);
    assert_eq!(ValueState::new("x").get(program.at(1)).expect("read"), Some(&Panics(200)));
}
