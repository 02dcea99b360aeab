//! What clients read before they ask for objects: versions, groups, resources, and a minimal OpenAPI.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{kinds::Kind, state::State};

impl State {
    /// The answer for a path that is about the server itself; `None` when it is not.
    pub(crate) fn discover(&self, path: &str) -> Option<Value> {
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        match steps.as_slice() {
            ["version"] => Some(json!({
                "major": "1", "minor": self.minor.to_string(), "gitVersion": format!("v1.{}.0", self.minor),
                "platform": "linux/amd64",
            })),
            ["api"] => Some(json!({
                "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
            })),
            ["apis"] => {
                let groups: Vec<Value> = self.groups().iter().map(|group| self.group(group)).collect();
                Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            ["api", version] => self.resources("", version),
            ["apis", group] if self.groups().contains(*group) => {
                let mut answer = self.group(group);
                answer["kind"] = "APIGroup".into();
                answer["apiVersion"] = "v1".into();
                Some(answer)
            }
            ["apis", group, version] => self.resources(group, version),
            ["openapi", "v3"] => {
                let paths = self.group_versions().into_iter().map(|(group, version)| {
                    let path = root(&group, &version);
                    (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}))
                });
                Some(json!({"paths": paths.collect::<BTreeMap<_, _>>()}))
            }
            ["openapi", "v3", "api", version] => Some(self.openapi("", version)),
            ["openapi", "v3", "apis", group, version] => Some(self.openapi(group, version)),
            ["openapi", "v2"] => Some(json!({
                "swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": {}, "definitions": {},
            })),
            _ => None,
        }
    }

    fn shown(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter().map(AsRef::as_ref).filter(|kind| !kind.hidden)
    }

    fn groups(&self) -> BTreeSet<String> {
        self.shown().map(|kind| kind.group.clone()).filter(|group| !group.is_empty()).collect()
    }

    fn group_versions(&self) -> BTreeSet<(String, String)> {
        let all = |kind: &Kind| kind.versions.iter().map(|it| (kind.group.clone(), it.clone())).collect::<Vec<_>>();
        self.shown().flat_map(all).collect()
    }

    fn group(&self, group: &str) -> Value {
        let mut versions: Vec<&String> = Vec::new();
        for kind in self.shown().filter(|kind| kind.group == group) {
            versions.extend(kind.versions.iter());
        }
        let mut seen = BTreeSet::new();
        versions.retain(|version| seen.insert(*version));
        let entry = |version: &&String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let entries: Vec<Value> = versions.iter().map(entry).collect();
        json!({"name": group, "versions": entries, "preferredVersion": entries.first()})
    }

    fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let here = |kind: &&Kind| kind.group == group && kind.versions.iter().any(|it| it == version);
        let resources: Vec<Value> = self.shown().filter(here).flat_map(Kind::described).collect();
        if resources.is_empty() {
            return None;
        }
        let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}))
    }

    /// Enough for kubectl to see that fields are validated by the server (here: that it need not do it itself).
    fn openapi(&self, group: &str, version: &str) -> Value {
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        let here = |kind: &&Kind| kind.group == group && kind.versions.iter().any(|it| it == version);
        let paths = self.shown().filter(here).filter(|kind| !kind.review).map(|kind| {
            let space = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
            let path = format!("/{}/{space}{}/{{name}}", root(group, version), kind.plural);
            let patch = json!({
                "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation"), parameter("force")],
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.kind},
                "responses": {},
            });
            (path, json!({"patch": patch}))
        });
        let paths: BTreeMap<String, Value> = paths.collect();
        json!({
            "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": format!("v1.{}.0", self.minor)},
            "paths": paths, "components": {"schemas": {}},
        })
    }
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
