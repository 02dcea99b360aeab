//! One watch per kind: lists it in pages, follows it, and begins again where the API server says so.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use kube::{
    Client,
    api::DynamicObject,
    runtime::watcher::{self, Config, Error, Event, InitialListStrategy, watcher},
};
use routing::resources::{Kind, Parsed, parse_object};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{
    client::WATCH_SECONDS,
    kinds::{OPTIONAL, Which, api, resource},
    objects::{FORBIDDEN, Failure, Name, Objects, Part, UNKNOWN_KIND, UNREACHABLE},
};

/// Pods that have ended keep their address in their status, which may be another pod's now.
const LIVING_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Waits between tries: doubled each time, half of it by chance so that replicas do not come together.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the API server's version.
const VERSION: Duration = Duration::from_secs(5);
/// Longer than the longest wait and a connection that cannot be made.
const SETTLED: Duration = Duration::from_secs(20);
/// A timer that only ends waits which nobody needs to end.
const FOREVER: Duration = Duration::from_secs(3600);
/// Kubernetes 1.32 is the first that offers streaming lists without being asked to.
const STREAMING_SINCE: u32 = 32;

/// Whether the API server offers streaming lists, by its version; no answer means no.
pub(super) async fn streams_lists(client: &Client) -> bool {
    let Ok(Ok(version)) = timeout(VERSION, client.apiserver_version()).await else { return false };
    let number = |text: &str| text.trim_end_matches(|one: char| !one.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    number(&version.major) > 1 || number(&version.minor) >= STREAMING_SINCE
}

/// Where a watch puts what it sees.
pub(super) trait Sink<K> {
    /// As `VirtualService`.
    fn kind(&self) -> Kind;
    /// The list or the watch has told something.
    fn take(&self, event: Event<K>);
    /// The API server does not know the kind.
    fn unknown(&self, failure: Failure);
    /// The watch does not work, or works again.
    fn failed(&self, failure: Option<Failure>);
}

/// Follows what `watch` asks for, for ever. `watch` is given the version of the kind to ask for, counted round.
pub(super) async fn follow<K, W>(watch: impl Fn(usize, Config) -> W, sink: impl Sink<K>, streaming: bool)
where
    W: Stream<Item = watcher::Result<Event<K>>>,
{
    let mut wait = Wait::default();
    let mut strategy = if streaming { InitialListStrategy::StreamingList } else { InitialListStrategy::ListWatch };
    let (mut version, mut unknown) = (0, 0);
    let versions = sink.kind().group_versions().1.len();
    loop {
        let config =
            Config { initial_list_strategy: strategy.clone(), timeout: Some(WATCH_SECONDS), ..Config::default() };
        let stop = drain(watch(version, config), &sink, &mut wait).await;
        unknown = if matches!(stop, Stop::Version) { unknown + 1 } else { 0 };
        match stop {
            Stop::Version if unknown % versions == 0 => sink.unknown(unknown_kind(sink.kind())),
            // An older cluster may know an older version: that is asked for at once.
            Stop::Version => {
                version += 1;
                continue;
            }
            Stop::Streaming => strategy = InitialListStrategy::ListWatch,
            Stop::Gone => {}
        }
        version += usize::from(matches!(stop, Stop::Version));
        wait.pause().await;
    }
}

/// Why a watch is set up anew.
enum Stop {
    /// The API server does not know the kind in this version.
    Version,
    /// A streaming list came to nothing: from now on plain lists are asked for.
    Streaming,
    /// The API server has forgotten what happened since the last list.
    Gone,
}

async fn drain<K>(events: impl Stream<Item = watcher::Result<Event<K>>>, sink: &impl Sink<K>, wait: &mut Wait) -> Stop {
    let mut events = pin!(events);
    let (mut listing, mut begun, mut errors) = (true, false, 0);
    loop {
        // A watch that was resumed and has nothing to tell is silent: no error for a while means that it works.
        let next = match timeout(if errors > 0 { SETTLED } else { FOREVER }, events.next()).await {
            Ok(next) => next,
            Err(_) if errors > 0 => {
                errors = 0;
                wait.reset();
                sink.failed(None);
                continue;
            }
            Err(_) => continue,
        };
        match next {
            // A streaming list that ends before it is complete begins again by itself, at full speed.
            Some(Ok(Event::Init)) if std::mem::replace(&mut begun, true) && listing => return Stop::Streaming,
            Some(Ok(event)) => {
                listing = matches!(event, Event::Init | Event::InitApply(_));
                if !listing {
                    wait.reset();
                    if errors > 0 {
                        sink.failed(None);
                    }
                    errors = 0;
                }
                sink.take(event);
            }
            Some(Err(error)) => {
                errors += 1;
                debug!(kind = sink.kind().name(), %error, errors, "watch");
                if is_unknown(&error) {
                    return Stop::Version;
                }
                let failure = failure(&error, sink.kind().name());
                // One error is everyday: API servers are restarted, and watches end.
                if errors > 1 || listing || failure.code == FORBIDDEN {
                    sink.failed(Some(failure));
                }
                if listing && !matches!(error, Error::InitialListFailed(_)) {
                    return Stop::Streaming;
                }
                if is_gone(&error) {
                    return Stop::Gone;
                }
                wait.pause().await;
            }
            // The stream has no end of its own.
            None => return Stop::Streaming,
        }
    }
}

/// Follows the objects of a part of a kind, for ever.
pub(super) async fn follow_kind(client: Client, part: Part, which: Which, objects: Arc<Objects>, streaming: bool) {
    let watch = |version, config: Config| {
        let kind = part.0;
        let api = api(client.clone(), &resource(kind, version), &which);
        let config = match &which {
            Which::All if kind == Kind::Pod => config.fields(LIVING_PODS),
            Which::All => config,
            Which::Named { name, .. } => config.fields(&format!("metadata.name={name}")),
        };
        watcher(api, config)
    };
    follow(watch, OfPart { part, objects }, streaming).await;
}

/// The objects of a part of a kind.
struct OfPart {
    part: Part,
    objects: Arc<Objects>,
}

impl Sink<DynamicObject> for OfPart {
    fn kind(&self) -> Kind {
        self.part.0
    }

    fn take(&self, event: Event<DynamicObject>) {
        let kind = self.kind();
        self.objects.change(self.part, |known| match event {
            Event::Init => known.begin(),
            Event::InitApply(object) => known.listed(name(&object), read(kind, object)),
            Event::InitDone => known.complete(),
            Event::Apply(object) => known.apply(name(&object), read(kind, object)),
            Event::Delete(object) => known.delete(&name(&object)),
        });
    }

    fn unknown(&self, failure: Failure) {
        self.objects.change(self.part, |known| known.unknown(failure));
    }

    fn failed(&self, failure: Option<Failure>) {
        self.objects.change(self.part, |known| match failure {
            Some(failure) if failure.is_lack(self.kind()) => known.unknown(failure),
            failure => known.fail(failure),
        });
    }
}

fn name(object: &DynamicObject) -> Name {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

/// The object as `routing` reads it.
pub(super) fn read(kind: Kind, mut object: DynamicObject) -> Parsed {
    object.metadata.managed_fields = None;
    let mut value = std::mem::take(&mut object.data);
    if let Value::Object(fields) = &mut value {
        let (group, versions) = kind.group_versions();
        // Items of a list do not say what they are.
        let api_version = if group.is_empty() { versions[0].to_owned() } else { format!("{group}/{}", versions[0]) };
        fields.insert("apiVersion".to_owned(), api_version.into());
        fields.insert("kind".to_owned(), kind.name().into());
        fields.insert("metadata".to_owned(), serde_json::to_value(&object.metadata).unwrap_or_default());
    }
    parse_object(&value)
}

/// 410, as an answer or inside a watch: the history since the last list is gone.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::WatchError(status) => status.code == 410,
        Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// 404: the API server does not know the kind in this version.
fn is_unknown(error: &Error) -> bool {
    match error {
        Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 404
        }
        _ => false,
    }
}

/// That the cluster does not have the kind.
pub(super) fn unknown_kind(kind: Kind) -> Failure {
    let (group, _) = kind.group_versions();
    let bring = if OPTIONAL.contains(&kind) { "" } else { " or Istio's CRDs" };
    let message =
        format!("the API server does not know {} of {group}; install the chart sluice-base{bring}", kind.name());
    Failure { code: UNKNOWN_KIND, message }
}

/// A sentence about an error of the API server.
pub(super) fn failure(error: &Error, kind: &str) -> Failure {
    let cause = match error {
        Error::InitialListFailed(cause) | Error::WatchStartFailed(cause) | Error::WatchFailed(cause) => cause,
        Error::WatchError(status) => {
            let message = format!("the watch of {kind}s was ended by the API server: {}", status.message);
            return Failure { code: UNREACHABLE, message };
        }
        Error::NoResourceVersion => {
            let message = format!("the API server's list of {kind}s has no resourceVersion, so it cannot be followed");
            return Failure { code: UNREACHABLE, message };
        }
    };
    api_failure(cause, &format!("{kind}s"))
}

/// A sentence about a request that failed; `what` was asked for.
pub(super) fn api_failure(error: &kube::Error, what: &str) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 403 || status.code == 401 => Failure {
            code: FORBIDDEN,
            message: format!(
                "{what} may not be read: {}; give this proxy's service account the rules of the chart sluice-gateway",
                status.message
            ),
        },
        kube::Error::Api(status) => Failure {
            code: UNREACHABLE,
            message: format!(
                "{what} cannot be read from the API server, which answers {} {}; what is known of them keeps serving",
                status.code, status.message
            ),
        },
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(next) = cause {
                text.push_str(": ");
                text.push_str(&next.to_string());
                cause = next.source();
            }
            let message =
                format!("{what} cannot be read from the API server ({text}); what is known of them keeps serving");
            Failure { code: UNREACHABLE, message }
        }
    }
}

/// A sentence about a request that was not answered within `limit`.
pub(super) fn silence(what: &str, limit: Duration) -> Failure {
    let message = format!("{what} cannot be read: the API server did not answer within {} s", limit.as_secs());
    Failure { code: UNREACHABLE, message }
}

/// How long to wait before the next try.
#[derive(Debug)]
pub(super) struct Wait {
    next: Duration,
}

impl Default for Wait {
    fn default() -> Self {
        Self { next: FIRST_WAIT }
    }
}

impl Wait {
    /// Waits, and longer the next time.
    pub(super) async fn pause(&mut self) {
        sleep(self.next()).await;
    }

    /// How long to wait now; longer the next time.
    pub(super) fn next(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(LONGEST_WAIT);
        half + half.mul_f64(fastrand::f64())
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.next = FIRST_WAIT;
    }
}
