//! What is read of each source: as configured for it, as the program says, as configured for all.

use crate::program::{Program, ProgramSource};
use flott_api::{SourceSpan, StartingPosition, Until};
use flott_types::{
    ConfigOption, ConfigValue, Configuration, Error, NodeId, Result, SourceBoundedMode, SourceStartupMode,
    options,
};
use std::collections::BTreeMap;

/// The spans of the sources that are not read whole.
pub(crate) fn source_spans(
    config: &Configuration,
    program: &Program,
) -> Result<BTreeMap<NodeId, SourceSpan>> {
    let uid = |source: &ProgramSource| program.graph.uid(source.node).0;
    if let Some((unknown, key)) =
        config.source_uids().find(|(wanted, _)| !program.sources.iter().any(|source| uid(source) == *wanted))
    {
        let known: Vec<_> = program.sources.iter().map(uid).collect();
        return Err(Error::user(format!(
            "configuration key '{key}' is about a source with uid '{unknown}', which the job does not have; its sources: {}",
            known.join(", ")
        )));
    }
    if config.contains(options::SOURCE_STARTUP_POSITIONS) {
        let key = options::SOURCE_STARTUP_POSITIONS.key;
        let message = format!(
            "configuration key '{key}' is for one source: write source.UID.scan.startup.specific-positions"
        );
        return Err(Error::user(message));
    }
    let mut spans = BTreeMap::new();
    for source in &program.sources {
        let uid = uid(source);
        let of_all = Keys { config, uid: None };
        let of_one = Keys { config, uid: Some(&uid) };
        let in_source = |error: Error| error.at(|| format!("source '{uid}'"));
        let start = match (of_one.start().map_err(in_source)?, source.start.clone()) {
            (Some(start), _) | (None, Some(start)) => start,
            (None, None) => of_all.start()?.unwrap_or_default(),
        };
        let until = match (of_one.until().map_err(in_source)?, source.until) {
            (Some(until), _) | (None, Some(until)) => until,
            (None, None) => of_all.until()?.unwrap_or_default(),
        };
        let lateness = of_one.get(options::SOURCE_BOUNDED_LATENESS);
        let lateness = lateness.or_else(|| of_all.get(options::SOURCE_BOUNDED_LATENESS));
        let span =
            SourceSpan { start, until, allowed_lateness: lateness.unwrap_or(program.allowed_lateness) };
        check(&span).map_err(in_source)?;
        if !span.is_everything() {
            spans.insert(source.node, span);
        }
    }
    Ok(spans)
}

/// The keys of all sources, or those of one.
struct Keys<'a> {
    config: &'a Configuration,
    uid: Option<&'a str>,
}

impl Keys<'_> {
    fn get<T: ConfigValue>(&self, option: ConfigOption<Option<T>>) -> Option<T> {
        match self.uid {
            Some(uid) => self.config.get_of_source(option, uid).flatten(),
            None => self.config.get(option),
        }
    }

    fn start(&self) -> Result<Option<StartingPosition>> {
        let at = self.get(options::SOURCE_STARTUP_TIMESTAMP).map(|at| at.0);
        let positions = self.get(options::SOURCE_STARTUP_POSITIONS);
        let start = match (self.get(options::SOURCE_STARTUP_MODE), at, positions) {
            (None, None, None) => return Ok(None),
            (Some(SourceStartupMode::Earliest), None, None) => StartingPosition::Earliest,
            (None | Some(SourceStartupMode::Timestamp), Some(at), None) => StartingPosition::Timestamp(at),
            (None | Some(SourceStartupMode::SpecificPositions), None, Some(text)) => {
                StartingPosition::of_json(&text)?
            }
            _ => {
                return Err(Error::user(format!(
                    "'{}' does not fit '{}' and specific-positions: set one of the two, and no other mode",
                    options::SOURCE_STARTUP_MODE.key,
                    options::SOURCE_STARTUP_TIMESTAMP.key
                )));
            }
        };
        Ok(Some(start))
    }

    fn until(&self) -> Result<Option<Until>> {
        let at = self.get(options::SOURCE_BOUNDED_TIMESTAMP).map(|at| at.0);
        match (self.get(options::SOURCE_BOUNDED_MODE), at) {
            (None, None) => Ok(None),
            (Some(SourceBoundedMode::Unbounded), None) => Ok(Some(Until::End)),
            (None | Some(SourceBoundedMode::Timestamp), Some(at)) => Ok(Some(Until::Timestamp(at))),
            (Some(_), _) => Err(Error::user(format!(
                "'{}' does not fit '{}': mode timestamp needs the other key, unbounded goes without it",
                options::SOURCE_BOUNDED_MODE.key,
                options::SOURCE_BOUNDED_TIMESTAMP.key
            ))),
        }
    }
}

fn check(span: &SourceSpan) -> Result<()> {
    match (span.start_ms(), span.until_ms()) {
        (Some(from), Some(until)) if from >= until => Err(Error::user(format!(
            "a source is read from {} until {}, which is not later",
            flott_types::TimestampText(from),
            flott_types::TimestampText(until)
        ))),
        _ => Ok(()),
    }
}
