//! The open sessions of one key.

use flott_api::windowing::{TimeWindow, Window};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A session and what was aggregated in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session<A> {
    pub(super) window: TimeWindow,
    pub(super) accumulator: A,
}

impl<A> Session<A> {
    #[inline]
    fn extend(&mut self, window: TimeWindow) {
        self.window = self.window.cover(&window);
    }
}

/// Open sessions in the order of time, one at least; none touches another. Records mostly go to the last one, the others
/// wait for the watermark.
#[derive(Debug)]
pub(super) struct Sessions<A> {
    last: Session<A>,
    /// The sessions before the last one. Once there has been one, the list stays, for there will be others.
    earlier: Option<Box<Earlier<A>>>,
    /// The time of the key's entry in the agenda: no session ends earlier.
    pub(super) look_again_at: Timestamp,
}

#[derive(Debug)]
struct Earlier<A> {
    sessions: VecDeque<Session<A>>,
}

impl<A> Sessions<A> {
    pub(super) fn new(session: Session<A>) -> Self {
        Self { look_again_at: session.window.end, last: session, earlier: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<A>> {
        self.earlier.iter().flat_map(|earlier| &earlier.sessions).chain([&self.last])
    }

    /// The session that ends first.
    #[inline]
    pub(super) fn first(&self) -> &Session<A> {
        self.earlier.as_ref().and_then(|earlier| earlier.sessions.front()).unwrap_or(&self.last)
    }

    /// The last session, extended by `window`, if `window` touches it and cannot touch another, because it does not begin
    /// before it.
    #[inline]
    pub(super) fn extend_last(&mut self, window: TimeWindow) -> Option<&mut Session<A>> {
        let last = self.last.window;
        if last.start <= window.start && window.intersects(&last) {
            self.last.window.end = last.end.max(window.end);
            return Some(&mut self.last);
        }
        None
    }

    /// Makes one session of those that `window` touches and of `window`; `None` if it touches none.
    pub(super) fn merge_touching(
        &mut self,
        window: TimeWindow,
        mut merge: impl FnMut(&mut A, &A),
    ) -> Option<&mut Session<A>> {
        if self.last.window.end < window.start {
            return None;
        }
        let is_touched = |session: &Session<A>| session.window.intersects(&window);
        let touches_last = is_touched(&self.last);
        let Some(earlier) = &mut self.earlier else {
            return touches_last.then(|| {
                self.last.extend(window);
                &mut self.last
            });
        };
        let sessions = &mut earlier.sessions;
        // Sessions are apart from each other, so their starts and their ends are both in order.
        let from = sessions.partition_point(|session| session.window.end < window.start);
        let n_touched = sessions.range(from..).take_while(|session| is_touched(session)).count();
        if touches_last {
            // The last one takes the others in, from the one next to it back, so that each merge is of neighbours.
            self.last.extend(window);
            for mut session in sessions.drain(from..from + n_touched).rev() {
                std::mem::swap(&mut session.accumulator, &mut self.last.accumulator);
                merge(&mut self.last.accumulator, &session.accumulator);
                self.last.extend(session.window);
            }
            return Some(&mut self.last);
        }
        let absorbed: Vec<_> = sessions.drain((from + 1).min(from + n_touched)..from + n_touched).collect();
        let merged = if n_touched == 0 { None } else { sessions.get_mut(from) }?;
        merged.extend(window);
        for later in absorbed {
            merged.extend(later.window);
            merge(&mut merged.accumulator, &later.accumulator);
        }
        Some(merged)
    }

    /// Adds a session that touches no other.
    pub(super) fn insert(&mut self, mut session: Session<A>) {
        let earlier = self.earlier.get_or_insert_with(|| Box::new(Earlier { sessions: VecDeque::new() }));
        if self.last.window < session.window {
            std::mem::swap(&mut self.last, &mut session);
            earlier.sessions.push_back(session);
        } else {
            let place = earlier.sessions.partition_point(|known| known.window < session.window);
            earlier.sessions.insert(place, session);
        }
    }

    /// Removes the first session if it is not the only one; says whether it did.
    pub(super) fn remove_first(&mut self) -> bool {
        self.earlier.as_mut().is_some_and(|earlier| earlier.sessions.pop_front().is_some())
    }
}
