//! Keyed state: random read-modify-writes on 5 M keys, in memory and on disk with memory for an eighth of it.
//!
//! A key has 16 bytes, a value 32. Records come in micro-batches of 1,000 keys that were drawn before the clock runs.

mod contenders;
mod workload;

use crate::scenario::{Case, Contender, Family, Scenario};
use workload::Access;

pub(crate) fn scenario() -> Scenario {
    Scenario {
        name: "state",
        about: "read-modify-writes on 5 M keys, on disk with memory for an eighth",
        records: 10_000_000,
        cases: [Access::Zipf, Access::Hotspot, Access::Uniform].into_iter().map(case).collect(),
    }
}

/// The ops of a store that would take minutes for all records.
const SLOW_RECORDS_MAX: u64 = 1_000_000;

fn case(access: Access) -> Case {
    let flott = |name, run: fn(Access, u64) -> crate::scenario::Outcome| {
        Contender::new(Family::Flott, name, move |records, n| {
            workload::on_threads(records, n, |r| run(access, r))
        })
    };
    let fjall = Contender::new(Family::Fjall, "fjall", move |records, n| {
        workload::on_threads(records, n, |records| contenders::fjall(access, records))
    });
    Case {
        name: access.name().to_owned(),
        contenders: vec![
            flott("flott heap", contenders::heap),
            flott("flott disk", contenders::disk),
            fjall
                .not_compared()
                .records_max(SLOW_RECORDS_MAX)
                .note("1 M records; its cache as large as Flott's memory"),
        ],
    }
}
