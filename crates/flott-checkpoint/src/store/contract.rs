//! What every [`ObjectStore`] must do, as a check that is run against each of them.

use super::ObjectStore;
use flott_env::Env;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Writers that want the same object at the same time.
const RACERS: usize = 48;

/// Checks the contract of a store in a directory of it that nobody else uses; says what does not hold.
///
/// # Errors
/// The first promise that the store breaks, with what was seen.
pub fn check_store_contract(env: &Env, store: &Arc<dyn ObjectStore>, dir: &str) -> Result<(), String> {
    let check = Check { store: store.as_ref(), dir };
    check.missing()?;
    check.one_object()?;
    check.lengths()?;
    check.writers()?;
    check.ranges()?;
    check.listing()?;
    check.copies()?;
    check.deletion()?;
    race(env, store, dir)
}

struct Check<'a> {
    store: &'a dyn ObjectStore,
    dir: &'a str,
}

fn broken(what: &str, seen: impl fmt::Debug) -> String {
    format!("{what}: {seen:?}")
}

fn expect(is_kept: bool, what: &str, seen: impl fmt::Debug) -> Result<(), String> {
    if is_kept { Ok(()) } else { Err(broken(what, seen)) }
}

impl Check<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let put = self.store.put_if_absent(&self.path(name), bytes);
        put.map_err(|error| broken(&format!("a put of '{name}' fails"), error))
    }

    fn missing(&self) -> Result<(), String> {
        let got = self.store.get(&self.path("missing"), 10);
        let is_named = matches!(&got, Err(error) if error.kind() == io::ErrorKind::NotFound);
        expect(is_named, "a missing object is NotFound, never empty", got)?;
        let seen = self.store.metadata(&self.path("missing"));
        let is_named = matches!(&seen, Err(error) if error.kind() == io::ErrorKind::NotFound);
        expect(is_named, "a missing object has no metadata", seen)?;
        let listed = self.store.list(&self.path("nothing-here"));
        expect(matches!(&listed, Ok(names) if names.is_empty()), "a missing directory is empty", listed)
    }

    fn one_object(&self) -> Result<(), String> {
        self.put("one", b"first")?;
        let again = self.store.put_if_absent(&self.path("one"), b"second");
        let is_refused = matches!(&again, Err(error) if error.kind() == io::ErrorKind::AlreadyExists);
        expect(is_refused, "a second put is refused as AlreadyExists", again)?;
        let got = self.store.get(&self.path("one"), 5);
        expect(matches!(&got, Ok(bytes) if bytes == b"first"), "the first put stays", got)?;
        let seen = self.store.metadata(&self.path("one"));
        expect(matches!(&seen, Ok(seen) if seen.len == 5 && !seen.is_dir), "its length is known", seen)
    }

    fn lengths(&self) -> Result<(), String> {
        // Around what implementations read or write at once; the last needs several of each.
        for len in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 7] {
            let name = format!("length-{len}");
            let bytes: Vec<u8> = (0..len).map(|at: u64| (at % 251) as u8).collect();
            self.put(&name, &bytes)?;
            let got = self.store.get(&self.path(&name), len);
            let got = got.map_err(|error| broken(&format!("an object of {len} bytes is not read"), error))?;
            expect(got == bytes, "an object is read as it was written", (len, got.len()))?;
            if len > 0 {
                let got = self.store.get(&self.path(&name), len - 1).map(|bytes| bytes.len());
                let is_refused = matches!(&got, Err(error) if error.kind() == io::ErrorKind::FileTooLarge);
                expect(is_refused, "an object that is too long is FileTooLarge", got)?;
            }
        }
        Ok(())
    }

    /// Objects that are written in pieces are as others, and nothing before they are published.
    fn writers(&self) -> Result<(), String> {
        // Less and more than implementations send at once.
        for (at, piece_lens) in [vec![], vec![5], vec![1 << 20, 7], vec![3 << 20; 9]].into_iter().enumerate()
        {
            let path = self.path(&format!("written-{at}"));
            let pieces: Vec<_> = (0..).zip(&piece_lens).map(|(piece, len)| vec![piece; *len]).collect();
            let write = || {
                let mut writer = self.store.create(&path)?;
                pieces.iter().try_for_each(|piece| writer.write(piece)).map(|()| writer)
            };
            let begun = || write().map_err(|error| broken("an object cannot be written in pieces", error));
            let (first, second, third) = (begun()?, begun()?, begun()?);
            let seen = self.store.metadata(&path).map_err(|error| error.kind());
            expect(seen == Err(io::ErrorKind::NotFound), "it is not seen before it is published", seen)?;
            drop(first);
            second.publish().map_err(|error| broken("it is published", error))?;
            let again = third.publish().map_err(|error| error.kind());
            let is_refused = again == Err(io::ErrorKind::AlreadyExists);
            expect(is_refused, "a second one is refused as AlreadyExists", again)?;
            let whole = pieces.concat();
            let got = self.store.get(&path, whole.len() as u64);
            let got = got.map_err(|error| broken("what was written in pieces is not read", error))?;
            expect(got == whole, "it is read as it was written", (whole.len(), got.len()))?;
        }
        let names = self.store.list(self.dir).map_err(|error| broken("a list fails", error))?;
        let is_clean = names.iter().all(|name| !name.starts_with(super::TEMP_PREFIX));
        expect(is_clean, "nothing is left of what was not published", names)
    }

    fn ranges(&self) -> Result<(), String> {
        let whole: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        self.put("ranges", &whole)?;
        let len = whole.len() as u64;
        for (offset, n) in [(0, 0), (0, 12), (7, 1), (1, 2_500_000), (len - 16, 16), (0, len), (len, 0)] {
            let got = self.store.get_range(&self.path("ranges"), offset, n);
            let got = got.map_err(|error| broken("a range is not read", (offset, n, error)))?;
            let expected = whole.get(offset as usize..(offset + n) as usize).unwrap_or_default();
            expect(got == expected, "a range has the bytes that were written", (offset, n, got.len()))?;
        }
        for (offset, n) in [(len, 1), (len - 1, 2), (0, len + 1), (len + 5, 1)] {
            let got = self.store.get_range(&self.path("ranges"), offset, n);
            let got = got.map(|bytes| bytes.len()).map_err(|error| error.kind());
            let is_named = got == Err(io::ErrorKind::UnexpectedEof);
            expect(is_named, "a range beyond the end is UnexpectedEof", (offset, n, got))?;
        }
        let got = self.store.get_range(&self.path("missing"), 0, 1).map_err(|error| error.kind());
        expect(got == Err(io::ErrorKind::NotFound), "a range of nothing is NotFound", got)
    }

    fn listing(&self) -> Result<(), String> {
        for name in ["list/b", "list/a", "list/c/d", "list/c/e", "list-2/f"] {
            self.put(name, b"x")?;
            let (dir, name) = name.rsplit_once('/').unwrap_or(("", name));
            let listed = self.store.list(&self.path(dir));
            let is_listed = matches!(&listed, Ok(names) if names.iter().any(|listed| listed == name));
            expect(is_listed, "a list after a put sees it", listed)?;
        }
        let listed = self.store.list(&self.path("list"));
        let is_sorted = matches!(&listed, Ok(names) if names == &["a", "b", "c"]);
        expect(is_sorted, "a list has the names in the directory, sorted, once each", listed)?;
        let listed = self.store.list_with_metadata(&self.path("list"));
        let known = listed.as_ref().map(|found| {
            found.iter().map(|(name, it)| (name.as_str(), it.len, it.is_dir)).collect::<Vec<_>>()
        });
        let is_known =
            matches!(&known, Ok(found) if found == &[("a", 1, false), ("b", 1, false), ("c", 0, true)]);
        expect(is_known, "what is listed is known", listed)
    }

    fn copies(&self) -> Result<(), String> {
        self.put("from", b"first")?;
        self.put("taken", b"second")?;
        let copy = |from: &str, to: &str| self.store.copy_if_absent(&self.path(from), &self.path(to));
        let copied = copy("from", "copies/to");
        expect(copied.is_ok(), "an object is copied", copied)?;
        let got = self.store.get(&self.path("copies/to"), 5);
        expect(matches!(&got, Ok(bytes) if bytes == b"first"), "a copy has the content", got)?;
        let again = copy("from", "taken").map_err(|error| error.kind());
        expect(again == Err(io::ErrorKind::AlreadyExists), "a copy replaces nothing", again)?;
        let missing = copy("missing", "copies/other").map_err(|error| error.kind());
        expect(missing == Err(io::ErrorKind::NotFound), "what is missing is not copied", missing)?;
        let deleted = self.store.delete(&self.path("from"));
        let got = self.store.get(&self.path("copies/to"), 5);
        let stays = deleted.is_ok() && matches!(&got, Ok(bytes) if bytes == b"first");
        expect(stays, "a copy stays when what it was made of is deleted", got)
    }

    fn deletion(&self) -> Result<(), String> {
        self.put("gone", b"x")?;
        for _ in 0..2 {
            let deleted = self.store.delete(&self.path("gone"));
            expect(deleted.is_ok(), "a delete works, of what is gone, too", deleted)?;
        }
        let synced = self.store.sync(self.dir).and_then(|()| self.store.remove_empty_dir(self.dir));
        expect(synced.is_ok(), "a directory that is not empty stays, and that is no error", synced)?;
        let got = self.store.get(&self.path("gone"), 10);
        let is_gone = matches!(&got, Err(error) if error.kind() == io::ErrorKind::NotFound);
        expect(is_gone, "what was deleted is gone", got)?;
        self.put("gone", b"again")
    }
}

