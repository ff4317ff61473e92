//! Configuration: a YAML file, lines of properties, arguments. Three pieces of text with a zero byte between them.

use super::put;
use flott_datastream::load_configuration;
use flott_env::sim::Simulation;
use flott_types::{ConfigValue, Configuration, TimestampText, options};
use std::path::Path;

pub(crate) fn load(bytes: &[u8]) {
    let mut pieces = bytes.splitn(3, |byte| *byte == 0);
    let mut piece = || pieces.next().unwrap_or_default();
    let (yaml, properties, arguments) = (piece(), piece(), piece());
    let env = Simulation::new(1).env();
    put(&env, Path::new("conf/config.yaml"), yaml);
    let variable = |name: &str| match name {
        "FLOTT_CONF_DIR" => Some("conf".to_owned()),
        "FLOTT_PROPERTIES" => Some(String::from_utf8_lossy(properties).into_owned()),
        _ => None,
    };
    let arguments = String::from_utf8_lossy(arguments).into_owned();
    let loaded = load_configuration(&env, variable, arguments.split(' ').map(str::to_owned));
    let Ok(config) = loaded else { return };
    // What is set can be set again.
    let mut again = Configuration::default();
    config.iter().for_each(|(key, value)| again.set(key, value).expect("it was accepted"));
    assert_eq!(again, config);
    if let Some(from) = config.get(options::SOURCE_STARTUP_TIMESTAMP) {
        let text = from.to_string();
        // Beyond the calendar it is for people only.
        assert!(text.ends_with(" ms") || TimestampText::parse(&text) == Ok(from), "{text} is not read");
    }
}

pub(crate) fn files() -> Vec<Vec<u8>> {
    let texts = [
        "parallelism.default: 2\nexecution:\n  buffer-timeout:\n    interval: 5 ms\n  batch-size: 10\n\0execution.batch-size: 20\n\0run -D parallelism.default=4",
        "state.backend.type: disk\nstate:\n  backend:\n    disk:\n      memory: 16 mb\n\0\0-Drestart-strategy.type=fixed-delay",
        "a: [1, 2]\nb: !t x\n\0pipeline.max-parallelism: 128\0-D execution.checkpointing.interval=1.5s",
        "source.scan.startup.timestamp-millis: 2024-02-29T12:00:00.5Z\n\0source.numbers.scan.bounded.mode: unbounded\0",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n\0\0",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
