//! `cargo xtask tidy`: rules of docs/style.md that no compiler lint knows.
//!
//! [`layers`] holds the table of crates, [`files`] the rules on single files. Both are functions from what was read to
//! a list of problems; only this file touches the work tree.

mod files;
mod layers;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::metadata::Metadata;

/// A broken rule: where, what, and what to do about it.
#[derive(Debug)]
struct Problem {
    path: PathBuf,
    line: usize,
    what: String,
    remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    remedy: {}", self.path.display(), self.line, self.what, self.remedy)
    }
}

/// Checks the work tree and prints every problem.
pub(crate) fn run() -> Result<()> {
    let metadata = Metadata::load()?;
    let files = read_files(&metadata)?;
    let mut problems = layers::check(&metadata, &files);
    problems.extend(files::check(&metadata, &files));

    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("tidy found {} problems", problems.len());
    }
    println!("tidy: {} crates, {} files", metadata.packages.len(), files.len());
    Ok(())
}

/// The text files that git has or would add, by path relative to the workspace.
fn read_files(metadata: &Metadata) -> Result<Vec<(PathBuf, String)>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&metadata.workspace_root)
        .output()
        .context("could not run git")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));

    let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files = Vec::new();
    for path in listing.split_terminator('\0').map(PathBuf::from).filter(|path| files::is_checked(path)) {
        let full = metadata.workspace_root.join(&path);
        // A file that is deleted but not yet committed is still listed.
        if full.exists() {
            let text = std::fs::read_to_string(&full)
                .with_context(|| format!("could not read {}", path.display()))?;
            files.push((path, text));
        }
    }
    Ok(files)
}
