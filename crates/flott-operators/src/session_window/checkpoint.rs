//! Snapshots of sessions: each is an entry with its key.
//!
//! In what has changed, a key comes with all its sessions, one behind the other in one section: they take the place of those in sections
//! before. What was removed are keys.

use super::sessions::Session;
use super::{Entries, SessionWindowOperator, Sessions, insert};
use crate::window::{SESSIONS, WindowFunction, check_group, check_kind, restore_section, snapshot_entries};
use flott_api::AggregateFunction;
use flott_api::windowing::{TimeWindow, WindowAssigner};
use flott_state::{BegunSnapshot, GroupLayout, OperatorSnapshot, SectionKind, decode, encode_into};
use flott_types::{Data, Key, KeyGroup, Result, key_hash};

impl<K, T, O, A, S, F, R> SessionWindowOperator<K, T, O, A, S, F, R>
where
    K: Key,
    T: Data,
    O: Send,
    A: WindowAssigner<T>,
    S: Fn(&T) -> K + Send,
    F: AggregateFunction<T>,
    R: WindowFunction<K, A::Window, F::Output, O>,
{
    pub(super) fn take_snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        snapshot.max_parallelism = max_parallelism;
        let mut entries = Vec::new();
        self.table.for_each(|key, open| {
            entries.extend(open.iter().map(|session| (key.clone(), session.clone())));
            Ok(())
        })?;
        let entries = entries.iter().map(|(key, session)| (key, session));
        let entries = snapshot_entries(SESSIONS, max_parallelism, entries)?;
        snapshot.keyed.insert(SESSIONS.to_owned(), entries);
        self.schemas.snapshot(snapshot)?;
        self.event_time.snapshot(snapshot)
    }

    pub(super) fn begin(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        begun.snapshot.max_parallelism = max_parallelism;
        self.schemas.snapshot(&mut begun.snapshot)?;
        self.event_time.snapshot(&mut begun.snapshot)?;
        let stream = begun.stream(SESSIONS, max_parallelism, GroupLayout::Counted);
        self.table.begin_snapshot(&stream, |key, open: &Sessions<F::Accumulator>, bytes| {
            let mut n_sessions = 0;
            for session in open.iter() {
                encode_into(SESSIONS, &(key, session), bytes)?;
                n_sessions += 1;
            }
            Ok(n_sessions)
        })
    }

    pub(super) fn take_over(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        check_kind(SESSIONS, snapshot)?;
        self.schemas.restore(snapshot)?;
        let reader = self.schemas.bind::<Entries<K, F::Accumulator>>(SESSIONS)?;
        self.event_time.restore(snapshot)?;
        let max_parallelism = self.placement.max_parallelism();
        let mut shortest_ms = i64::MAX;
        for (group, bytes) in snapshot.keyed.get(SESSIONS).into_iter().flatten() {
            bytes.for_each_change(|kind, section| {
                if kind == SectionKind::Removed {
                    return self.forget(*group, section);
                }
                let mut last = None;
                restore_section(
                    SESSIONS,
                    max_parallelism,
                    *group,
                    section,
                    &reader,
                    |hash, key: K, session: Session<F::Accumulator>| {
                        if kind == SectionKind::Changed && last.as_ref() != Some(&key) {
                            self.table.load_mut(hash, &key)?.remove(hash, &key);
                        }
                        last = Some(key.clone());
                        let TimeWindow { start, end } = session.window;
                        shortest_ms = shortest_ms.min(end.saturating_sub(start));
                        insert(self.table.load_mut(hash, &key)?.slot(hash, &key), key, session);
                        Ok(())
                    },
                )
            })?;
        }
        self.restore_agenda(shortest_ms)
    }

    /// Enters the keys that are left once all sections have been read, so that none has an entry for a session that a later section replaced.
    /// A session with a single record is as long as its gap, so the shortest one says about how long gaps are.
    fn restore_agenda(&mut self, gap_ms: i64) -> Result<()> {
        let Self { table, agenda, .. } = self;
        table.for_each(|key, open| {
            agenda.insert(open.look_again_at, key_hash(key), gap_ms);
            Ok(())
        })
    }

    fn forget(&mut self, group: KeyGroup, section: &[u8]) -> Result<()> {
        decode::<Vec<K>>(SESSIONS, section)?.iter().try_for_each(|key| {
            let hash = check_group(SESSIONS, self.placement.max_parallelism(), group, key)?;
            self.table.load_mut(hash, key)?.remove(hash, key);
            Ok(())
        })
    }
}
