//! Probes of the application, which the kubelet could not reach through mutual TLS, are asked for at the proxy, which asks the
//! application itself.

use serde_json::{Map, Value, json};

use super::PROXY;
use super::json::{items, list, name, text};

/// Variable that tells the proxy what was asked for: JSON, by path.
pub const VARIABLE: &str = "ISTIO_KUBE_APP_PROBERS";

/// The probes of a container, and the last part of the path each is asked for by.
const PROBES: [(&str, &str, &str); 5] = [
    ("/livenessProbe", "app-health", "livez"),
    ("/readinessProbe", "app-health", "readyz"),
    ("/startupProbe", "app-health", "startupz"),
    ("/lifecycle/preStop", "app-lifecycle", "prestopz"),
    ("/lifecycle/postStart", "app-lifecycle", "poststartz"),
];

/// What a proxy can ask.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// When the proxy is there to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// Before every container of the pod.
    First,
    /// Before its containers, after its init containers.
    BeforeContainers,
    /// After all: the kubelet starts a container once the hook of the one before has ended.
    Last,
}

impl Begins {
    /// Whether the proxy is there when a container has been started, and Kubernetes waits before it starts the next.
    fn before(self, part: &str) -> bool {
        match self {
            Self::First => true,
            Self::BeforeContainers => part == "containers",
            Self::Last => false,
        }
    }

    /// Whether a probe or hook is asked only when the proxy can answer.
    fn answers(self, pointer: &str, part: &str) -> bool {
        match pointer {
            "/lifecycle/postStart" => self.before(part),
            "/startupProbe" => part == "containers" || self.before(part),
            _ => true,
        }
    }
}

/// Rewrites them and tells the proxy's container.
pub(super) fn rewrite(pod: &mut Value, proxy: &mut Value, (port, begins): (u16, Begins), warnings: &mut Vec<String>) {
    let mut originals = Map::new();
    for part in ["containers", "initContainers"] {
        if !pod["spec"][part].is_array() {
            continue;
        }
        for container in list(&mut pod["spec"], part) {
            // Of init containers those have probes that go on running.
            let ends = part == "initContainers" && container["restartPolicy"] != "Always";
            if name(container) != PROXY && !ends {
                let pointers = PROBES.into_iter().filter(|(pointer, ..)| begins.answers(pointer, part));
                of_container(container, port, pointers, (&mut originals, &mut *warnings));
            }
        }
    }
    if !originals.is_empty() {
        let value = Value::Object(originals).to_string();
        list(proxy, "env").push(json!({"name": VARIABLE, "value": value}));
    }
}

fn of_container(
    container: &mut Value,
    port: u16,
    pointers: impl Iterator<Item = (&'static str, &'static str, &'static str)>,
    (originals, warnings): (&mut Map<String, Value>, &mut Vec<String>),
) {
    let (ports, container_name) = (container["ports"].clone(), name(container).to_owned());
    for (pointer, family, last) in pointers {
        let Some(Value::Object(probe)) = container.pointer_mut(pointer) else { continue };
        let Some(handler) = HANDLERS.into_iter().find(|handler| probe.get(*handler).is_some_and(Value::is_object))
        else {
            continue;
        };
        let what = format!("container {container_name}: {}", pointer.trim_start_matches('/').replace('/', "."));
        let mut asked = probe[handler].clone();
        if asked["port"] == port {
            // It is meant for the proxy itself.
            continue;
        }
        let Some(number) = number(&asked["port"], &ports) else {
            warnings
                .push(format!("{what} names port {}, which the container does not have: left as it is", asked["port"]));
            continue;
        };
        if !matches!(text(&asked, "/host"), "" | "127.0.0.1" | "localhost" | "::1") {
            warnings.push(format!("{what} asks another host, {}: left as it is", text(&asked, "/host")));
            continue;
        }
        asked["port"] = number.into();
        let path = format!("/{family}/{container_name}/{last}");
        let mut get = json!({"path": path, "port": port});
        if let Some(headers) = asked.get("httpHeaders") {
            get["httpHeaders"] = headers.clone();
        }
        let mut original = json!({handler: asked});
        if let Some(timeout) = probe.get("timeoutSeconds") {
            original["timeoutSeconds"] = timeout.clone();
        }
        probe.remove(handler);
        probe.insert("httpGet".to_owned(), get);
        originals.insert(path, original);
    }
}

/// The number of a port that may have a name.
fn number(port: &Value, ports: &Value) -> Option<u16> {
    match port {
        Value::Number(_) => port.as_u64().and_then(|it| u16::try_from(it).ok()).filter(|it| *it > 0),
        Value::String(text) if text.bytes().all(|it| it.is_ascii_digit()) => text.parse().ok().filter(|it| *it > 0),
        Value::String(wanted) => {
            let found = items(ports, "").iter().find(|it| name(it) == wanted)?;
            found["containerPort"].as_u64().and_then(|it| u16::try_from(it).ok())
        }
        _ => None,
    }
}

/// Undoes [`rewrite`], from what the proxy was told.
pub(super) fn restore(pod: &mut Value, originals: &str) {
    let Ok(Value::Object(originals)) = serde_json::from_str::<Value>(originals) else { return };
    for part in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{part}")) else { continue };
        for container in containers {
            for (pointer, ..) in PROBES {
                let Some(Value::Object(probe)) = container.pointer_mut(pointer) else { continue };
                let path = probe.get("httpGet").map(|it| text(it, "/path").to_owned()).unwrap_or_default();
                let Some(original) = originals.get(&path) else { continue };
                let Some(handler) = HANDLERS.into_iter().find(|it| original.get(*it).is_some()) else { continue };
                probe.remove("httpGet");
                probe.insert(handler.to_owned(), original[handler].clone());
            }
        }
    }
}
