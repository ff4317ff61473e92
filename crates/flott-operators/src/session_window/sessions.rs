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

/// So many of the last sessions are looked at before the others are searched.
const LOOKED_AT: usize = 4;

/// Open sessions in the order of time, one at least; none touches another. Records mostly go to the last one, the others
/// wait for the watermark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sessions<A> {
    last: Session<A>,
    /// The sessions before the last one. Once there has been one, the list stays, for there will be others.
    earlier: Option<Box<Earlier<A>>>,
    /// The time of the key's entry in the agenda: no session ends earlier.
    pub(super) look_again_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
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
        let touches_last = self.last.window.intersects(&window);
        if touches_last {
            self.last.extend(window);
        }
        let Some(earlier) = &mut self.earlier else { return touches_last.then_some(&mut self.last) };
        let sessions = &mut earlier.sessions;
        // Sessions are apart from each other, so their starts and their ends are both in order.
        let to = if touches_last {
            sessions.len()
        } else {
            first_after(sessions, |session| session.start > window.end)
        };
        let from = first_after(sessions, |session| session.end >= window.start);
        if touches_last {
            // The last one takes the others in, from the one next to it back, so that each merge is of neighbours.
            while sessions.len() > from
                && let Some(mut session) = sessions.pop_back()
            {
                std::mem::swap(&mut session.accumulator, &mut self.last.accumulator);
                merge(&mut self.last.accumulator, &session.accumulator);
                self.last.extend(session.window);
            }
            return Some(&mut self.last);
        }
        if from == to {
            return None;
        }
        let absorbed: Vec<_> =
            if to - from == 1 { Vec::new() } else { sessions.drain(from + 1..to).collect() };
        let merged = sessions.get_mut(from)?;
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
            let place = first_after(&earlier.sessions, |known| *known >= session.window);
            earlier.sessions.insert(place, session);
        }
    }

    /// Takes the first session if it is not the only one.
    pub(super) fn take_first(&mut self) -> Option<Session<A>> {
        self.earlier.as_mut()?.sessions.pop_front()
    }

    /// The only session.
    pub(super) fn into_last(self) -> Session<A> {
        self.last
    }
}

/// The index of the first session that `is_after` says yes to, as to all that follow it. Mostly it is one of the last.
#[inline]
fn first_after<A>(sessions: &VecDeque<Session<A>>, is_after: impl Fn(&TimeWindow) -> bool) -> usize {
    let n_last =
        sessions.iter().rev().take(LOOKED_AT).take_while(|session| is_after(&session.window)).count();
    if n_last < LOOKED_AT {
        return sessions.len() - n_last;
    }
    sessions.partition_point(|session| !is_after(&session.window))
}
