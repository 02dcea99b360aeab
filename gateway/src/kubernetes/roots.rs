//! The roots of the mesh in every namespace, where pods mount them: ConfigMap `istio-ca-root-cert`.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::telemetry::ca::CaMetrics;

/// Name of the ConfigMap.
pub(crate) const NAME: &str = "istio-ca-root-cert";
/// Its key.
const KEY: &str = "root-cert.pem";
/// Where no pod of a mesh is, as with Istio.
const EXCEPT: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// ConfigMaps written at once.
const AT_ONCE: usize = 16;
/// When some could not be written.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of the cluster.
#[derive(Default)]
struct Known {
    namespaces: BTreeSet<String>,
    /// By namespace: what stands there.
    written: BTreeMap<String, Option<String>>,
    /// Both were listed once.
    listed: [bool; 2],
    listing: (BTreeSet<String>, BTreeMap<String, Option<String>>),
}

/// Writes the roots, and writes them again where they are edited or deleted, until dropped.
pub(crate) async fn distribute(client: &Client, mut roots: watch::Receiver<Option<String>>, metrics: &CaMetrics) {
    let namespaces = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()).default_backoff();
    let named = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let maps = watcher(Api::<ConfigMap>::all(client.clone()), named).default_backoff();
    let (mut namespaces, mut maps) = (pin!(namespaces), pin!(maps));
    let mut known = Known::default();
    let (mut warned, mut again) = (false, None);
    loop {
        let failure = tokio::select! {
            Some(event) = namespaces.next() => event.map(|event| known.namespace(event)).err(),
            Some(event) = maps.next() => event.map(|event| known.map(event)).err(),
            Ok(()) = roots.changed() => None,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => None,
        };
        if let Some(error) = &failure {
            if !warned {
                warn!(%error, "namespaces cannot be followed; the roots are written when they can");
            }
            warned = true;
            continue;
        }
        warned = false;
        let text = roots.borrow_and_update().clone();
        if let (Some(text), [true, true]) = (text, known.listed) {
            again = write_all(client, &mut known, &text, metrics).await.then(|| Instant::now() + AGAIN);
        }
    }
}

/// Writes what is not as it should be. Gives whether some could not be written.
async fn write_all(client: &Client, known: &mut Known, roots: &str, metrics: &CaMetrics) -> bool {
    let due: Vec<(String, bool)> = known
        .namespaces
        .iter()
        .filter(|namespace| known.written.get(*namespace).is_none_or(|text| text.as_deref() != Some(roots)))
        .map(|namespace| (namespace.clone(), known.written.contains_key(namespace)))
        .collect();
    if due.is_empty() {
        return false;
    }
    let count = due.len();
    let done = stream::iter(due).map(async |(namespace, exists)| {
        let written = timeout(ANSWER, write(client, &namespace, exists, roots)).await;
        (namespace, written.unwrap_or_else(|_| Err("the API server is silent".to_owned())))
    });
    let done: Vec<(String, Result<(), String>)> = done.buffer_unordered(AT_ONCE).collect().await;
    let mut failed = 0;
    for (namespace, written) in done {
        match written {
            Ok(()) => {
                metrics.written("ok");
                known.written.insert(namespace, Some(roots.to_owned()));
            }
            Err(error) => {
                metrics.written("failed");
                failed += 1;
                if failed == 1 {
                    warn!(namespace, error, "the roots cannot be written");
                }
            }
        }
    }
    info!(namespaces = count - failed, failed, "the roots are written");
    failed > 0
}

/// The roots that a namespace has.
///
/// # Errors
/// A sentence: nobody can say.
pub(crate) async fn told(client: &Client, namespace: &str) -> Result<Option<String>, String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let failed = |why: String| format!("ConfigMap {namespace}/{NAME} cannot be read: {why}");
    match timeout(ANSWER, maps.get_opt(NAME)).await {
        Ok(Ok(map)) => Ok(map.and_then(|map| map.data?.remove(KEY))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("the API server is silent".to_owned())),
    }
}

async fn write(client: &Client, namespace: &str, exists: bool, roots: &str) -> Result<(), String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let labels = BTreeMap::from([("istio.io/config".to_owned(), "true".to_owned())]);
    if !exists {
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), labels: Some(labels.clone()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(KEY.to_owned(), roots.to_owned())])),
            ..ConfigMap::default()
        };
        let params = PostParams { field_manager: Some("sluice-control".to_owned()), ..PostParams::default() };
        match maps.create(&params, &map).await {
            Ok(_) => return Ok(()),
            // It is there, and was not seen yet.
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {}
            Err(kube::Error::Api(status)) if is_going(&status) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
    let patch = json!({"metadata": {"labels": labels}, "data": {KEY: roots}});
    let params = PatchParams { field_manager: Some("sluice-control".to_owned()), ..PatchParams::default() };
    match maps.patch(NAME, &params, &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            debug!(namespace, "the ConfigMap has gone meanwhile");
            Err("the ConfigMap has gone meanwhile".to_owned())
        }
        written => written.map(drop).map_err(|error| error.to_string()),
    }
}

/// Nothing is made in a namespace that is being deleted, or that is gone.
fn is_going(status: &kube::core::Status) -> bool {
    status.code == 404 || (status.code == 403 && status.message.contains("being terminated"))
}

impl Known {
    fn namespace(&mut self, event: Event<Namespace>) {
        let name = |namespace: &Namespace| {
            let going = namespace.metadata.deletion_timestamp.is_some();
            let name = namespace.metadata.name.clone().unwrap_or_default();
            (!going && !EXCEPT.contains(&name.as_str())).then_some(name)
        };
        match event {
            Event::Init => self.listing.0.clear(),
            Event::InitApply(namespace) => self.listing.0.extend(name(&namespace)),
            Event::InitDone => {
                self.namespaces = std::mem::take(&mut self.listing.0);
                self.listed[0] = true;
            }
            Event::Apply(namespace) => match name(&namespace) {
                Some(name) => drop(self.namespaces.insert(name)),
                None => drop(self.namespaces.remove(&namespace.metadata.name.unwrap_or_default())),
            },
            Event::Delete(namespace) => {
                let name = namespace.metadata.name.unwrap_or_default();
                self.namespaces.remove(&name);
                self.written.remove(&name);
            }
        }
    }

    fn map(&mut self, event: Event<ConfigMap>) {
        let entry = |map: ConfigMap| {
            let text = map.data.and_then(|mut data| data.remove(KEY));
            (map.metadata.namespace.unwrap_or_default(), text)
        };
        match event {
            Event::Init => self.listing.1.clear(),
            Event::InitApply(map) => self.listing.1.extend([entry(map)]),
            Event::InitDone => {
                self.written = std::mem::take(&mut self.listing.1);
                self.listed[1] = true;
            }
            Event::Apply(map) => self.written.extend([entry(map)]),
            Event::Delete(map) => drop(self.written.remove(&map.metadata.namespace.unwrap_or_default())),
        }
    }
}
