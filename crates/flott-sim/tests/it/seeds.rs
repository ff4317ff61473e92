//! Many seeds: always the same ones, and ones that nobody has tried before.

use flott_env::Env;
use flott_sim::{Campaign, Coverage, Limit, Plan, generate, try_plan};
use std::collections::BTreeSet;

fn try_seeds(first: u64, seeds: u64) -> Coverage {
    let env = Env::real().expect("threads can be started");
    let report = Campaign { first, limit: Limit::Seeds(seeds), jobs: env.cores() }.run(&env, |_| {});
    if let Some((plan, failure)) = report.failures.values().next() {
        panic!(
            "{plan}\n{failure}\nreplay it with\n  cargo run --release -p flott-sim -- replay {} --shrink",
            plan.seed
        );
    }
    assert_eq!(report.n_tried(), seeds);
    report.coverage
}

#[test]
fn fixed_seeds_come_out_right_and_cover_every_feature() {
    let coverage = try_seeds(1, 400);
    for feature in [
        "source: an idle split wakes up",
        "source: aligned",
        "source: a split starts late",
        "settings: batches of 1",
        "settings: batches of 1024",
        "settings: tiny gates",
        "settings: also with batches of 1 and 1024",
        "parallelism: 4",
        "exchange: rebalance",
        "exchange: rescale",
        "exchange: shuffle",
        "exchange: broadcast",
        "exchange: global",
        "exchange: custom partitions",
        "operator: fused run",
        "operator: union",
        "operator: keyed reduce",
        "operator: timers",
        "operator: timers that move",
        "operator: co-process",
        "operator: keyed co-process",
        "operator: interval join",
        "operator: keyed broadcast state",
        "operator: broadcast state",
        "operator: async ordered",
        "operator: async unordered",
        "operator: async with retries",
        "operator: async with time-outs",
        "operator: side output",
        "window: tumbling",
        "window: sliding",
        "window: session",
        "window: session with dynamic gap",
        "window: tumbling count",
        "window: sliding count",
        "window: count with time-out",
        "window: allowed lateness",
        "window: late side output",
        "window: over all records",
        "window: join",
        "window: co-group",
        "time: late records came",
    ] {
        assert!(coverage.count(feature) > 0, "no plan had '{feature}':\n{coverage}");
    }
}

#[test]
fn a_thousand_fresh_seeds_come_out_right() {
    let first = Env::real().expect("the system has threads").random_u64();
    println!("first seed {first}");
    try_seeds(first, 1_000);
}

#[test]
fn the_same_seed_is_the_same_run_and_other_schedules_are_others() {
    let mut fingerprints = BTreeSet::new();
    for seed in 0..30 {
        let plan = generate(seed);
        assert_eq!(plan, generate(seed));
        let fingerprint = |plan: &Plan| try_plan(plan, true).unwrap().fingerprint;
        let first = fingerprint(&plan);
        assert_eq!(first, fingerprint(&plan), "seed {seed}");
        fingerprints.insert(first);
        let rescheduled = Plan { schedule: plan.schedule + 1, ..plan };
        fingerprints.insert(fingerprint(&rescheduled));
    }
    assert!(fingerprints.len() > 55, "only {} different runs of 60", fingerprints.len());
}

#[test]
fn a_plan_survives_its_text_form() {
    for seed in 0..50 {
        let plan = generate(seed);
        assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan.clone()));
        assert_eq!(plan.to_string().lines().count(), 1, "{plan}");
    }
    let error = Plan::from_json(&generate(1).to_json().replace("\"parallelism\":1", "\"parallelism\":0"))
        .unwrap_err();
    assert!(error.contains("parallelism is out of range"), "{error}");
}
