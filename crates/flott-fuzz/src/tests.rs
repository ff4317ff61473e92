use crate::{Mutator, TARGETS};

#[test]
fn every_decoder_returns_for_its_seeds_and_for_changes_of_them() {
    for target in &TARGETS {
        let seeds = target.seeds();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
        (target.run)(&[]);
        let mut mutator = Mutator::new(1);
        for _ in 0..target.n_tested {
            (target.run)(&mutator.input(&seeds));
        }
    }
}

#[test]
fn every_target_has_a_binary_for_libfuzzer() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    let listed: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("name = ")).skip(1).collect();
    let expected: Vec<_> = TARGETS.iter().map(|target| format!("\"{}\"", target.name)).collect();
    assert_eq!(listed, expected);
}
