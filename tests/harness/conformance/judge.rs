//! Compares what was heard and seen with what was expected.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    case::{Expect, Metric, Saw, Step},
    heard::Heard,
    peer::Seen,
    stage::Stage,
    text::Text,
};
use crate::message::values;

/// What there was before the step.
pub(super) struct Before {
    seen: BTreeMap<String, usize>,
    logs: BTreeMap<String, usize>,
    metrics: Vec<f64>,
}

impl Before {
    pub(super) async fn of(stage: &Stage, step: &Step) -> Result<Self, String> {
        let seen = stage.peers.iter().map(|(name, peer)| (name.clone(), peer.seen().len())).collect();
        let logs = stage.proxies.iter().map(|(name, it)| (name.clone(), it.proxy.access_log().len())).collect();
        let mut metrics = Vec::new();
        for metric in &step.expect.metrics {
            metrics.push(read(stage, step, metric).await?);
        }
        Ok(Self { seen, logs, metrics })
    }
}

/// Everything that is not as expected. What an endpoint sees, a log holds or a metric counts may come a little later.
pub(super) async fn faults(stage: &Stage, step: &Step, heard: &[Heard], before: Before) -> Result<Vec<String>, String> {
    let mut faults = answers(&step.expect, heard);
    let start = Instant::now();
    let late = loop {
        let mut late = endpoints(stage, &step.expect, &before)?;
        late.extend(logs(stage, step, &before)?);
        late.extend(metrics(stage, step, &before).await?);
        if start.elapsed() > LATE || (late.is_empty() && (!counts(&step.expect) || start.elapsed() > STILL)) {
            break late;
        }
        sleep(PACE).await;
    };
    faults.extend(late);
    if !faults.is_empty() {
        faults.extend(heard.first().map(|heard| format!("heard: {}", heard.line())));
    }
    Ok(faults)
}

/// Whether one request more than expected, or a count that moves after all, would be a fault.
fn counts(expect: &Expect) -> bool {
    let nobody = expect.from.as_ref().is_some_and(|from| from == NOBODY);
    nobody
        || !expect.attempts.is_empty()
        || expect.endpoints.is_some()
        || expect.metrics.iter().any(|metric| metric.plus == 0.0)
}

fn answers(expect: &Expect, heard: &[Heard]) -> Vec<String> {
    let mut faults: Vec<String> = heard.iter().flat_map(|heard| answer(expect, heard)).collect();
    if heard.len() > 1 {
        faults.sort();
        faults.dedup();
    }
    if let Some(expected) = &expect.statuses {
        let mut found = BTreeMap::<u16, usize>::new();
        for heard in heard {
            *found.entry(heard.status).or_default() += 1;
        }
        if found != *expected {
            faults.push(format!("statuses: expected {expected:?}, found {found:?}"));
        }
    }
    faults
}

fn answer(expect: &Expect, heard: &Heard) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(why) = &expect.fails {
        let failure: Vec<String> = heard.failure.iter().cloned().collect();
        faults.extend(why.fault("fails", &failure));
        return faults;
    }
    if let (Some(failure), true) = (&heard.failure, expect.statuses.is_none()) {
        return vec![format!("no answer: {failure}")];
    }
    if let Some(status) = expect.status.filter(|status| *status != heard.status) {
        faults.push(format!("status: expected {status}, found {}", heard.status));
    }
    if expect.grpc.is_some() && expect.grpc != heard.grpc {
        faults.push(format!("grpc: expected {:?}, found {:?}", expect.grpc, heard.grpc));
    }
    for (name, text) in &expect.headers {
        faults.extend(text.fault(&format!("header {name}"), &heard.header(name)));
    }
    for (name, text) in &expect.trailers {
        faults.extend(text.fault(&format!("trailer {name}"), &values(&heard.trailers, name)));
    }
    let texts = [("body", &expect.body, &heard.body), ("grpcMessage", &expect.grpc_message, &heard.grpc_message)];
    faults.extend(texts.into_iter().filter_map(|(what, text, value)| text.as_ref()?.fault_of(what, value)));
    let lists =
        [("certificate", &expect.certificate, &heard.session.certificate), ("alpn", &expect.alpn, &heard.session.alpn)];
    faults.extend(lists.into_iter().filter_map(|(what, text, values)| text.as_ref()?.fault(what, values)));
    faults.extend(times(expect, heard.took));
    faults
}

fn times(expect: &Expect, took: Duration) -> Option<String> {
    let early = expect.after.is_some_and(|span| took < span.0);
    let late = expect.within.is_some_and(|span| took > span.0);
    (early || late).then(|| format!("took {took:?}, expected after {:?}, within {:?}", expect.after, expect.within))
}

