//! Where configuration comes from besides code: a file, the environment, the command line.

use flott_env::Env;
use flott_types::{Configuration, Error, Result};
use serde_yaml_ng::Value;
use std::io::Read;
use std::path::Path;

/// Reads the configuration of this process. Later sources win:
///
/// 1. `config.yaml` in the directory that `FLOTT_CONF_DIR` or `FLINK_CONF_DIR` names, with nested or dotted keys;
/// 2. lines `key: value` of the variable `FLOTT_PROPERTIES` or `FLINK_PROPERTIES`;
/// 3. `-D key=value` or `-Dkey=value` among `arguments`.
///
/// # Errors
/// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) that names the source, and the key or line: an unknown key, a
/// value of the wrong form, a file that cannot be read or is no YAML mapping.
pub fn load_configuration(
    env: &Env,
    variable: impl Fn(&str) -> Option<String>,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Configuration> {
    let mut config = Configuration::default();
    if let Some(directory) = variable("FLOTT_CONF_DIR").or_else(|| variable("FLINK_CONF_DIR")) {
        let path = Path::new(&directory).join("config.yaml");
        let in_file = |error: Error| error.context(format!("in {}", path.display()));
        let mut text = String::new();
        let read = env.fs().open(&path).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|error| Error::user(format!("cannot read {}", path.display())).with_source(error))?;
        let document: Value = serde_yaml_ng::from_str(&text)
            .map_err(|error| Error::user(format!("{} is not YAML", path.display())).with_source(error))?;
        set_nested(&mut config, "", &document).map_err(in_file)?;
    }
    for name in ["FLOTT_PROPERTIES", "FLINK_PROPERTIES"] {
        for line in
            variable(name).iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty())
        {
            let (key, value) = line
                .split_once(':')
                .ok_or_else(|| Error::user(format!("'{line}' in {name} is not of the form 'key: value'")))?;
            config.set(key.trim(), value.trim()).map_err(|error| error.context(format!("in {name}")))?;
        }
    }
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(rest) = argument.strip_prefix("-D") else { continue };
        let pair = if rest.is_empty() { arguments.next().unwrap_or_default() } else { rest.to_owned() };
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::user(format!("'-D {pair}' is not of the form '-D key=value'")))?;
        config.set(key.trim(), value.trim()).map_err(|error| error.context("on the command line"))?;
    }
    Ok(config)
}

fn set_nested(config: &mut Configuration, prefix: &str, value: &Value) -> Result<()> {
    match value {
        Value::Mapping(entries) => {
            for (key, value) in entries {
                let key =
                    key.as_str().ok_or_else(|| Error::user(format!("a key below '{prefix}' is not text")))?;
                let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
                set_nested(config, &key, value)?;
            }
            Ok(())
        }
        Value::Null if prefix.is_empty() => Ok(()),
        Value::Bool(value) => config.set(prefix, &value.to_string()),
        Value::Number(value) => config.set(prefix, &value.to_string()),
        Value::String(value) => config.set(prefix, value),
        Value::Null | Value::Sequence(_) | Value::Tagged(_) => {
            Err(Error::user(format!("the value of '{prefix}' is not text, a number or true or false")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::sim::Simulation;
    use flott_types::options;
    use std::io::Write;
    use std::time::Duration;

    fn load(yaml: &str, properties: &str, arguments: &[&str]) -> Result<Configuration> {
        let env = Simulation::new(0).env();
        env.fs().create(Path::new("conf/config.yaml")).unwrap().write_all(yaml.as_bytes()).unwrap();
        let variable = |name: &str| match name {
            "FLINK_CONF_DIR" => Some("conf".to_owned()),
            "FLOTT_PROPERTIES" => Some(properties.to_owned()),
            _ => None,
        };
        load_configuration(&env, variable, arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn later_sources_win_and_keys_may_be_nested() {
        let yaml =
            "parallelism.default: 2\nexecution:\n  buffer-timeout:\n    interval: 5 ms\n  batch-size: 10\n";
        let config =
            load(yaml, "execution.batch-size: 20\n", &["run", "-D", "parallelism.default=4", "--other"])
                .unwrap();
        assert_eq!(config.get(options::PARALLELISM_DEFAULT), 4);
        assert_eq!(config.get(options::BATCH_SIZE), 20);
        assert_eq!(config.get(options::BUFFER_TIMEOUT), Duration::from_millis(5));
    }

    #[test]
    fn mistakes_name_where_they_are() {
        for (yaml, properties, argument, expected) in [
            (
                "paralelism.default: 2",
                "",
                "",
                "in conf/config.yaml: unknown configuration key 'paralelism.default'; did you mean 'parallelism.default'?",
            ),
            ("", "nonsense", "", "'nonsense' in FLOTT_PROPERTIES is not of the form 'key: value'"),
            (
                "",
                "",
                "-Dparallelism.default=two",
                "on the command line: configuration key 'parallelism.default' is 'two': expected a whole number",
            ),
            (
                "parallelism: [1]",
                "",
                "",
                "in conf/config.yaml: the value of 'parallelism' is not text, a number or true or false",
            ),
        ] {
            assert_eq!(load(yaml, properties, &[argument]).unwrap_err().report(), expected);
        }
    }
}
