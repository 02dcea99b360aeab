//! What everybody has to trust, and whom not, in every namespace, where pods mount it: ConfigMaps `istio-ca-root-cert` and
//! `istio-ca-crl`.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::FieldsV1,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tls::authority::roots::Roots;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::rewrites::Rewrites;
use crate::telemetry::ca::CaMetrics;

/// Name of the ConfigMap.
pub(crate) const NAME: &str = "istio-ca-root-cert";
/// Who writes, for `metadata.managedFields`.
const WRITER: &str = "sluice-control";
/// One that is handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handed {
    /// Its name.
    pub(crate) name: &'static str,
    key: &'static str,
    /// For the log.
    what: &'static str,
}

/// The roots.
pub(crate) const ROOTS: Handed = Handed { name: NAME, key: KEY, what: "the roots" };
/// Which CAs are revoked. Where that is nothing it is not made.
pub(crate) const CRL: Handed = Handed { name: "istio-ca-crl", key: "ca-crl.pem", what: "the revocation lists" };

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
struct Known {
    handed: Handed,
    namespaces: BTreeSet<String>,
    /// By namespace: what stands there.
    written: BTreeMap<String, Option<String>>,
    /// Namespaces where somebody else has written what stands there.
    others: BTreeSet<String>,
    /// Both were listed once.
    listed: [bool; 2],
    listing: (BTreeSet<String>, BTreeMap<String, Option<String>>),
    /// What others have written over.
    rewrites: Rewrites,
}

/// Writes it, and writes it again where it is edited or deleted, until dropped.
pub(crate) async fn distribute(
    client: &Client,
    handed: Handed,
    mut roots: watch::Receiver<Option<String>>,
    metrics: &CaMetrics,
) {
    let namespaces = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()).default_backoff();
    let named = watcher::Config::default().fields(&format!("metadata.name={}", handed.name));
    let maps = watcher(Api::<ConfigMap>::all(client.clone()), named).default_backoff();
    let (mut namespaces, mut maps) = (pin!(namespaces), pin!(maps));
    let mut known = Known::new(handed);
    let (mut warned, mut again) = (false, None);
    loop {
        let failure = tokio::select! {
            Some(event) = namespaces.next() => event.map(|event| known.namespace(event)).err(),
            Some(event) = maps.next() => event.map(|event| known.map(event, roots.borrow().as_deref())).err(),
            Ok(()) = roots.changed() => None,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => None,
        };
        if let Some(error) = &failure {
            if !warned {
                warn!(%error, "namespaces cannot be followed; {} are written when they can", handed.what);
            }
            warned = true;
            continue;
        }
        warned = false;
        let text = roots.borrow_and_update().clone();
        if let (Some(text), [true, true]) = (text, known.listed) {
            again = write_all(client, &mut known, &text, metrics).await;
        }
    }
}

/// Writes what is not as it should be. Gives when there is something to write again.
async fn write_all(client: &Client, known: &mut Known, roots: &str, metrics: &CaMetrics) -> Option<Instant> {
    let now = Instant::now();
    let handed = known.handed;
    let wrong = |namespace: &&String| match known.written.get(*namespace) {
        // Lists of somebody else are not emptied.
        Some(_) if roots.is_empty() && known.others.contains(*namespace) => false,
        Some(text) => !is_same(text.as_deref(), roots),
        None => !roots.is_empty(),
    };
    let (mut due, mut later) = (Vec::new(), None);
    for namespace in known.namespaces.iter().filter(wrong) {
        match known.rewrites.due(namespace, now) {
            at if at <= now => due.push((namespace.clone(), known.written.contains_key(namespace))),
            at => later = Some(later.map_or(at, |before: Instant| before.min(at))),
        }
    }
    if due.is_empty() {
        return later;
    }
    let count = due.len();
    let done = stream::iter(due).map(async |(namespace, exists)| {
        let written = timeout(ANSWER, write(client, handed, &namespace, exists, roots)).await;
        (namespace, written.unwrap_or_else(|_| Err("the API server is silent".to_owned())))
    });
    let done: Vec<(String, Result<(), String>)> = done.buffer_unordered(AT_ONCE).collect().await;
    let mut failed = 0;
    for (namespace, written) in done {
        match written {
            Ok(()) => {
                if handed.name == NAME {
                    metrics.written("ok");
                }
                known.others.remove(&namespace);
                known.written.insert(namespace, Some(roots.to_owned()));
            }
            Err(error) => {
                if handed.name == NAME {
                    metrics.written("failed");
                }
                failed += 1;
                if failed == 1 {
                    warn!(namespace, error, "{} cannot be written", handed.what);
                }
            }
        }
    }
    info!(namespaces = count - failed, failed, "{} are written", handed.what);
    let again = (failed > 0).then(|| Instant::now() + AGAIN);
    later.into_iter().chain(again).min()
}

