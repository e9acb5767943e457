//! The dependency graph as cargo resolves it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};
use serde_json::Value;

/// Which packages of the workspace `from` may depend on: `None` is all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrows {
    pub(crate) from: &'static str,
    pub(crate) to: Option<&'static [&'static str]>,
}

/// Crates that must not be linked into `from`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreachable {
    pub(crate) from: &'static str,
    pub(crate) crates: &'static [&'static str],
}

/// Packages by cargo's id, and the edges that are not for tests alone.
#[derive(Debug)]
pub(crate) struct Graph {
    names: BTreeMap<String, String>,
    members: BTreeSet<String>,
    edges: BTreeMap<String, Vec<Edge>>,
}

#[derive(Debug)]
struct Edge {
    to: String,
    /// Linked into the dependent; otherwise it serves its build script.
    is_linked: bool,
}

impl Graph {
    /// Reads what `cargo metadata --format-version 1` says.
    pub(crate) fn from_metadata(metadata: &Value) -> Result<Self> {
        let list = |value: &Value, what: &'static str| -> Result<Vec<Value>> {
            Ok(value.as_array().context(what)?.clone())
        };
        let text = |value: &Value, what: &'static str| -> Result<String> {
            Ok(value.as_str().context(what)?.to_owned())
        };
        let mut graph = Self {
            names: BTreeMap::new(),
            members: BTreeSet::new(),
            edges: BTreeMap::new(),
        };
        for package in list(&metadata["packages"], "packages")? {
            let name = text(&package["name"], "a package's name")?;
            graph
                .names
                .insert(text(&package["id"], "a package's id")?, name);
        }
        for member in list(&metadata["workspace_members"], "workspace_members")? {
            graph.members.insert(text(&member, "a member")?);
        }
        for node in list(&metadata["resolve"]["nodes"], "resolve.nodes")? {
            let mut edges = Vec::new();
            for dep in list(&node["deps"], "a node's deps")? {
                let kinds = list(&dep["dep_kinds"], "a dependency's kinds")?;
                let is_linked = kinds.iter().any(|kind| kind["kind"].is_null());
                let is_for_build = kinds.iter().any(|kind| kind["kind"] == "build");
                if is_linked || is_for_build {
                    edges.push(Edge {
                        to: text(&dep["pkg"], "a dependency's pkg")?,
                        is_linked,
                    });
                }
            }
            graph.edges.insert(text(&node["id"], "a node's id")?, edges);
        }
        Ok(graph)
    }

    /// What breaks the rules, each with the path that does.
    pub(crate) fn violations(&self, arrows: &[Arrows], unreachable: &[Unreachable]) -> Vec<String> {
        let mut violations = self.forbidden_arrows(arrows);
        for rule in unreachable {
            match self.member(rule.from) {
                Some(start) => violations.extend(self.reached(start, rule.crates)),
                None => violations.push(format!("there is no package {}", rule.from)),
            }
        }
        violations
    }

    fn forbidden_arrows(&self, arrows: &[Arrows]) -> Vec<String> {
        let mut violations = Vec::new();
        for member in &self.members {
            let from = self.name(member);
            let Some(rule) = arrows.iter().find(|rule| rule.from == from) else {
                violations.push(format!("{from}: no rule says what it may depend on"));
                continue;
            };
            for edge in self
                .edges_of(member)
                .iter()
                .filter(|edge| self.members.contains(&edge.to))
            {
                let to = self.name(&edge.to);
                if rule.to.is_some_and(|allowed| !allowed.contains(&to)) {
                    violations.push(format!("{from} -> {to}: the drawing has no such arrow"));
                }
            }
        }
        violations
    }

    /// The forbidden crates that are linked into `start`, each by a shortest path.
    fn reached(&self, start: &str, forbidden: &[&str]) -> Vec<String> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        let mut violations = Vec::new();
        while let Some(at) = queue.pop_front() {
            if forbidden.contains(&self.name(at)) {
                violations.push(self.path(&came_from, at));
                // What lies behind it is its own doing.
                continue;
            }
            for edge in self.edges_of(at).iter().filter(|edge| edge.is_linked) {
                if edge.to != start && !came_from.contains_key(edge.to.as_str()) {
                    came_from.insert(&edge.to, at);
                    queue.push_back(&edge.to);
                }
            }
        }
        violations
    }

    fn path(&self, came_from: &BTreeMap<&str, &str>, end: &str) -> String {
        let mut names = vec![self.name(end)];
        let mut at = end;
        while let Some(before) = came_from.get(at) {
            names.push(self.name(before));
            at = before;
        }
        names.reverse();
        format!("{}: must not be reachable", names.join(" -> "))
    }

    fn member(&self, name: &str) -> Option<&str> {
        self.members
            .iter()
            .map(String::as_str)
            .find(|id| self.name(id) == name)
    }

    fn name(&self, id: &str) -> &str {
        self.names.get(id).map_or("?", String::as_str)
    }

    fn edges_of(&self, id: &str) -> &[Edge] {
        self.edges.get(id).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{ARROWS, UNREACHABLE};
    use serde_json::json;

    const MEMBERS: [&str; 9] = [
        "pki",
        "hsm",
        "proto",
        "ca-root",
        "ca-server",
        "ca-client",
        "demo",
        "tests",
        "xtask",
    ];

    /// Metadata with these edges: from, to, and the kind as cargo writes it.
    fn graph(edges: &[(&str, &str, Option<&str>)]) -> Graph {
        let mut names: BTreeSet<&str> = MEMBERS.into();
        names.extend(edges.iter().flat_map(|(from, to, _)| [*from, *to]));
        let deps = |name: &str| -> Vec<Value> {
            edges
                .iter()
                .filter(|(from, ..)| *from == name)
                .map(|(_, to, kind)| json!({ "pkg": format!("id:{to}"), "dep_kinds": [{ "kind": kind }] }))
                .collect()
        };
        let packages: Vec<Value> = names
            .iter()
            .map(|name| json!({ "id": format!("id:{name}"), "name": name }))
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| json!({ "id": format!("id:{name}"), "deps": deps(name) }))
            .collect();
        let members: Vec<String> = MEMBERS.iter().map(|name| format!("id:{name}")).collect();
        let metadata = json!({
            "packages": packages,
            "workspace_members": members,
            "resolve": { "nodes": nodes },
        });
        Graph::from_metadata(&metadata).unwrap()
    }

    fn violations(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        graph(edges).violations(ARROWS, UNREACHABLE)
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        let drawn = [
            ("hsm", "pki", None),
            ("ca-root", "hsm", None),
            ("ca-root", "pki", None),
            ("ca-server", "hsm", None),
            ("ca-server", "proto", None),
            ("ca-server", "tokio", None),
            ("ca-client", "pki", None),
            ("tests", "ca-server", None),
            ("demo", "ca-root", None),
        ];
        assert_eq!(violations(&drawn), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_named() {
        for (from, to) in [
            ("pki", "hsm"),
            ("hsm", "proto"),
            ("ca-client", "ca-server"),
            ("ca-root", "proto"),
        ] {
            for kind in [None, Some("build")] {
                assert_eq!(
                    violations(&[(from, to, kind)]),
                    [format!("{from} -> {to}: the drawing has no such arrow")]
                );
            }
        }
    }

    #[test]
    fn a_network_crate_behind_others_is_named_with_its_path() {
        let edges = [
            ("ca-root", "hsm", None),
            ("hsm", "cryptoki", None),
            ("cryptoki", "tokio", None),
        ];
        assert_eq!(
            violations(&edges),
            [
                "hsm -> cryptoki -> tokio: must not be reachable",
                "ca-root -> hsm -> cryptoki -> tokio: must not be reachable"
            ]
        );
    }

    #[test]
    fn tests_and_build_scripts_may_link_what_they_like() {
        let edges = [
            ("pki", "tokio", Some("dev")),
            ("pki", "hsm", Some("dev")),
            ("hsm", "tokio", Some("build")),
        ];
        assert_eq!(violations(&edges), Vec::<String>::new());
    }

    #[test]
    fn a_package_without_a_rule_is_named() {
        let mut graph = graph(&[]);
        graph.names.insert("id:new".into(), "new".into());
        graph.members.insert("id:new".into());
        let violations = graph.violations(ARROWS, UNREACHABLE);
        assert_eq!(violations, ["new: no rule says what it may depend on"]);
        assert_eq!(graph.violations(&[], &[]).len(), MEMBERS.len() + 1);
        let absent = [Unreachable {
            from: "gone",
            crates: &[],
        }];
        assert!(
            graph
                .violations(ARROWS, &absent)
                .contains(&"there is no package gone".to_owned())
        );
    }
}
