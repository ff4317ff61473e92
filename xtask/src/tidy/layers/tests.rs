//! A made-up workspace for each rule, and the rules that the table itself keeps.

use serde_json::json;

use super::*;

/// Problems of a workspace given as `crate: dependency dependency`; `dev:` before a name makes it a dev-dependency.
fn problems(workspace: &[&str]) -> Vec<String> {
    let packages: Vec<_> = workspace
        .iter()
        .map(|line| {
            let (name, deps) = line.split_once(':').unwrap();
            let deps = deps.split_whitespace().map(|dep| match dep.strip_prefix("dev:") {
                Some(dep) => json!({ "name": dep, "kind": "dev" }),
                None => json!({ "name": dep, "kind": null }),
            });
            json!({
                "name": name,
                "manifest_path": format!("/repo/crates/{name}/Cargo.toml"),
                "dependencies": deps.collect::<Vec<_>>(),
                "targets": [],
                "features": {},
            })
        })
        .collect();
    let metadata = json!({ "packages": packages, "workspace_root": "/repo" });
    let metadata = Metadata::parse(metadata.to_string().as_bytes()).unwrap();
    check(&metadata, &[]).into_iter().map(|problem| problem.what).collect()
}

#[test]
fn layers_in_order_are_fine() {
    let workspace = [
        "flott-types: serde",
        "flott-env: flott-types",
        "flott-state: flott-types",
        "flott-api: flott-types flott-env flott-state",
        "flott-graph: flott-types",
        "flott-operators: flott-state flott-env",
        "flott-runtime: flott-operators flott-graph",
        "flott-coordinator: flott-graph flott-env",
        "flott-datastream: flott-runtime flott-coordinator",
        "flott-format-json: flott-api",
        "flott-connector-kafka: flott-api flott-format-json",
        "flott-connector-sql: flott-api",
        "flott-connector-sqlite: flott-api flott-connector-sql",
        "flott: flott-datastream flott-connector-kafka",
    ];
    assert_eq!(problems(&workspace), Vec::<String>::new());
}

#[test]
fn contracts_do_not_see_the_data_plane() {
    let found = problems(&["flott-api: flott-exchange", "flott-exchange:"]);
    assert_eq!(found, ["flott-api (Contracts) must not depend on flott-exchange (DataPlane)"]);
}

#[test]
fn graph_sees_the_vocabulary_only() {
    let found = problems(&["flott-graph: flott-api flott-types", "flott-api:", "flott-types:"]);
    assert_eq!(found, ["flott-graph (Contracts) must not depend on flott-api (Contracts)"]);
}

#[test]
fn data_and_control_plane_do_not_see_each_other() {
    let found = problems(&["flott-runtime: flott-coordinator", "flott-coordinator: flott-runtime"]);
    assert_eq!(
        found,
        [
            "flott-runtime (DataPlane) must not depend on flott-coordinator (ControlPlane)",
            "flott-coordinator (ControlPlane) must not depend on flott-runtime (DataPlane)",
        ]
    );
}

#[test]
fn operators_do_not_see_the_runtime() {
    let found = problems(&["flott-operators: flott-runtime", "flott-runtime:"]);
    assert_eq!(found, ["flott-operators (DataPlane) must not depend on flott-runtime (DataPlane)"]);
}

#[test]
fn connector_does_not_see_the_builder_or_another_connector() {
    let found = problems(&[
        "flott-connector-kafka: flott-datastream flott-connector-files",
        "flott-connector-files:",
        "flott-datastream:",
    ]);
    assert_eq!(
        found,
        [
            "flott-connector-kafka (Connector) must not depend on flott-datastream (Library)",
            "flott-connector-kafka (Connector) must not depend on flott-connector-files (Connector)",
        ]
    );
}

#[test]
fn dev_dependency_is_exempt() {
    assert_eq!(problems(&["flott-types: dev:flott-testkit", "flott-testkit:"]), Vec::<String>::new());
}

#[test]
fn crate_without_a_layer_is_reported_once() {
    let found = problems(&["flott-common: flott-types", "flott-types: flott-common"]);
    assert_eq!(found, ["crate flott-common is in no layer"]);
}

#[test]
fn key_is_found_in_the_manifest() {
    let manifest = "[dependencies]\nflott-api-extra = \"1\"\nflott-api.workspace = true\n";
    assert_eq!(line_of_key(manifest, "flott-api"), 3);
    assert_eq!(line_of_key(manifest, "flott-sql"), 1);
}

/// The names that `layer` is allowed to use, by the table.
fn users_of(name: &str) -> Vec<&'static str> {
    let used = Row::of(name).unwrap();
    TABLE.iter().filter(|row| row.may_use(used, used.name)).map(|row| row.name).collect()
}

#[test]
fn only_faces_and_tests_see_connectors_sql_and_cli() {
    let above =
        ["flott", "flott-cli", "flott-testkit", "flott-sim", "flott-bench", "flott-fuzz", "flott-chaos"];
    assert_eq!(users_of("flott-connector-*"), above);
    assert_eq!(users_of("flott-sql"), above);
    assert_eq!(users_of("flott-cli"), Vec::<&str>::new());
}

#[test]
fn table_is_sorted_bottom_up() {
    let position = |name: &str| TABLE.iter().position(|row| row.name == name).unwrap();
    for row in TABLE {
        for user in users_of(row.name) {
            assert!(position(row.name) < position(user), "{user} stands above {}", row.name);
        }
    }
}
