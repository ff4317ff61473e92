//! A value of an option: the first two bytes say of which, the rest is its text.

use flott_types::{Configuration, options};

pub(crate) fn set(input: &[u8]) {
    let Some((which, text)) = input.split_first_chunk() else { return };
    let options = options::reference();
    let Some((key, ..)) = options.get(usize::from(u16::from_le_bytes(*which)) % options.len()) else {
        return;
    };
    let mut config = Configuration::default();
    if config.set(key, &String::from_utf8_lossy(text)).is_err() {
        return;
    }
    let mut again = Configuration::default();
    config.iter().for_each(|(key, value)| again.set(key, value).expect("it was accepted"));
    assert_eq!(again, config);
    // As numbers, durations, sizes and points in time.
    let _ = config.get(options::PARALLELISM_DEFAULT);
    let _ = config.get(options::BUFFER_TIMEOUT);
    let _ = config.get(options::CHANNEL_MEMORY);
    let _ = config.get(options::SOURCE_STARTUP_TIMESTAMP);
    let _ = config.get(options::RESTART_STRATEGY);
}

pub(crate) fn texts() -> Vec<Vec<u8>> {
    let options = options::reference();
    let of_option = |(which, (_, text, _)): (u16, &(_, String, _))| {
        [which.to_le_bytes().as_slice(), text.as_bytes()].concat()
    };
    let defaults = (0..).zip(&options).map(of_option);
    let others = ["18446744073709551615 d", "9.5e300 tb", "-0", " 1_000 ms", "2024-02-29T23:59:60Z", "∞ s"];
    let others = (0..).zip(&options).flat_map(|(which, _)| {
        others.map(|text| [u16::to_le_bytes(which).as_slice(), text.as_bytes()].concat())
    });
    defaults.chain(others).collect()
}
