//! Copies a savepoint to another place, in another store if need be.

use crate::location::Location;
use crate::manifest::MANIFEST_NAME;
use crate::owner::{failed, put_or_find};
use flott_env::Env;
use flott_types::{Error, ErrorKind, Result};

/// Copies the complete savepoint `from` into the directory `dir` under its own name, its manifest last: without that it is none. Returns
/// where the copy is. Blocks on IO; done again after an error, it goes on.
///
/// # Errors
/// [`ErrorKind::Retry`] if a store refuses or there is another savepoint of that name.
pub fn copy_savepoint(env: &Env, from: &Location, dir: &Location) -> Result<Location> {
    let to = dir.join(&from.name().unwrap_or_default());
    let (source, target) = (from.open(env)?, to.open(env)?);
    let mut names = source.list("").map_err(|error| failed(&format!("list '{from}'"), error))?;
    names.sort_by_key(|name| name == MANIFEST_NAME);
    for name in names {
        let read = source.get(&name, u64::MAX);
        let bytes = read.map_err(|error| failed(&format!("read '{}'", from.join(&name)), error))?;
        if !put_or_find(target.as_ref(), &name, &bytes, bytes.len() as u64)? {
            let message = format!("'{}' exists with another content", to.join(&name));
            return Err(Error::new(ErrorKind::Retry, message));
        }
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::sim::Simulation;

    #[test]
    fn a_copy_has_all_files_and_its_manifest_last() {
        let env = Simulation::new(1).env();
        let from = Location::parse("/s/savepoint-1").expect("a path");
        let store = from.open(&env).expect("local");
        for name in ["_metadata", "0-0.g1", "0-1.g1"] {
            store.put_if_absent(name, name.as_bytes()).expect("written");
        }
        let elsewhere = Location::parse("/elsewhere").expect("a path");
        for _ in 0..2 {
            let to = copy_savepoint(&env, &from, &elsewhere).expect("copied");
            assert_eq!(to.to_string(), "/elsewhere/savepoint-1");
            let copy = to.open(&env).expect("local");
            assert_eq!(copy.list("").expect("listed"), ["0-0.g1", "0-1.g1", "_metadata"]);
            assert_eq!(copy.get("0-1.g1", 100).expect("read"), b"0-1.g1");
        }
        store.delete("0-0.g1").expect("deleted");
        store.put_if_absent("0-0.g1", b"another").expect("written");
        copy_savepoint(&env, &from, &elsewhere).expect_err("another savepoint has the name");
    }
}
