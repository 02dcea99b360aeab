//! What every proxy of a mesh tells, gathered: few are asked at a time, nobody is waited for long, and whoever was silent is left in
//! peace for a while, so that the others are told in time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex as Turn, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{
    ask::{Lines, Target},
    find::Mesh,
};
use crate::admin::{
    answers::{self, Reply},
    schema::{Answer, overview::Overview},
};

/// Longest wait for one proxy.
const ANSWER: Duration = Duration::from_secs(4);
/// Longest wait for all of them.
const LOOK: Duration = Duration::from_secs(6);
/// Less is not worth asking.
const LEAST: Duration = Duration::from_millis(500);
/// Proxies that are asked at a time.
const AT_ONCE: usize = 16;
/// Who gave no answer in time is asked again after this.
const PEACE: Duration = Duration::from_secs(15);
/// Bytes of what one proxy tells of itself; of another page, of which one is read at a time.
const MOST: usize = 2 << 20;
const MOST_OF_PAGE: usize = 8 << 20;
/// Several who look at a time see the same.
const FRESH: Duration = Duration::from_millis(800);

/// Answers by asking.
pub(super) struct Gathering {
    mesh: Mesh,
    lines: Lines,
    places: Semaphore,
    silent: Mutex<HashMap<String, Instant>>,
    last: Turn<Option<(Instant, Bytes)>>,
}

impl Gathering {
    /// Of these.
    pub(super) fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            lines: Lines::default(),
            places: Semaphore::new(AT_ONCE),
            silent: Mutex::default(),
            last: Turn::new(None),
        }
    }

    /// What every proxy tells; of those that tell nothing, why. In JSON.
    pub(super) async fn overview(&self) -> Bytes {
        let mut last = self.last.lock().await;
        if let Some((_, told)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return told.clone();
        }
        let told = serde_json::to_vec(&Answer::new(self.look().await)).map(Bytes::from).unwrap_or_default();
        *last = Some((Instant::now(), told.clone()));
        told
    }

    async fn look(&self) -> Overview<Value> {
        let roll = match self.mesh.roll().await {
            Ok(roll) => roll,
            Err(error) => {
                let nobody = json!({"name": "the API server", "unreachable": format!("{error:#}")});
                return Overview { proxies: vec![nobody], left_out: 0, notes: Vec::new() };
            }
        };
        let by = Instant::now() + LOOK;
        let proxies = join_all(roll.targets.iter().map(|target| self.told(target, by))).await;
        self.still_silent(|id| roll.targets.iter().any(|target| target.id() == id));
        Overview { proxies, left_out: roll.left_out, notes: roll.notes }
    }

    /// What one tells, or why it tells nothing.
    async fn told(&self, target: &Target, by: Instant) -> Value {
        let told = self.asked(target, by).await.and_then(|(status, body)| of_body(status, &body));
        let mut proxy = told.unwrap_or_else(|error| json!({"name": target.name, "unreachable": format!("{error:#}")}));
        proxy["target"] = target.id().into();
        proxy
    }

    async fn asked(&self, target: &Target, by: Instant) -> Result<(StatusCode, Bytes)> {
        if let Some(left) = self.peace(&target.id()) {
            bail!("no answer within {} s; it is asked again in {} s", ANSWER.as_secs(), left.as_secs() + 1);
        }
        let place = timeout_at(by, self.places.acquire()).await;
        let left = by.saturating_duration_since(Instant::now());
        if place.is_err() || left < LEAST {
            bail!("not asked this time: {AT_ONCE} are asked at a time, and others took {} s", LOOK.as_secs());
        }
        let given = left.min(ANSWER);
        let told = timeout(given, self.mesh.ask(&self.lines, target, ("/overview", MOST))).await;
        told.unwrap_or_else(|_| {
            // Who was asked late had little time.
            if given == ANSWER {
                self.silenced(target.id());
            }
            Err(anyhow!("no answer within {:.0?}", given))
        })
    }

    /// How long one is still left in peace.
    fn peace(&self, id: &str) -> Option<Duration> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let left = silent.get(id)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn silenced(&self, id: String) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now() + PEACE);
    }

    fn still_silent(&self, is_there: impl Fn(&str) -> bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        silent.retain(|id, until| *until > now && is_there(id));
    }

    /// What one proxy answers.
    pub(super) async fn of_one(&self, path: &str, query: &str) -> Reply {
        let wanted = answers::parameter(query, "proxy").unwrap_or_default();
        let roll = self.mesh.roll().await.unwrap_or_default();
        let Some(target) = roll.targets.iter().find(|target| target.id() == wanted) else {
            return answers::text(StatusCode::NOT_FOUND, "there is no such proxy; /overview names them\n");
        };
        let path = format!("{path}?{query}");
        match timeout(ANSWER, self.mesh.ask(&self.lines, target, (&path, MOST_OF_PAGE))).await {
            Ok(Ok((status, body))) if status == StatusCode::OK => answers::raw_json(body),
            Ok(Ok((status, body))) => answers::text(status, body),
            Ok(Err(error)) => answers::text(StatusCode::BAD_GATEWAY, format!("{error:#}\n")),
            Err(_) => answers::text(StatusCode::GATEWAY_TIMEOUT, "the proxy does not answer\n"),
        }
    }
}

/// The proxy that an overview is about.
fn of_body(status: StatusCode, body: &[u8]) -> Result<Value> {
    anyhow::ensure!(status == StatusCode::OK, "it answers {status}; is it as new as this program?");
    let mut told: Value = serde_json::from_slice(body).context("what it answers is no JSON")?;
    let schema = told["schema"].as_u64();
    anyhow::ensure!(
        schema == Some(u64::from(answers::SCHEMA)),
        "it tells by schema {schema:?}, and this program knows {}",
        answers::SCHEMA
    );
    let first = told["proxies"].get_mut(0).map(Value::take).context("it tells of no proxy")?;
    // Whoever runs a pod says what it answers.
    let whole =
        first["name"].is_string() && first["traffic"]["edges"].is_array() && first["traffic"]["bounds"].is_array();
    anyhow::ensure!(whole, "what it tells is no proxy");
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_shown() {
        let told = |text: &str| of_body(StatusCode::OK, text.as_bytes()).map_err(|error| error.to_string());
        let whole = r#"{"schema": 1, "proxies": [{"name": "a", "traffic": {"edges": [], "bounds": []}}]}"#;
        assert_eq!(told(whole).unwrap()["name"], "a");
        for strange in [
            r#"["x"]"#,
            r#"[{"name": "a"}]"#,
            r#"[{"name": 7, "traffic": {"edges": [], "bounds": []}}]"#,
            "[[]]",
            "[null]",
        ] {
            let error = told(&format!(r#"{{"schema": 1, "proxies": {strange}}}"#)).unwrap_err();
            assert!(error.contains("no proxy"), "{strange}: {error}");
        }
        assert!(told(r#"{"schema": 9, "proxies": []}"#).unwrap_err().contains("schema Some(9)"));
        assert!(told(r#"{"schema": 1, "proxies": []}"#).unwrap_err().contains("no proxy"));
        assert!(told("oops").unwrap_err().contains("no JSON"));
        assert!(of_body(StatusCode::NOT_FOUND, b"").unwrap_err().to_string().contains("404"));
    }
}