/// Many writers, one object: one is told that it made it, all others that it exists, and what is there is of the one.
fn race(env: &Env, store: &Arc<dyn ObjectStore>, dir: &str) -> Result<(), String> {
    let path = format!("{dir}/race");
    let (sender, mut outcomes) = flott_env::sync::mpsc::channel(RACERS);
    let tasks: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (store, path, sender) = (Arc::clone(store), path.clone(), sender.clone());
            env.spawn_subtask("racer", async move {
                let put = store.put_if_absent(&path, format!("racer {racer:02}").as_bytes());
                sender.send((racer, put)).await.ok();
            })
        })
        .collect();
    drop(sender);
    let outcomes = env.block_on(async move {
        let mut seen = Vec::new();
        while let Some(outcome) = outcomes.recv().await {
            seen.push(outcome);
        }
        for task in tasks {
            task.await.ok();
        }
        seen
    });
    expect(outcomes.len() == RACERS, "every racer answers", outcomes.len())?;
    let won: Vec<_> = outcomes.iter().filter(|(_, put)| put.is_ok()).map(|(racer, _)| *racer).collect();
    let [winner] = won.as_slice() else { return Err(broken("of many puts one succeeds", outcomes)) };
    let lost = outcomes.iter().filter_map(|(_, put)| put.as_ref().err());
    for error in lost {
        expect(error.kind() == io::ErrorKind::AlreadyExists, "the others see AlreadyExists", error)?;
    }
    let got = store.get(&path, 100);
    let is_winners = matches!(&got, Ok(bytes) if bytes == format!("racer {winner:02}").as_bytes());
    expect(is_winners, "the object is the winner's", (winner, got))
}
