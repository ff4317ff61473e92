//! Rules on single files: module documents, banned text, where tests live, no file that nothing compiles.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Problem;
use crate::metadata::Metadata;

/// A text that a kind of file must not contain, and what to do instead.
///
/// The texts are split so that this file does not break its own rules.
struct Ban {
    text: &'static str,
    remedy: &'static str,
}

const RUST_BANS: &[Ban] = &[
    Ban { text: concat!("todo", "!"), remedy: "write it, or leave the item out" },
    Ban {
        text: concat!("unimplemented", "!"),
        remedy: "write it, or return an error that says what is missing",
    },
    Ban { text: concat!("dbg", "!"), remedy: "remove it" },
    Ban { text: concat!("#[", "ignore"), remedy: "make the test fast and sure, or delete it" },
    Ban {
        text: concat!("should", "_panic"),
        remedy: "assert on the error, or catch the panic and check its message",
    },
];

/// Folders of somebody's machine; they mean nothing to the next reader.
const MACHINE_FOLDERS: &[&str] = &["/tmp/", "/work/", "/root/", "/home/"];

pub(super) fn is_checked(path: &Path) -> bool {
    is_rust(path) || is_for_everyone(path)
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Files that are read and run on any machine.
fn is_for_everyone(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md" || extension == "toml")
        || path.starts_with(".ci")
}

pub(super) fn check(metadata: &Metadata, files: &[(PathBuf, String)]) -> Vec<Problem> {
    let targets = || metadata.packages.iter().flat_map(|package| &package.targets);
    let roots: BTreeSet<&Path> = targets().map(|target| metadata.relative(&target.src_path)).collect();
    let test_roots = targets().filter(|target| target.kind.iter().any(|kind| kind == "test"));

    let mut problems = Vec::new();
    for root in test_roots {
        problems.extend(check_test_root(metadata.relative(&root.src_path)));
    }
    for (path, text) in files {
        if is_rust(path) {
            problems.extend(check_module_doc(path, text));
            problems.extend(check_bans(path, text));
            // The binaries for libFuzzer are of a workspace of their own, which the metadata does not know.
            if !path.starts_with("fuzz") {
                problems.extend(check_is_compiled(path, &roots, files));
            }
        }
        if is_for_everyone(path) {
            problems.extend(check_machine_paths(path, text));
        }
    }
    problems
}

fn problem(path: &Path, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { path: path.to_path_buf(), line, what: what.into(), remedy: remedy.into() }
}

fn check_test_root(path: &Path) -> Option<Problem> {
    if path.ends_with("tests/it/main.rs") {
        return None;
    }
    let remedy = "move it to tests/it/ and list it in tests/it/main.rs: one binary a crate links once";
    Some(problem(path, 1, "a second integration test binary", remedy))
}

fn check_module_doc(path: &Path, text: &str) -> Option<Problem> {
    // The tests of a module are described by the module.
    let is_tests =
        path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    if is_tests || text.trim_start().starts_with("//!") {
        return None;
    }
    Some(problem(path, 1, "no module document", "start the file with a `//!` line that says what it is for"))
}

fn check_bans(path: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (idx, line) in text.lines().enumerate() {
        for ban in RUST_BANS {
            if contains_word(line, ban.text, |before| !before.is_alphanumeric() && before != '_') {
                problems.push(problem(path, idx + 1, format!("`{}` is banned", ban.text), ban.remedy));
            }
        }
    }
    problems
}

/// Each file is the root of a target or is named by `mod` in its parent; rustc ignores any other without a word.
fn check_is_compiled(path: &Path, roots: &BTreeSet<&Path>, files: &[(PathBuf, String)]) -> Option<Problem> {
    if roots.contains(path) {
        return None;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else {
        return Some(problem(path, 1, "file name is not UTF-8", "rename it"));
    };
    if name == "mod" {
        return Some(problem(
            path,
            1,
            "mod.rs is not used here",
            "name it after its folder: foo.rs beside foo/",
        ));
    }
    let is_parent = |file: &Path| {
        file == folder.with_extension("rs") || (roots.contains(file) && file.parent() == Some(folder))
    };
    let item = format!("mod {name};");
    let lists = |text: &str| {
        text.lines().any(|line| contains_word(line, &item, char::is_whitespace) && !line.contains("//"))
    };
    if files.iter().any(|(file, text)| is_parent(file) && lists(text)) {
        return None;
    }
    Some(problem(
        path,
        1,
        "no target compiles this file",
        format!("write `{item}` in its parent, or delete it"),
    ))
}

fn check_machine_paths(path: &Path, text: &str) -> Vec<Problem> {
    // Part of a longer path, such as docs/work/, is fine.
    let starts_path = |before: char| !before.is_alphanumeric() && !"_-.~*})".contains(before);
    let mut problems = Vec::new();
    for (idx, line) in text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            if contains_word(line, folder, starts_path) {
                let what = format!("{folder} is a folder of one machine");
                problems.push(problem(path, idx + 1, what, "use a path relative to the repository"));
            }
        }
    }
    problems
}

