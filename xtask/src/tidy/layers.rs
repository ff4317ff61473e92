//! The layers: which crate may depend on which (docs/style.md, "Crates"; docs/design/0001-datastream-crate.md).
//!
//! Only normal dependencies count; a test may use what it likes.

use std::path::PathBuf;

use super::Problem;
use crate::metadata::{Metadata, Package};
use Layer::{Connector, Contracts, ControlPlane, DataPlane, Dev, Face, Format, Library, Seam, Vocabulary};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Vocabulary,
    Seam,
    Contracts,
    DataPlane,
    ControlPlane,
    Format,
    Connector,
    Library,
    Face,
    Dev,
}

/// One row of the table: a crate, its layer, the layers it sees whole and single crates beyond them.
struct Row {
    name: &'static str,
    layer: Layer,
    sees: &'static [Layer],
    and: &'static [&'static str],
}

const fn row(name: &'static str, layer: Layer, sees: &'static [Layer], and: &'static [&'static str]) -> Row {
    Row { name, layer, sees, and }
}

/// What contracts stand on.
const BASE: &[Layer] = &[Vocabulary, Seam];
/// What everything that runs stands on.
const CORE: &[Layer] = &[Vocabulary, Seam, Contracts];
/// The whole engine; data and control plane meet above it, never inside it.
const ENGINE: &[Layer] = &[Vocabulary, Seam, Contracts, DataPlane, ControlPlane];
/// Everything that a user can reach through the face.
const ALL: &[Layer] = &[Vocabulary, Seam, Contracts, DataPlane, ControlPlane, Format, Connector, Library];

/// Bottom up. A trailing `*` stands for any ending. A new crate is one line here.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row("flott-types", Vocabulary, &[], &[]),
    row("flott-schema", Vocabulary, &[], &[]),
    row("flott-env", Seam, &[Vocabulary], &[]),
    row("flott-state", Contracts, BASE, &[]),
    row("flott-api", Contracts, BASE, &["flott-state"]),
    row("flott-graph", Contracts, &[Vocabulary], &[]),
    row("flott-checkpoint", Contracts, BASE, &["flott-state", "flott-graph"]),
    row("flott-exchange", DataPlane, CORE, &[]),
    row("flott-operators", DataPlane, CORE, &["flott-exchange"]),
    row("flott-runtime", DataPlane, CORE, &["flott-exchange", "flott-operators"]),
    row("flott-coordinator", ControlPlane, CORE, &[]),
    row("flott-schema-registry", Format, CORE, &[]),
    row("flott-format-arrow", Format, CORE, &[]),
    row("flott-format-*", Format, CORE, &["flott-schema-registry", "flott-format-arrow"]),
    row("flott-scram", Format, &[], &[]),
    row("flott-objectstore", Connector, CORE, &[]),
    row("flott-connector-sql", Connector, CORE, &[]),
    row("flott-connector-*", Connector, CORE, &["flott-format-*", "flott-scram", "flott-connector-sql"]),
    row("flott-datastream", Library, ENGINE, &["flott-objectstore"]),
    row("flott-sql", Library, ENGINE, &["flott-datastream"]),
    row("flott-cep", Library, ENGINE, &["flott-datastream"]),
    row("flott-nexmark", Library, ENGINE, &["flott-datastream", "flott-connector-nexmark"]),
    row("flott", Face, ALL, &[]),
    row("flott-cli", Face, ALL, &["flott"]),
    row("flott-services", Dev, &[], &[]),
    row("flott-testkit", Dev, ALL, &["flott"]),
    row("flott-sim", Dev, ALL, &["flott", "flott-testkit"]),
    row("flott-bench", Dev, ALL, &["flott", "flott-testkit", "flott-services"]),
    row("flott-fuzz", Dev, ALL, &["flott-testkit"]),
    row("flott-chaos", Dev, ALL, &["flott", "flott-services"]),
    row("xtask", Dev, &[], &[]),
];

impl Row {
    fn of(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|row| matches(row.name, name))
    }

    fn may_use(&self, other: &Self, name: &str) -> bool {
        self.sees.contains(&other.layer) || self.and.iter().any(|pattern| matches(pattern, name))
    }

    /// Every pattern of the table that this crate may depend on.
    fn permitted(&self) -> String {
        let names = TABLE.iter().filter(|other| self.may_use(other, other.name)).map(|other| other.name);
        let names: Vec<&str> = names.collect();
        if names.is_empty() { "no crate of the workspace".to_owned() } else { names.join(", ") }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern == name || pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start))
}

pub(super) fn check(metadata: &Metadata, files: &[(PathBuf, String)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let path = metadata.relative(&package.manifest_path).to_path_buf();
        let manifest = files.iter().find(|(file, _)| *file == path).map_or("", |(_, text)| text);
        for (what, remedy, key) in broken_rules(metadata, package) {
            problems.push(Problem { path: path.clone(), line: line_of_key(manifest, &key), what, remedy });
        }
    }
    problems
}

/// What, remedy, and the manifest's key that is to blame.
fn broken_rules(metadata: &Metadata, package: &Package) -> Vec<(String, String, String)> {
    let name = &package.name;
    let Some(row) = Row::of(name) else {
        let what = format!("crate {name} is in no layer");
        let remedy = "add a line to the table in xtask/src/tidy/layers.rs and say why in docs/design".into();
        return vec![(what, remedy, "name".into())];
    };
    let is_member = |dep: &str| metadata.packages.iter().any(|member| member.name == dep);
    let normal = package.dependencies.iter().filter(|dep| dep.kind.is_none() && is_member(&dep.name));
    // A dependency that is in no layer is reported where it is defined.
    let known = normal.filter_map(|dep| Row::of(&dep.name).map(|used| (used, &dep.name)));
    let broken = known.filter(|(used, dep)| !row.may_use(used, dep));
    let describe = |(used, dep): (&Row, &String)| {
        let what = format!("{name} ({:?}) must not depend on {dep} ({:?})", row.layer, used.layer);
        let remedy = format!("move the shared part down a layer; {name} may use: {}", row.permitted());
        (what, remedy, dep.clone())
    };
    broken.map(describe).collect()
}

/// The line of a manifest that starts with `key`, else its first.
fn line_of_key(manifest: &str, key: &str) -> usize {
    let is_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    manifest.lines().position(is_key).map_or(1, |idx| idx + 1)
}

#[cfg(test)]
mod tests;
