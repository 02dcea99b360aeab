//! Metrics of the application are asked for at the proxy, which has both.

use serde_json::{Value, json};

use super::Refusal;
use super::json::{list, map, text};

/// Variable that tells the proxy where the application's metrics are: JSON.
pub const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

/// Several places of metrics, as `port:path,port:path`.
const TARGETS: &str = "prometheus.istio.io/scrape-targets";
/// Ports of the proxy: whoever names one as the application's would have the proxy ask itself.
const RESERVED: [u16; 8] = [15000, 15001, 15004, 15006, 15008, 15021, 15053, 15090];

const SCRAPE: &str = "prometheus.io/scrape";
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";

/// Points the pod's annotations to the proxy, and the proxy to the application.
pub(super) fn merge(
    pod: &mut Value,
    proxy: &mut Value,
    status_port: u16,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let annotations = map(&mut pod["metadata"], "annotations");
    let said = |key: &str| annotations.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if said(SCRAPE) == "false" {
        return Ok(());
    }
    let (scrape, port, path) = (said(SCRAPE), said(PORT), said(PATH));
    let own = port == status_port.to_string();
    let mut asked = json!({});
    for (key, value) in [("scrape", &scrape), ("path", &path), ("port", &port)] {
        if !own && !value.is_empty() {
            asked[key] = value.as_str().into();
        }
    }
    if !own && !port.is_empty() {
        if port.parse::<u16>().is_err() {
            // Whoever scrapes may have rules of its own that know what it means.
            warnings.push(format!(
                "annotation {PORT} is `{port}`, which is no number: metrics are not merged, and the annotations stay; \
                 name several places by {TARGETS}, as in 8080:/metrics"
            ));
            return Ok(());
        }
        check(PORT, &port, status_port)?;
    }
    let targets = targets(&said(TARGETS), status_port)?;
    if !targets.is_empty() {
        asked["targets"] = targets.into();
    }
    if asked.as_object().is_some_and(|it| !it.is_empty()) {
        list(proxy, "env").push(json!({"name": VARIABLE, "value": asked.to_string()}));
    }
    announce(pod, status_port);
    Ok(())
}

/// Says where metrics are.
pub(super) fn announce(pod: &mut Value, port: u16) {
    let annotations = map(&mut pod["metadata"], "annotations");
    if annotations.get(SCRAPE).is_some_and(|it| it == "false") {
        return;
    }
    for (key, value) in [(SCRAPE, "true".to_owned()), (PORT, port.to_string()), (PATH, "/stats/prometheus".to_owned())]
    {
        annotations.insert(key.to_owned(), value.into());
    }
}

fn targets(text: &str, status_port: u16) -> Result<Vec<Value>, Refusal> {
    let mut targets = Vec::new();
    for one in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let (port, path) = one.split_once(':').unwrap_or((one, "/metrics"));
        check(TARGETS, port, status_port)?;
        if !path.starts_with('/') {
            return Err(Refusal(format!(
                "annotation {TARGETS} cannot have `{one}`: write port:path, as in 8080:/metrics"
            )));
        }
        targets.push(json!({"port": port, "path": path}));
    }
    Ok(targets)
}

fn check(annotation: &str, port: &str, status_port: u16) -> Result<(), Refusal> {
    let Some(number) = port.parse::<u16>().ok().filter(|it| *it > 0) else {
        return Err(Refusal(format!(
            "annotation {annotation} cannot be `{port}`: write the number of the application's port"
        )));
    };
    if number == status_port || RESERVED.contains(&number) {
        return Err(Refusal(format!(
            "annotation {annotation} names {number}, which is a port of the proxy; write the application's"
        )));
    }
    Ok(())
}

/// Undoes [`merge`] and [`announce`], from what the proxy was told. `ports` are those where it has metrics.
pub(super) fn restore(pod: &mut Value, told: Option<&str>, ports: &[String]) {
    let annotations = map(&mut pod["metadata"], "annotations");
    // Where metrics are not merged, they are where the pod says.
    let said = |key: &str| annotations.get(key).and_then(Value::as_str).unwrap_or_default();
    if said(PATH) != "/stats/prometheus" || !ports.iter().any(|port| port == said(PORT)) {
        return;
    }
    for key in [SCRAPE, PORT, PATH] {
        annotations.remove(key);
    }
    let told: Value = told.and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
    for (key, from) in [(SCRAPE, "/scrape"), (PORT, "/port"), (PATH, "/path")] {
        let value = text(&told, from);
        if !value.is_empty() {
            annotations.insert(key.to_owned(), value.into());
        }
    }
}
