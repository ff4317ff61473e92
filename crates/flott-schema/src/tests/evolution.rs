//! Types before and after a change: what is allowed reads every old value as serde would, what is not names the field.

use crate::{Incompatible, compatible, compatible_key, trace};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

mod old {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Account {
        pub(super) id: u32,
        pub(super) owner: String,
        pub(super) positions: Vec<Position>,
        pub(super) limits: BTreeMap<u16, f32>,
        pub(super) last: Option<Event>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Position {
        pub(super) amount: i16,
        pub(super) price: f32,
    }

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(super) enum Event {
        Opened,
        Moved(u8, i8),
        Closed { at: i32, why: String },
        Noted(String),
    }
}

mod new {
    use super::*;

    /// Widened, renamed, reordered, with new fields.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Account {
        #[serde(alias = "owner")]
        pub(super) holder: String,
        pub(super) id: u64,
        pub(super) note: Option<String>,
        pub(super) positions: Vec<Position>,
        pub(super) limits: BTreeMap<i32, f64>,
        pub(super) last: Option<Event>,
        #[serde(default = "seven")]
        pub(super) level: u8,
    }

    pub(super) fn seven() -> u8 {
        7
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Position {
        pub(super) amount: i128,
        pub(super) price: f64,
        pub(super) currency: Option<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Event {
        Reopened(u64),
        Opened,
        Moved(i16, i64),
        Closed {
            #[serde(alias = "why")]
            reason: String,
            at: i64,
        },
        #[serde(alias = "Noted")]
        Remarked(String),
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zß]{0,6}"
}

fn event() -> impl Strategy<Value = old::Event> {
    prop_oneof![
        Just(old::Event::Opened),
        any::<(u8, i8)>().prop_map(|(a, b)| old::Event::Moved(a, b)),
        (any::<i32>(), text()).prop_map(|(at, why)| old::Event::Closed { at, why }),
        text().prop_map(old::Event::Noted),
    ]
}

fn account() -> impl Strategy<Value = old::Account> {
    // What JSON can hold, and in which f32 and f64 have the same digits.
    let quarters = || (-1_000_i16..1_000).prop_map(|quarters| f32::from(quarters) / 4.0);
    let position = (any::<i16>(), quarters()).prop_map(|(amount, price)| old::Position { amount, price });
    let positions = prop::collection::vec(position, 0..4);
    let limits = prop::collection::btree_map(any::<u16>(), quarters(), 0..4);
    (any::<u32>(), text(), positions, limits, prop::option::of(event()))
        .prop_map(|(id, owner, positions, limits, last)| old::Account { id, owner, positions, limits, last })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_migrated_value_is_what_serde_makes_of_the_old_one(account in account()) {
        let migration = compatible(
            &trace::<old::Account>().expect("traced"),
            &trace::<new::Account>().expect("traced"),
        ).expect("compatible");
        prop_assert!(!migration.is_unchanged());
        let bytes = postcard::to_allocvec(&account).expect("encoded");
        let migrated: new::Account = migration.decode(&bytes).expect("migrated");
        let json = serde_json::to_string(&account).expect("JSON");
        let expected: new::Account = serde_json::from_str(&json).expect("serde reads it");
        prop_assert_eq!(migrated, expected);
        for len in 0..bytes.len() {
            drop(migration.decode::<new::Account>(&bytes[..len]));
        }
    }
}

#[test]
fn changes_are_told() {
    let migration =
        compatible(&trace::<old::Account>().expect("traced"), &trace::<new::Account>().expect("traced"))
            .expect("compatible");
    expect_test::expect![[r#"
        field 'id' is widened from u32 to u64
        field 'owner' is renamed to 'holder'
        field 'owner' has another place
        field 'positions[].amount' is widened from i16 to i128
        field 'positions[].price' is widened from f32 to f64
        field 'positions[].currency' is added
        field 'limits{key}' is widened from u16 to i32
        field 'limits{}' is widened from f32 to f64
        field 'last::Opened' has another place
        field 'last::Moved' has another place
        field 'last::Moved.0' is widened from u8 to i16
        field 'last::Moved.1' is widened from i8 to i64
        field 'last::Closed' has another place
        field 'last::Closed.at' is widened from i32 to i64
        field 'last::Closed.why' is renamed to 'reason'
        field 'last::Closed.why' has another place
        field 'last::Noted' has another place
        field 'note' is added
        field 'level' is added"#]]
    .assert_eq(&migration.changes().join("\n"));
}

fn refusal<Old: DeserializeOwned, New: DeserializeOwned>() -> String {
    let (old, new) = (trace::<Old>().expect("traced"), trace::<New>().expect("traced"));
    match compatible(&old, &new) {
        Ok(migration) => format!("compatible: {}", migration.changes().join(", ")),
        Err(error) => error.to_string(),
    }
}

macro_rules! shape {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* }) => {
        #[derive(Serialize, Deserialize)]
        #[serde(rename = "Shape")]
        struct $name { $($(#[$attribute])* $field: $type),* }
    };
}

shape!(Base { a: i64, b: String });
shape!(Removed { a: i64 });
shape!(AddedRequired { a: i64, b: String, c: u8 });
shape!(AddedOption { a: i64, c: Option<u8>, b: String });
shape!(Narrowed { a: i32, b: String });
shape!(OtherSign { a: u64, b: String });
shape!(OtherType { a: i64, b: Vec<u8> });
shape!(MadeOptional { a: Option<i64>, b: String });
shape!(RenamedBare { a: i64, c: String });
shape!(RenamedAlias {
    a: i64,
    #[serde(alias = "b")]
    c: String
});
shape!(TwoNumbers { a: i64, b: i64 });
shape!(BothToOne {
    #[serde(alias = "a", alias = "b")]
    c: i64
});
shape!(Swapped { b: String, a: i64 });
shape!(Nested { list: Vec<Base>, map: BTreeMap<u8, (u8, Base)> });
shape!(NestedNarrowed { list: Vec<Base>, map: BTreeMap<u8, (u8, Narrowed)> });

#[derive(Serialize, Deserialize)]
enum Two {
    A,
    B(u8),
}
#[derive(Serialize, Deserialize)]
enum Three {
    A,
    B(u8),
    C,
}
#[derive(Serialize, Deserialize)]
enum Other {
    A,
    B(u8, u8),
}

#[test]
fn what_would_lose_something_is_refused_with_the_name_of_the_field() {
    let refusals = [
        refusal::<Base, Removed>(),
        refusal::<Base, AddedRequired>(),
        refusal::<Base, AddedOption>(),
        refusal::<Base, Narrowed>(),
        refusal::<Base, OtherSign>(),
        refusal::<Base, OtherType>(),
        refusal::<Base, MadeOptional>(),
        refusal::<Base, RenamedBare>(),
        refusal::<Base, RenamedAlias>(),
        refusal::<TwoNumbers, BothToOne>(),
        refusal::<Base, Swapped>(),
        refusal::<Nested, NestedNarrowed>(),
        refusal::<Two, Three>(),
        refusal::<Three, Two>(),
        refusal::<Two, Other>(),
        refusal::<(u8, u8), (u8, u8, u8)>(),
        refusal::<u64, String>(),
        refusal::<f64, f32>(),
    ];
    expect_test::expect![[r#"
        field 'b' was removed; if it was renamed, the new field needs #[serde(alias = "…")] with the old name
        field 'c' was added and may not be missing: make it an Option or give it #[serde(default)]
        compatible: field 'c' is added
        field 'a' was i64 and is i32
        field 'a' was i64 and is u64
        field 'b' was string and is list<u8>
        field 'a' was i64 and is option<i64>
        field 'b' was removed; if it was renamed, the new field needs #[serde(alias = "…")] with the old name
        compatible: field 'b' is renamed to 'c'
        field 'b' and another are both read as 'c'
        compatible: field 'b' has another place
        field 'map{}.1.a' was i64 and is i32
        compatible: 
        field '::C' was removed
        field '::B' holds something else than before
        field 'value' had 2 elements and has 3
        field 'value' was u64 and is string
        field 'value' was f64 and is f32"#]]
    .assert_eq(&refusals.join("\n"));
}

#[test]
fn a_key_changes_only_in_ways_that_keep_its_hash() {
    fn check<Old: DeserializeOwned, New: DeserializeOwned>() -> Result<bool, Incompatible> {
        let (old, new) = (trace::<Old>().expect("traced"), trace::<New>().expect("traced"));
        compatible_key(&old, &new).map(|migration| migration.is_unchanged())
    }
    assert_eq!(check::<u32, u64>(), Ok(false));
    assert_eq!(check::<(String, i8), (String, i64)>(), Ok(false));
    assert_eq!(check::<Base, RenamedAlias>(), Ok(false));
    assert!(check::<u64, u128>().is_err(), "two words are hashed");
    assert!(check::<f32, f64>().is_err());
    assert!(check::<Base, AddedOption>().is_err());
    assert!(check::<Base, Swapped>().is_err());
}

#[test]
fn a_type_around_another_is_migrated_through_options_tuples_and_generics() {
    fn check<Old: Serialize + DeserializeOwned, New: DeserializeOwned + PartialEq + Debug>(
        old: &Old,
        new: &New,
    ) {
        let migration = compatible(&trace::<Old>().expect("traced"), &trace::<New>().expect("traced"));
        let bytes = postcard::to_allocvec(old).expect("encoded");
        assert_eq!(migration.expect("compatible").decode::<New>(&bytes).as_ref(), Ok(new));
    }
    check(&(1_u8, Some("a")).map_owned(), &(1_u64, Some("a".to_owned())));
    check(&vec![Ok::<u8, i8>(3), Err(-3)], &vec![Ok::<u16, i64>(3), Err(-3)]);
    check(&[1_i32, -2], &[1_i64, -2]);
    check(&BTreeMap::from([('a', 1.5_f32)]), &BTreeMap::from([('a', 1.5_f64)]));
    check(&std::time::Duration::from_millis(1_500), &std::time::Duration::from_millis(1_500));
    check(&std::net::Ipv6Addr::LOCALHOST, &std::net::Ipv6Addr::LOCALHOST);
}

trait MapOwned {
    fn map_owned(&self) -> (u8, Option<String>);
}

impl MapOwned for (u8, Option<&str>) {
    fn map_owned(&self) -> (u8, Option<String>) {
        (self.0, self.1.map(str::to_owned))
    }
}
