//! A Kubernetes API server in the test itself: what kubectl and client libraries need, and what a real one cannot do on
//! demand (count its requests, fail, forget history, be gone).
//!
//! ```text
//! serve (HTTP) -> call (what is asked) -> rbac -> verbs -> write -> ownership, patch, defaults
//!                     discovery <- kinds            '----> store (objects, history) -> watch
//! ```
//!
//! It differs from the real one where no story can tell: objects are not checked against schemas and nothing is pruned;
//! strategic merge patches know the merge keys of `fields::list_kind` only; a deleted Namespace takes its objects with it,
//! as the namespace controller would do; bodies in protobuf get 415 (kubectl's `create namespace`, `create secret` and
//! `auth can-i` send them; `apply` and `create -f` do not); there is no subresource `scale`; roles are not checked for escalation; tables are answered as plain objects.

mod call;
mod defaults;
mod discovery;
mod faults;
mod fields;
mod forward;
mod kinds;
mod ownership;
mod patch;
mod rbac;
mod refusal;
mod selector;
mod serve;
mod state;
mod store;
mod verbs;
mod watch;
mod write;

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch as tokio_watch;

use self::{
    faults::Faults,
    kinds::Kind,
    rbac::User,
    refusal::Refusal,
    state::State,
    write::{PatchKind, Write},
};
pub use self::{
    faults::{Fault, Requests, Seen},
    state::StreamingLists,
};
use crate::{listening::Listening, loopback::Loopback, pki, tls_peer};

/// A running API server; ends when dropped.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Mutex<Option<Listening>>,
    folder: TempDir,
    root_pem: String,
    _loopback: Loopback,
}

/// What connections and the story share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The last revision: wakes watches.
    signal: tokio_watch::Sender<u64>,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
    /// Where port-forwards to pods (`namespace/name`) lead.
    forwards: Mutex<HashMap<String, SocketAddr>>,
    tls: Arc<ServerConfig>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forwards(&self) -> MutexGuard<'_, HashMap<String, SocketAddr>> {
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and wakes the watches.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let revision = state.revision;
        drop(state);
        self.signal.send_replace(revision);
        result
    }
}

/// Passes every check.
pub const ADMIN: &str = "admin-token";

impl ApiServer {
    /// Starts one with the built-in kinds and Istio's.
    pub async fn start() -> Self {
        Self::with(every_kind()).await
    }

    /// Starts one that knows no kind of Istio until a CustomResourceDefinition is applied.
    pub async fn bare() -> Self {
        Self::with(kinds::built_in()).await
    }