/// Whether `text` is in `line` at its start or after a character that `may_precede` it.
fn contains_word(line: &str, text: &str, may_precede: impl Fn(char) -> bool) -> bool {
    line.match_indices(text).any(|(at, _)| line[..at].chars().next_back().is_none_or(&may_precede))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(problems: impl IntoIterator<Item = Problem>) -> Vec<String> {
        problems.into_iter().map(|problem| format!("{}: {}", problem.line, problem.what)).collect()
    }

    #[test]
    fn file_without_a_document_is_reported() {
        assert_eq!(whats(check_module_doc(Path::new("a.rs"), "\n//! Says what it is for.\n")), [""; 0]);
        assert_eq!(
            whats(check_module_doc(Path::new("a.rs"), "// Not for readers.\n")),
            ["1: no module document"]
        );
        assert_eq!(whats(check_module_doc(Path::new("a.rs"), "")), ["1: no module document"]);
    }

    #[test]
    fn banned_text_is_found_at_its_line() {
        let text = concat!(
            "fn f() {\n    ",
            "todo",
            "!()\n}\n",
            "my_",
            "todo",
            "!();\n",
            "#[",
            "ignore = \"slow\"]"
        );
        let found = whats(check_bans(Path::new("a.rs"), text));
        assert_eq!(found, [concat!("2: `todo", "!` is banned"), concat!("5: `#[", "ignore` is banned")]);
    }

    #[test]
    fn one_integration_binary_a_crate() {
        assert!(check_test_root(Path::new("crates/a/tests/it/main.rs")).is_none());
        assert!(check_test_root(Path::new("crates/a/tests/smoke.rs")).is_some());
    }

    #[test]
    fn file_that_its_parent_does_not_list_is_reported() {
        let root = Path::new("a/tests/it/main.rs");
        let roots = BTreeSet::from([root]);
        let files = [
            (
                root.to_path_buf(),
                "//! Root.\nmod listed;\n#[cfg(unix)] pub mod other;\n// mod left;\n".to_owned(),
            ),
            (PathBuf::from("a/tests/it/listed.rs"), "mod inner;\n".to_owned()),
        ];
        let compiled = |path: &str| check_is_compiled(Path::new(path), &roots, &files).is_none();
        assert!(compiled("a/tests/it/main.rs"));
        assert!(compiled("a/tests/it/listed.rs"));
        assert!(compiled("a/tests/it/other.rs"));
        assert!(compiled("a/tests/it/listed/inner.rs"));
        assert!(!compiled("a/tests/it/left.rs"));
        assert!(!compiled("a/tests/it/listed/outer.rs"));
        assert!(!compiled("a/tests/it/listed/mod.rs"));
    }

    #[test]
    fn only_absolute_paths_are_of_a_machine() {
        let found = whats(check_machine_paths(
            Path::new("a.md"),
            "docs/work/a and ./tmp/b are fine\nfile:///tmp/c\nsee `/home/me/d`\n",
        ));
        assert_eq!(found, ["2: /tmp/ is a folder of one machine", "3: /home/ is a folder of one machine"]);
    }
}