/// Whether the same certificates stand there: another writer may order them in another way, or break lines elsewhere.
pub(super) fn is_same(text: Option<&str>, roots: &str) -> bool {
    let Some(text) = text else { return false };
    let read = |text: &str| Roots::read(text.as_bytes());
    text == roots || matches!((read(text), read(roots)), (Ok(one), Ok(other)) if one.hold(&other) && other.hold(&one))
}

/// Who else has written a ConfigMap last.
fn other_writer(map: &ConfigMap) -> Option<String> {
    let all = map.metadata.managed_fields.iter().flatten();
    let others = all.filter(|it| it.manager.as_deref().is_some_and(|manager| manager != WRITER));
    others.max_by_key(|it| it.time.clone()).and_then(|it| it.manager.clone())
}

/// Whether what stands under this key was written by a control plane of ours. A cluster that does not say is not ours to judge.
fn is_ours(map: &ConfigMap, key: &str) -> bool {
    let all = map.metadata.managed_fields.as_deref().unwrap_or_default();
    let owns = |fields: &FieldsV1| fields.0.get("f:data").is_some_and(|data| data.get(format!("f:{key}")).is_some());
    if all.iter().any(|it| it.fields_v1.is_some()) {
        let mut owners = all.iter().filter(|it| it.fields_v1.as_ref().is_some_and(owns));
        return owners.any(|it| it.manager.as_deref() == Some(WRITER));
    }
    all.iter().max_by_key(|it| it.time.clone()).is_some_and(|it| it.manager.as_deref() == Some(WRITER))
}

/// What a namespace has of it, and whether a control plane of ours has written that.
///
/// # Errors
/// A sentence: nobody can say.
pub(crate) async fn told(client: &Client, namespace: &str, handed: Handed) -> Result<Option<(String, bool)>, String> {
    let Handed { name, key, .. } = handed;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let failed = |why: String| format!("ConfigMap {namespace}/{name} cannot be read: {why}");
    match timeout(ANSWER, maps.get_opt(name)).await {
        Ok(Ok(map)) => Ok(map.and_then(|map| {
            let is_ours = is_ours(&map, key);
            Some((map.data?.remove(key)?, is_ours))
        })),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("the API server is silent".to_owned())),
    }
}

async fn write(client: &Client, handed: Handed, namespace: &str, exists: bool, roots: &str) -> Result<(), String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let labels = BTreeMap::from([("istio.io/config".to_owned(), "true".to_owned())]);
    if !exists {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(handed.name.to_owned()),
                labels: Some(labels.clone()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(handed.key.to_owned(), roots.to_owned())])),
            ..ConfigMap::default()
        };
        let params = PostParams { field_manager: Some(WRITER.to_owned()), ..PostParams::default() };
        match maps.create(&params, &map).await {
            Ok(_) => return Ok(()),
            // It is there, and was not seen yet.
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {}
            Err(kube::Error::Api(status)) if is_going(&status) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
    let patch = json!({"metadata": {"labels": labels}, "data": {handed.key: roots}});
    let params = PatchParams { field_manager: Some(WRITER.to_owned()), ..PatchParams::default() };
    match maps.patch(handed.name, &params, &Patch::Merge(&patch)).await {
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
    fn new(handed: Handed) -> Self {
        Self {
            handed,
            namespaces: BTreeSet::new(),
            written: BTreeMap::new(),
            others: BTreeSet::new(),
            listed: [false; 2],
            listing: Default::default(),
            rewrites: Rewrites::default(),
        }
    }

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
                self.rewrites.forget(&name);
            }
        }
    }

    fn map(&mut self, event: Event<ConfigMap>, roots: Option<&str>) {
        let key = self.handed.key;
        let others = &mut self.others;
        let mut entry = |map: ConfigMap| {
            let is_ours = is_ours(&map, key);
            let text = map.data.and_then(|mut data| data.remove(key));
            let namespace = map.metadata.namespace.unwrap_or_default();
            match is_ours {
                true => drop(others.remove(&namespace)),
                false => drop(others.insert(namespace.clone())),
            }
            (namespace, text)
        };
        match event {
            Event::Init => self.listing.1.clear(),
            Event::InitApply(map) => self.listing.1.extend([entry(map)]),
            Event::InitDone => {
                self.written = std::mem::take(&mut self.listing.1);
                self.listed[1] = true;
            }
            Event::Apply(map) => {
                let writer = other_writer(&map);
                let (namespace, text) = entry(map);
                if self.is_written_over(&namespace, text.as_deref(), roots) {
                    self.rewrites.changed(&namespace, Instant::now());
                    let writer = writer.unwrap_or_else(|| "somebody".to_owned());
                    if self.rewrites.is_news(&writer) {
                        warn!(
                            namespace,
                            writer,
                            "{} is written by somebody else, with another content; it is written again, later and later. Of \
                             several CAs in one cluster only one may hand out its own by this name",
                            self.handed.name
                        );
                    }
                }
                self.written.insert(namespace, text);
            }
            Event::Delete(map) => {
                let namespace = map.metadata.namespace.unwrap_or_default();
                self.written.remove(&namespace);
                // With its namespace it goes for good.
                if self.namespaces.contains(&namespace) {
                    self.rewrites.changed(&namespace, Instant::now());
                }
            }
        }
    }

    /// Whether the roots stood there, and others do now.
    fn is_written_over(&self, namespace: &str, text: Option<&str>, roots: Option<&str>) -> bool {
        let before = self.written.get(namespace).and_then(Option::as_deref);
        roots.is_some_and(|roots| !roots.is_empty() && is_same(before, roots) && !is_same(text, roots))
    }
}

