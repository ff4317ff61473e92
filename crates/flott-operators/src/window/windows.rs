//! The open windows of one key.

use flott_api::windowing::{TriggerState, Window};
use serde::{Deserialize, Serialize};

/// What is known of one window of one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenWindow<W, S> {
    pub(super) window: W,
    /// `None` before the first record and after a purge.
    pub(super) contents: Option<S>,
    pub(super) trigger: TriggerState,
}

impl<W, S> OpenWindow<W, S> {
    pub(super) fn new(window: W) -> Self {
        Self { window, contents: None, trigger: TriggerState::default() }
    }

    /// Whether it differs from a window that was never seen.
    pub(super) fn is_blank(&self) -> bool {
        self.contents.is_none() && self.trigger.is_empty()
    }
}

/// The windows of one key, in their order. There are few at a time, and records mostly belong to the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenWindows<W, S> {
    windows: Vec<OpenWindow<W, S>>,
}

impl<W, S> Default for OpenWindows<W, S> {
    fn default() -> Self {
        Self { windows: Vec::new() }
    }
}

impl<W: Window, S> OpenWindows<W, S> {
    pub(super) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn search(&self, window: &W) -> Result<usize, usize> {
        match self.windows.last() {
            Some(last) if last.window < *window => Err(self.windows.len()),
            Some(last) if last.window == *window => Ok(self.windows.len() - 1),
            _ => self.windows.binary_search_by(|open| open.window.cmp(window)),
        }
    }

    /// The place of a window, which is opened if it was not open.
    pub(super) fn open(&mut self, window: &W) -> Opened {
        match self.search(window) {
            Ok(idx) => Opened::Known(idx),
            Err(idx) => {
                self.windows.insert(idx, OpenWindow::new(window.clone()));
                Opened::New(idx)
            }
        }
    }

    pub(super) fn find(&self, window: &W) -> Option<usize> {
        self.search(window).ok()
    }

    pub(super) fn get_mut(&mut self, idx: usize) -> &mut OpenWindow<W, S> {
        &mut self.windows[idx]
    }

    pub(super) fn remove(&mut self, idx: usize) -> OpenWindow<W, S> {
        self.windows.remove(idx)
    }

    pub(super) fn insert(&mut self, open: OpenWindow<W, S>) -> usize {
        let idx = self.search(&open.window).unwrap_or_else(|idx| idx);
        self.windows.insert(idx, open);
        idx
    }

    /// The open windows that `window` overlaps or touches: how many, and what they and it make together.
    pub(super) fn merged_with(&self, window: &W) -> (usize, W) {
        let touched = self.windows.iter().filter(|open| open.window.intersects(window));
        touched.fold((0, window.clone()), |(n, cover), open| (n + 1, cover.cover(&open.window)))
    }

    /// Takes out the windows that lie in `cover`, in their order.
    pub(super) fn take_touching(&mut self, cover: &W) -> Vec<OpenWindow<W, S>> {
        self.windows.extract_if(.., |open| open.window.intersects(cover)).collect()
    }
}

/// Where a window is among the windows of its key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opened {
    New(usize),
    Known(usize),
}

impl Opened {
    pub(super) fn idx(self) -> usize {
        match self {
            Self::New(idx) | Self::Known(idx) => idx,
        }
    }
}
