//! The path that a policy sees, the one that a route sees and the one that the application gets are the same string.

use serde_json::{Value, json};

use super::{
    stage::{Stage, routes},
    table::{Place, Row, Set, Verdict},
};

/// Tries these rows under policies and routes that tell which path they see.
pub(super) async fn play(stage: &Stage, shown: &[&Row]) -> Vec<String> {
    let mut paths: Vec<&str> = shown.iter().filter_map(|row| row.seen.as_deref()).collect();
    paths.sort_unstable();
    paths.dedup();
    let rows: Vec<Row> = shown.iter().map(|row| (*row).clone()).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let number = |row: &Row| paths.iter().position(|path| row.seen.as_deref() == Some(*path)).unwrap_or_default();

    let rules: Vec<Value> = paths.iter().map(|path| json!({"to": [{"operation": {"paths": [path]}}]})).collect();
    let set = json!([{"name": "seen", "policies": [{"action": "DENY", "rules": rules}], "rows": []}]);
    let sets: Vec<Set> = serde_json::from_value(set).expect("a set");
    stage.put(&sets[0].policies(stage.place)).await;
    let denied = rows.iter().map(|row| Row { verdict: Verdict::Deny(format!("seen {}", number(row))), ..row.clone() });
    let mut faults = stage.visit(&denied.collect::<Vec<_>>()).await;

    if stage.place == Place::Gateway {
        stage.write("routes.yaml", &routes(&paths)).await;
    }
    stage.put(&[]).await;
    for (row, outcome) in rows.iter().zip(stage.outcomes(&rows).await) {
        let seen = row.seen.as_deref().unwrap_or_default();
        let got = outcome.path();
        let got = got.split('?').next().unwrap_or_default();
        if (outcome.status, got) != (200, seen) {
            faults.push(format!("`{}`: the application got `{got}`, {} {}", row.text, outcome.status, outcome.body));
        }
        if stage.place == Place::Gateway && outcome.route != number(row).to_string() {
            faults.push(format!("`{}`: took route `{}`, not that of `{seen}`", row.text, outcome.route));
        }
    }
    faults
}