#[cfg(test)]
mod tests {
    use tls::authority::Authority;

    use super::*;

    fn map(data: &str, writers: &[(&str, i64)]) -> ConfigMap {
        let writers: Vec<_> = writers
            .iter()
            .map(|(manager, time)| json!({"manager": manager, "time": jiff::Timestamp::from_second(*time).unwrap().to_string()}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": NAME, "namespace": "shop", "managedFields": writers}, "data": {KEY: data},
        }))
        .unwrap()
    }

    #[test]
    fn the_same_certificates_are_the_same_roots() {
        let (one, other) = (Authority::new("a").unwrap(), Authority::new("b").unwrap());
        let both = format!("{}{}", one.root_pem(), other.root_pem());
        assert!(is_same(Some(&both), &both));
        assert!(is_same(Some(&format!("# both\n{}\n{}\n\n", other.root_pem(), one.root_pem())), &both));
        for else_ in [None, Some(""), Some("nonsense"), Some(one.root_pem())] {
            assert!(!is_same(else_, &both), "{else_:?}");
        }
    }

    #[tokio::test]
    async fn who_writes_other_roots_is_noticed_and_who_writes_the_same_is_not() {
        let (ours, theirs) = (Authority::new("a").unwrap(), Authority::new("b").unwrap());
        let roots = Some(ours.root_pem());
        let mut known = Known::new(ROOTS);
        let mut told = |text: &str| known.map(Event::Apply(map(text, &[])), roots);
        told(ours.root_pem());
        told(&format!("\n{}", ours.root_pem()));
        told(theirs.root_pem());
        told("nonsense");
        let mut fought = || {
            known.map(Event::Apply(map(ours.root_pem(), &[])), roots);
            known.map(Event::Apply(map(theirs.root_pem(), &[])), roots);
            let now = Instant::now();
            known.rewrites.due("shop", now).saturating_duration_since(now).as_millis()
        };
        let pauses = [fought(), fought()];
        assert!(pauses[0] > 900 && pauses[1] > 1900, "{pauses:?}");
    }

    #[test]
    fn who_owns_the_key_has_written_it() {
        let owned = |owners: &[(&str, &str)]| -> ConfigMap {
            let fields: Vec<_> = owners
                .iter()
                .map(|(manager, key)| json!({"manager": manager, "fieldsV1": {"f:data": {(format!("f:{key}")): {}}}}))
                .collect();
            serde_json::from_value(json!({"metadata": {"name": NAME, "managedFields": fields}})).unwrap()
        };
        assert!(is_ours(&owned(&[("kubectl", "other"), (WRITER, KEY)]), KEY));
        // We have written the labels alone.
        assert!(!is_ours(&owned(&[("kubectl", KEY), (WRITER, "other")]), KEY));
        assert!(is_ours(&map("x", &[("kubectl", 1), (WRITER, 2)]), KEY));
        for writers in [&[][..], &[("kubectl", 2), (WRITER, 1)]] {
            assert!(!is_ours(&map("x", writers), KEY), "{writers:?}");
        }
    }

    #[test]
    fn the_last_of_the_others_is_named() {
        let writers = [("pilot-discovery", 1_900_000_000), (WRITER, 1_900_000_900), ("kubectl", 1_800_000_000)];
        assert_eq!(other_writer(&map("x", &writers)).as_deref(), Some("pilot-discovery"));
        assert_eq!(other_writer(&map("x", &[(WRITER, 1)])), None);
    }
}
