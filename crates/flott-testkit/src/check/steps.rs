//! The steps of a check: batches of them, and their text.

use crate::element::Element;
use crate::subtask::Records;
use crate::subtasks::{Control, Input, Step};
use crate::text::print_debug;
use flott_types::Timestamp;
use std::convert::Infallible;
use std::fmt;

/// The same steps with adjacent records of an input in batches of at most `size`.
pub(super) fn rebatch<A: Clone, B: Clone>(steps: &[Step<A, B>], size: usize) -> Vec<Step<A, B>> {
    let mut rebatched: Vec<Step<A, B>> = Vec::new();
    for step in steps {
        match (rebatched.last_mut(), step) {
            (Some(Step::Records(Records::First(batch))), Step::Records(Records::First(records)))
                if batch.len() + records.len() <= size =>
            {
                batch.extend(records.iter().cloned());
            }
            (Some(Step::Records(Records::Second(batch))), Step::Records(Records::Second(records)))
                if batch.len() + records.len() <= size =>
            {
                batch.extend(records.iter().cloned());
            }
            _ => rebatched.push(step.clone()),
        }
    }
    rebatched
}

pub(super) fn print_step<A: fmt::Debug, B: fmt::Debug>(step: &Step<A, B>) -> String {
    match step {
        Step::Records(Records::First(records)) => print_records(records),
        Step::Records(Records::Second(records)) => format!("2:{}", print_records(records)),
        Step::Control(input, control) => {
            let element = match control {
                Control::Watermark(watermark) => Element::<Infallible>::Watermark(*watermark),
                Control::Status(status) => Element::Status(*status),
                Control::EndOfData => Element::EndOfData,
            };
            match input {
                None => element.to_string(),
                Some(Input::First) => format!("1:{element}"),
                Some(Input::Second) => format!("2:{element}"),
            }
        }
        Step::ProcessingTime(at) => Element::<Infallible>::ProcessingTime(*at).to_string(),
        Step::Barrier(checkpoint_id) => Element::<Infallible>::Barrier(*checkpoint_id).to_string(),
    }
}

fn print_records<T: fmt::Debug>(records: &[(T, Timestamp)]) -> String {
    let records: Vec<_> = records.iter().map(|(record, timestamp)| print_debug(record, *timestamp)).collect();
    records.join(" ")
}
