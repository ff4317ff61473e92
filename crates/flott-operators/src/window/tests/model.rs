//! What windows do, said as plainly as possible: the reference for the operators.

use super::support::{Element, Fired, Rec, Step};
use crate::test_support::Feed;
use flott_api::windowing::TimeWindow;
use flott_types::Timestamp;

/// The windows of the model; lengths in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Windows {
    Sliding {
        size: i64,
        slide: i64,
        offset: i64,
    },
    /// The gap is `gap` and, if dynamic, a few more that depend on the value.
    Session {
        gap: i64,
        is_dynamic: bool,
    },
}

pub(crate) fn dynamic_gap(gap: i64, record: &Rec) -> i64 {
    gap + i64::from(record.value % 3) * 4
}

#[derive(Clone, Debug)]
struct Open {
    key: char,
    window: TimeWindow,
    values: Vec<u32>,
}

/// Windows with the event-time trigger.
#[derive(Debug)]
pub(crate) struct Model {
    windows: Windows,
    lateness: i64,
    watermark: Timestamp,
    open: Vec<Open>,
    step: Step,
}

impl Model {
    pub(crate) fn new(windows: Windows, lateness: i64) -> Self {
        Self { windows, lateness, watermark: Timestamp::MIN, open: Vec::new(), step: Step::new() }
    }

    fn fire(&mut self, idx: usize) {
        let Open { key, window, values } = &self.open[idx];
        let fired = Fired::new(*key, window, values.clone());
        self.step.push(format!("+{fired:?}@{}", window.end - 1));
    }

    fn assigned(&self, record: &Rec, timestamp: Timestamp) -> Vec<TimeWindow> {
        match self.windows {
            Windows::Sliding { size, slide, offset } => (timestamp - size + 1..=timestamp)
                .filter(|start| (start - offset).rem_euclid(slide) == 0)
                .map(|start| TimeWindow { start, end: start + size })
                .collect(),
            Windows::Session { gap, is_dynamic } => {
                let gap = if is_dynamic { dynamic_gap(gap, record) } else { gap };
                vec![TimeWindow { start: timestamp, end: timestamp + gap }]
            }
        }
    }

    fn is_gone(&self, window: &TimeWindow) -> bool {
        (window.end - 1).saturating_add(self.lateness) <= self.watermark
    }

    fn record(&mut self, record: Rec, timestamp: Timestamp) {
        let is_session = matches!(self.windows, Windows::Session { .. });
        let mut is_late = false;
        let mut is_taken = false;
        for mut window in self.assigned(&record, timestamp) {
            let mut values = vec![record.value];
            if is_session {
                let touches = |open: &Open| {
                    open.key == record.key
                        && open.window.start <= window.end
                        && window.start <= open.window.end
                };
                let (parts, others): (Vec<_>, Vec<_>) = self.open.clone().into_iter().partition(touches);
                for part in parts {
                    window.start = window.start.min(part.window.start);
                    window.end = window.end.max(part.window.end);
                    values.extend(part.values);
                }
                self.open = others;
            } else if let Some(idx) =
                self.open.iter().position(|open| open.key == record.key && open.window == window)
            {
                values.extend(self.open.remove(idx).values);
            }
            if self.is_gone(&window) {
                is_late = true;
                continue;
            }
            is_taken = true;
            self.open.push(Open { key: record.key, window, values });
            if window.end - 1 <= self.watermark {
                self.fire(self.open.len() - 1);
            }
        }
        if is_late && !is_taken {
            self.step.push(format!("late:+{record:?}@{timestamp}"));
        }
    }

    fn watermark(&mut self, watermark: Timestamp) {
        let before = self.watermark;
        self.watermark = watermark;
        for idx in 0..self.open.len() {
            let last = self.open[idx].window.end - 1;
            if before < last && last <= watermark {
                self.fire(idx);
            }
        }
        let open = std::mem::take(&mut self.open);
        self.open = open.into_iter().filter(|open| !self.is_gone(&open.window)).collect();
    }

    /// What the operator has to put out, step by step.
    pub(crate) fn run(mut self, elements: &[Element]) -> Vec<Step> {
        // The wall clock starts.
        let mut steps = vec![Step::new()];
        for element in elements {
            match element {
                Feed::Batch1(records) => {
                    records.iter().for_each(|(record, timestamp)| self.record(*record, *timestamp))
                }
                Feed::Watermark(watermark) => {
                    self.watermark(*watermark);
                    self.step.sort();
                    steps.push(std::mem::take(&mut self.step));
                }
                other => panic!("{other:?}"),
            }
        }
        self.step.sort();
        steps.push(self.step);
        steps
    }
}

pub(crate) mod strategies {
    //! Random programs.

    use super::{Element, Feed, Rec, Windows};
    use flott_types::Timestamp;
    use proptest::prelude::*;

    /// Records around a watermark that advances, some of them behind it, and the end of input.
    pub(crate) fn elements() -> impl Strategy<Value = Vec<Element>> {
        let record = (0..3_u8, -40..60_i64).prop_map(|(key, ahead)| (Some(key), ahead));
        let watermark = prop_oneof![9 => 0..15_i64, 1 => 100..400_i64].prop_map(|advance| (None, advance));
        proptest::collection::vec(prop_oneof![3 => record, 1 => watermark], 1..60).prop_map(|choices| {
            let mut now: Timestamp = -60;
            let mut elements = Vec::<Element>::new();
            for (value, (key, distance)) in (0..).zip(choices) {
                match key {
                    Some(key) => {
                        let record = (Rec { key: char::from(b'a' + key), value }, now + distance);
                        match elements.last_mut() {
                            Some(Feed::Batch1(records)) => records.push(record),
                            _ => elements.push(Feed::Batch1(vec![record])),
                        }
                    }
                    None => {
                        now += distance;
                        elements.push(Feed::Watermark(now));
                    }
                }
            }
            elements.push(Feed::Watermark(Timestamp::MAX));
            elements
        })
    }

    pub(crate) fn tumbling() -> impl Strategy<Value = Windows> {
        (1..30_i64, -40..40_i64).prop_map(|(size, offset)| Windows::Sliding { size, slide: size, offset })
    }

    pub(crate) fn sliding() -> impl Strategy<Value = Windows> {
        (1..30_i64, 1..30_i64, -40..40_i64).prop_map(|(size, slide, offset)| Windows::Sliding {
            size,
            slide,
            offset,
        })
    }

    pub(crate) fn sessions() -> impl Strategy<Value = Windows> {
        (1..20_i64, any::<bool>()).prop_map(|(gap, is_dynamic)| Windows::Session { gap, is_dynamic })
    }
}