    async fn with(kinds: Vec<Arc<Kind>>) -> Self {
        let mut state = State::new(kinds);
        state.access.tokens.insert(ADMIN.to_owned(), User::admin());
        let (signal, _) = tokio_watch::channel(state.revision);
        let loopback = Loopback::claim();
        let address = loopback.at(1, 6443);
        let authority = pki::authority("CA of a story's API server");
        let identity = authority.issue_server(&[&address.ip().to_string()], pki::DAY);
        let identity = identity.expect("a server certificate can be issued");
        let shared = Shared {
            state: Mutex::new(state),
            signal,
            faults: Mutex::default(),
            seen: Mutex::default(),
            forwards: Mutex::default(),
            tls: tls_peer::server(&identity, None, &["http/1.1"]),
        };
        let server = Self {
            shared: Arc::new(shared),
            address,
            root_pem: authority.root_pem().to_owned(),
            listening: Mutex::new(None),
            folder: TempDir::with_prefix("sluice-apiserver-").expect("a temporary folder can be made"),
            _loopback: loopback,
        };
        server.start_again().await;
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`; `https` is served there, too.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops listening and cuts every connection, as an API server that died. Objects are kept.
    pub async fn stop(&self) {
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.stop().await;
        }
    }

    /// Listens at the same address again, with the same objects.
    pub async fn start_again(&self) {
        self.stop().await;
        let shared = Arc::clone(&self.shared);
        let listening =
            Listening::start(self.address, move |stream| serve::connection(stream, Arc::clone(&shared))).await;
        *self.listening() = Some(listening);
    }

    fn listening(&self) -> MutexGuard<'_, Option<Listening>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients over TLS have to trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A kubeconfig file with this bearer token, for TLS: kubectl sends no token over plain HTTP.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        write_kubeconfig(self.folder.path(), (self.address, &self.root_pem), token)
    }

    /// A new token of a service account; the account needs no object.
    pub fn token(&self, namespace: &str, service_account: &str) -> String {
        self.token_of(&format!("system:serviceaccount:{namespace}:{service_account}"))
    }

    /// A new token of any user.
    pub fn token_of(&self, user: &str) -> String {
        self.shared.state().access.issue(User::named(user))
    }

    /// A new token of a service account for this audience alone.
    pub fn token_for(&self, namespace: &str, service_account: &str, audience: &str) -> String {
        let token = self.token(namespace, service_account);
        self.shared.state().access.audiences.insert(token.clone(), vec![audience.to_owned()]);
        token
    }

    /// Makes a token unknown: 401.
    pub fn revoke(&self, token: &str) {
        self.shared.state().access.tokens.remove(token);
    }

    /// Whether stored roles decide what a user may do. Off at the start: everybody may do everything.
    pub fn rbac(&self, on: bool) {
        self.shared.state().access.rbac = on;
    }

    /// Creates or replaces every object of these documents, as kubectl does; their namespaces are made when they are
    /// missing, and a `status` goes to the subresource. Panics with the server's message when it refuses one.
    pub fn apply(&self, yaml: &str) {
        self.insert(documents(yaml));
    }

    /// As [`ApiServer::apply`], of many objects at once: watches see all of them together.
    pub fn insert(&self, objects: Vec<Value>) {
        self.shared.change(|state| {
            for object in objects {
                let name = object["metadata"]["name"].clone();
                let kind = object["kind"].clone();
                if let Err(refusal) = insert(state, object) {
                    panic!("{kind} {name} cannot be applied: {}", refusal.message);
                }
            }
        });
    }

    /// Port-forwards to this pod lead to `to`, whatever port they ask for.
    pub fn forward(&self, namespace: &str, name: &str, to: SocketAddr) {
        self.shared.forwards().insert(format!("{namespace}/{name}"), to);
    }

    /// Deletes an object; false = it was not there. `kind` is `Gateway`, `gateways`, or one of both with `.group`.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let kind = self.kind(kind);
        self.shared.change(|state| state.delete(&Write::by(&kind, (namespace, name), STORY), &Value::Null).is_ok())
    }

    /// An object in its preferred version.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = self.kind(kind);
        let write = Write::by(&kind, (namespace, name), STORY);
        Some(self.shared.state().find(&kind, &write.key)?.object(&kind, kind.version()))
    }

    /// Every object of a kind, by namespace and name.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let kind = self.kind(kind);
        self.shared.state().objects(&kind).values().map(|object| object.object(&kind, kind.version())).collect()
    }

    /// Merges into an object; panics with the server's message when it refuses.
    pub fn patch(&self, kind: &str, [namespace, name]: [&str; 2], patch: &Value) {
        let kind = self.kind(kind);
        self.patched(&Write::by(&kind, (namespace, name), STORY), patch);
    }

    /// Merges into the status of an object; `patch` is what stands below `status`.
    pub fn patch_status(&self, kind: &str, [namespace, name]: [&str; 2], patch: &Value) {
        let kind = self.kind(kind);
        let mut write = Write::by(&kind, (namespace, name), STORY);
        write.status = kind.status;
        self.patched(&write, &json!({"status": patch}));
    }

    fn patched(&self, write: &Write, patch: &Value) {
        let patched = self.shared.change(|state| state.patch(write, PatchKind::Merge, patch).map(|_| ()));
        patched.unwrap_or_else(|refusal| panic!("{} cannot be patched: {}", write.key.1, refusal.message));
    }

    fn kind(&self, name: &str) -> Arc<Kind> {
        self.shared.state().called(name).unwrap_or_else(|| panic!("the server has no kind {name}"))
    }

    /// Ends every open watch, as a load balancer that cuts idle streams.
    pub fn drop_watches(&self) {
        self.shared.change(|state| state.drops += 1);
    }

    /// Forgets history: resource versions and continue tokens from before give 410. Open watches go on.
    pub fn compact(&self) {
        self.shared.change(State::compact);
    }

    /// Forgets history, and ends every open watch of a kind with an ERROR event of 410.
    pub fn expire(&self, kind: &str) {
        let kind = self.kind(kind);
        self.shared.change(|state| {
            state.compact();
            state.tables.entry(kind.storage.clone()).or_default().expirations += 1;
        });
    }

    /// Hides a kind, as if its CustomResourceDefinition were not installed, and ends its watches; or shows it again with
    /// its objects.
    pub fn hide(&self, kind: &str, hidden: bool) {
        self.shared.change(|state| {
            for served in state.kinds.iter_mut().filter(|served| served.is_called(kind)) {
                Arc::make_mut(served).hidden = hidden;
            }
            state.drops += u64::from(hidden);
        });
    }

    /// The next `times` requests whose path and query hold `text` meet this fault.
    pub fn fail(&self, text: &str, fault: Fault, times: usize) {
        self.shared.faults().add(text, fault, times);
    }

    /// Whether as many requests as were meant have met the faults of this text. Those with [`Fault::Delay`] may still wait.
    pub fn met(&self, text: &str) -> bool {
        self.shared.faults().left(text) == 0
    }

    /// No more faults.
    pub fn heal(&self) {
        self.shared.faults().clear();
    }

    /// How `sendInitialEvents=true` is answered. [`StreamingLists::Served`] at the start.
    pub fn streaming_lists(&self, mode: StreamingLists) {
        self.shared.state().streaming_lists = mode;
    }

    /// `minor` of `/version`; 34 at the start.
    pub fn minor_version(&self, minor: u32) {
        self.shared.state().minor = minor;
    }

    /// Time between two bookmarks of watches that start from now on; 5 s at the start.
    pub fn bookmark_every(&self, pause: Duration) {
        self.shared.state().bookmarks = pause;
    }

    /// Every request since the start, or since [`ApiServer::clear_requests`].
    pub fn requests(&self) -> Requests {
        Requests(self.shared.seen().clone())
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.seen().clear();
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.shared.signal.receiver_count()
    }
}

/// Writes a kubeconfig for a server with TLS into a folder; gives its path.
pub(crate) fn write_kubeconfig(folder: &Path, (address, root_pem): (SocketAddr, &str), token: &str) -> PathBuf {
    let authority = BASE64_STANDARD.encode(root_pem);
    let cluster = json!({"server": format!("https://{address}"), "certificate-authority-data": authority});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "story",
        "clusters": [{"name": "story", "cluster": cluster}],
        "users": [{"name": "story", "user": {"token": token}}],
        "contexts": [{"name": "story", "context": {"cluster": "story", "user": "story", "namespace": "default"}}],
    });
    let path = folder.join(format!("kubeconfig-{:016x}", fastrand::u64(..)));
    fs::write(&path, config.to_string()).expect("the file can be written");
    path
}

/// The path of an object that a server without extra definitions has; all of its kind when the name is empty.
pub(crate) fn path_of(object: &Value, namespace: &str, name: &str) -> String {
    let state = State::new(every_kind());
    let (kind, _) = state.kind_of(object).unwrap_or_else(|| panic!("{} is no known kind", object["kind"]));
    kind.path(namespace, name)
}

/// As [`path_of`], by the name of the kind.
pub(crate) fn path_named(kind: &str, namespace: &str, name: &str) -> String {
    let kinds = every_kind();
    let kind = kinds.iter().find(|it| it.is_called(kind)).unwrap_or_else(|| panic!("{kind} is no known kind"));
    kind.path(namespace, name)
}

fn every_kind() -> Vec<Arc<Kind>> {
    let mut kinds = kinds::built_in();
    kinds.extend(kinds::istio());
    kinds
}

/// The objects of a text with YAML documents; panics on what is not YAML.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("this is not YAML: {error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn insert(state: &mut State, object: Value) -> Result<(), Refusal> {
    let unknown = || {
        let message = format!("no kind {} in {} is served", object["kind"], object["apiVersion"]);
        Refusal::new(404, "NotFound", message)
    };
    let (kind, _) = state.kind_of(&object).ok_or_else(unknown)?;
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (mut namespace, name) = (text("namespace"), text("name"));
    if kind.namespaced {
        if namespace.is_empty() {
            namespace = "default".to_owned();
        }
        state.make_namespace(&namespace);
    }
    let status = object["status"].clone();
    let mut write = Write::by(&kind, (&namespace, &name), STORY);
    state.replace(&write, object)?;
    if kind.status && !status.is_null() {
        write.status = true;
        state.patch(&write, PatchKind::Merge, &json!({"status": status}))?;
    }
    Ok(())
}

/// The field manager of what stories write.
const STORY: &str = "story";