fn endpoints(stage: &Stage, expect: &Expect, before: &Before) -> Result<Vec<String>, String> {
    let new: BTreeMap<&String, Vec<Seen>> =
        stage.peers.iter().map(|(name, peer)| (name, peer.seen().split_off(before.seen[name]))).collect();
    let counts: BTreeMap<&str, usize> =
        new.iter().filter(|(_, seen)| !seen.is_empty()).map(|(name, seen)| (name.as_str(), seen.len())).collect();
    let mut faults = Vec::new();
    if let Some(from) = &expect.from {
        let wanted: Vec<&str> = if from == NOBODY { Vec::new() } else { vec![from] };
        if wanted != counts.keys().copied().collect::<Vec<_>>() {
            faults.push(format!("from: expected {from}, found {counts:?}"));
        }
    }
    for (name, count) in &expect.attempts {
        known(&new, name)?;
        if counts.get(name.as_str()).copied().unwrap_or_default() != *count {
            faults.push(format!("attempts: expected {count} at {name}, found {counts:?}"));
        }
    }
    if let Some(expected) = expect.endpoints.filter(|expected| *expected != counts.len()) {
        faults.push(format!("endpoints: expected {expected} of them, found {counts:?}"));
    }
    let total: usize = counts.values().sum();
    for (name, share) in &expect.shares {
        known(&new, name)?;
        let found = counts.get(name.as_str()).copied().unwrap_or_default() as f64 / (total.max(1) as f64);
        if (found - share).abs() > expect.tolerance.unwrap_or(TOLERANCE) {
            faults.push(format!("shares: expected {share} at {name}, found {counts:?}"));
        }
    }
    let only = expect.saw.iter().map(|saw| (counts.keys().next().copied().unwrap_or(NOBODY), saw));
    for (name, saw) in only.chain(expect.seen.iter().map(|(name, saw)| (name.as_str(), saw))) {
        match new.iter().find(|(peer, _)| peer.as_str() == name).and_then(|(_, seen)| seen.last()) {
            Some(seen) => faults.extend(request(saw, seen)),
            None => faults.push(format!("{name} saw nothing")),
        }
    }
    Ok(faults)
}

fn known(peers: &BTreeMap<&String, Vec<Seen>>, name: &String) -> Result<(), String> {
    peers.contains_key(name).then_some(()).ok_or_else(|| format!("there is no endpoint `{name}`"))
}

fn request(saw: &Saw, seen: &Seen) -> Vec<String> {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    let one = |text: &str| vec![text.to_owned()];
    let tls = seen.tls.as_ref();
    let listed = |pick: fn(&crate::origin::Handshake) -> Option<String>| tls.and_then(pick).into_iter().collect();
    let members: [(&str, &Option<Text>, Vec<String>); 8] = [
        ("method", &saw.method, one(&seen.method)),
        ("path", &saw.path, one(&seen.path)),
        ("body", &saw.body, vec![body]),
        ("version", &saw.version, one(&seen.version)),
        ("sni", &saw.sni, listed(|tls| tls.sni.clone())),
        ("alpn", &saw.alpn, listed(|tls| tls.alpn.clone())),
        ("client", &saw.client, listed(|tls| tls.client.clone())),
        ("offered", &saw.offered, tls.map(|tls| tls.offered.clone()).unwrap_or_default()),
    ];
    let fields = saw
        .headers
        .iter()
        .filter_map(|(name, text)| text.fault(&format!("saw header {name}"), &values(&seen.headers, name)));
    let members =
        members.into_iter().filter_map(|(what, text, values)| text.as_ref()?.fault(&format!("saw {what}"), &values));
    members.chain(fields).collect()
}

fn logs(stage: &Stage, step: &Step, before: &Before) -> Result<Vec<String>, String> {
    let own = step.at.clone().or_else(|| stage.proxies.keys().next().cloned()).unwrap_or_default();
    let wanted = Some((&own, &step.expect.log)).into_iter().chain(&step.expect.logs);
    let mut faults = Vec::new();
    for (name, fields) in wanted.filter(|(_, fields)| !fields.is_empty()) {
        let text = stage.proxy(Some(name))?.proxy.access_log();
        let lines: Vec<Value> =
            text[before.logs[name]..].lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
        let judged =
            lines.iter().map(|line| fields.iter().filter_map(|(field, text)| logged(line, field, text)).collect());
        let best: Option<Vec<String>> = judged.min_by_key(Vec::len);
        faults.extend(best.unwrap_or_else(|| vec![format!("{name} logged nothing")]));
    }
    Ok(faults)
}

fn logged(line: &Value, field: &str, text: &Text) -> Option<String> {
    let value = match &line[field] {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    };
    text.fault(&format!("log {field}"), &value)
}

async fn metrics(stage: &Stage, step: &Step, before: &Before) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    for (metric, before) in step.expect.metrics.iter().zip(&before.metrics) {
        let plus = read(stage, step, metric).await? - before;
        if (plus - metric.plus).abs() > f64::EPSILON {
            faults
                .push(format!("metric {} {:?}: expected +{}, found +{plus}", metric.name, metric.labels, metric.plus));
        }
    }
    Ok(faults)
}

async fn read(stage: &Stage, step: &Step, metric: &Metric) -> Result<f64, String> {
    let running = stage.proxy(metric.at.as_deref().or(step.at.as_deref()))?;
    let labels: Vec<(&str, &str)> = metric.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(running.proxy.metrics().await.sum(&metric.name, &labels))
}

/// The endpoint of a step that nobody sees.
const NOBODY: &str = "none";

/// A share may be so far from what was asked for.
const TOLERANCE: f64 = 0.1;

/// What an endpoint sees, a log holds or a metric counts comes at most so much later than the answer.
const LATE: Duration = Duration::from_secs(3);

/// What is not to happen is waited for so long: nothing tells that it will not.
const STILL: Duration = Duration::from_millis(200);

const PACE: Duration = Duration::from_millis(15);
