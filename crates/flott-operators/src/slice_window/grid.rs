//! Where windows and slices begin and end.

use flott_api::windowing::Slicing;
use flott_types::{Timestamp, Watermark};

/// Evenly spaced windows, cut into slices of equal length: each window is a run of whole slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SliceGrid {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
    slice_ms: i64,
}

const fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The largest `offset + k * step` that is not greater than `time`.
fn floor(time: i64, offset: i64, step: i64) -> i64 {
    let into = time.rem_euclid(step) - offset.rem_euclid(step);
    time.saturating_sub(if into < 0 { into + step } else { into })
}

impl SliceGrid {
    pub(super) fn new(slicing: Slicing) -> Self {
        let Slicing { size_ms, slide_ms, offset_ms } = slicing;
        assert!(size_ms >= 1 && slide_ms >= 1, "windows of {size_ms} ms every {slide_ms} ms");
        Self { size_ms, slide_ms, offset_ms, slice_ms: gcd(size_ms, slide_ms) }
    }

    /// Whether each slice is a window.
    pub(super) fn is_tumbling(&self) -> bool {
        self.size_ms == self.slide_ms
    }

    pub(super) fn slice_ms(&self) -> i64 {
        self.slice_ms
    }

    pub(super) fn slide_ms(&self) -> i64 {
        self.slide_ms
    }

    pub(super) fn window_start(&self, window_end: Timestamp) -> Timestamp {
        window_end.saturating_sub(self.size_ms)
    }

    /// The start of the slice around `timestamp`.
    pub(super) fn slice_start(&self, timestamp: Timestamp) -> Timestamp {
        floor(timestamp, self.offset_ms, self.slice_ms)
    }

    /// The end of the last window that holds the slice that starts at `slice_start`; `None` if the slice lies between
    /// windows.
    pub(super) fn last_window_end(&self, slice_start: Timestamp) -> Option<Timestamp> {
        let end = floor(slice_start, self.offset_ms, self.slide_ms).saturating_add(self.size_ms);
        (end > slice_start).then_some(end)
    }

    /// Whether `end` is the end of a slice of which a window consists.
    pub(super) fn has_slice_until(&self, end: Timestamp) -> bool {
        let start = self.slice_start(end.saturating_sub(1));
        start.saturating_add(self.slice_ms) == end && self.last_window_end(start).is_some()
    }

    /// The first window end at or after `time`.
    pub(super) fn first_window_end_from(&self, time: Timestamp) -> Timestamp {
        let at_or_before = self.last_window_end_until(time);
        if at_or_before == time { time } else { at_or_before.saturating_add(self.slide_ms) }
    }

    /// The last window end at or before `time`.
    fn last_window_end_until(&self, time: Timestamp) -> Timestamp {
        floor(
            time,
            self.offset_ms.rem_euclid(self.slide_ms) + self.size_ms.rem_euclid(self.slide_ms),
            self.slide_ms,
        )
    }

    /// The start of the window behind the one that ends at `window_end`: nobody needs slices that end by then any more.
    pub(super) fn next_window_start(&self, window_end: Timestamp) -> Timestamp {
        match window_end {
            Timestamp::MIN | Timestamp::MAX => window_end,
            end => end.saturating_add(self.slide_ms.saturating_sub(self.size_ms)),
        }
    }

    /// The end of the last window that is complete at `watermark`.
    pub(super) fn complete_until(&self, watermark: Watermark) -> Timestamp {
        match watermark {
            Watermark::MIN => Timestamp::MIN,
            Watermark::MAX => Timestamp::MAX,
            Watermark(timestamp) => self.last_window_end_until(timestamp + 1),
        }
    }
}
