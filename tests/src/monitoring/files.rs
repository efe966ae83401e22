//! The dashboard and the alert rules, as far as their queries go.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A query of the dashboard.
#[derive(Debug, Clone)]
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// The expression, with the dashboard's variables filled in.
    pub expression: String,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Its expression.
    pub expression: String,
}

/// Every query of the dashboard, for all pools, with rates over `interval`.
///
/// # Panics
/// If the file is not a dashboard.
pub fn dashboard(interval: &str) -> Vec<Query> {
    let text = std::fs::read_to_string(folder().join("dashboard.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let expression =
                expression.replace("$__rate_interval", interval).replace("$pool", ".*").replace("$job", ".*");
            assert!(!expression.contains('$'), "an unknown variable in {expression}");
            queries.push(Query { panel: title.to_owned(), expression });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let query = variable["query"]["query"].as_str().or(variable["query"].as_str()).unwrap_or_default();
        if let Some(inner) = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) {
            let (metric, label) = inner.rsplit_once(',').expect("label_values(metric, label)");
            let expression = format!("group by ({}) ({})", label.trim(), metric.replace("$job", ".*"));
            queries.push(Query { panel: format!("variable {}", variable["name"]), expression });
        }
    }
    queries
}

/// Every alert rule.
///
/// # Panics
/// If the file has no rules.
pub fn alerts() -> Vec<Alert> {
    let text = std::fs::read_to_string(alerts_file()).expect("the rules");
    let rules: Value = serde_yaml::from_str(&text).expect("the rules are YAML");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let rule = |rule: &Value| Alert {
        name: rule["alert"].as_str().expect("a name").to_owned(),
        expression: rule["expr"].as_str().expect("an expression").to_owned(),
    };
    rules.map(rule).collect()
}

/// Where the alert rules are.
pub fn alerts_file() -> PathBuf {
    folder().join("alerts.yml")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-tokio/docs")
}
