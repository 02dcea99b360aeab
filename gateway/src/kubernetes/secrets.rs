//! Secrets: the namespace's names are followed without their contents, and those that something names are read one by
//! one. No other Secret's content ever reaches this process.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    runtime::watcher::{Config, Event, watcher},
};
use routing::resources::{Kind, Parsed};
use tokio::time::timeout;

use super::{
    client::resource,
    objects::{Failure, Objects},
    reflect::{self, Sink},
};

/// Secrets read at the same time.
const AT_ONCE: usize = 16;
/// Longest wait for one.
const READ: Duration = Duration::from_secs(3);

/// Follows the names and versions of a namespace's Secrets, for ever.
pub(super) async fn follow_names(client: Client, namespace: String, objects: Arc<Objects>, streaming: bool) {
    let watch = |version, config: Config| {
        // This type asks for `PartialObjectMetadata`.
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(client.clone(), &namespace, &resource(Kind::Secret, version));
        watcher(api, config)
    };
    reflect::follow(watch, Names { objects: Arc::clone(&objects) }, streaming).await;
}

struct Names {
    objects: Arc<Objects>,
}

impl Names {
    /// Only Secrets that were read matter, and those that were named before they existed.
    fn tell(&self, name: &str) {
        let secrets = self.objects.secrets();
        if secrets.wanted.contains(name) || !secrets.synced {
            self.objects.changed.notify_one();
        }
    }
}

impl Sink<PartialObjectMeta<DynamicObject>> for Names {
    fn kind(&self) -> Kind {
        Kind::Secret
    }

    fn take(&self, event: Event<PartialObjectMeta<DynamicObject>>) {
        let of = |object: PartialObjectMeta<DynamicObject>| {
            (object.metadata.name.unwrap_or_default(), object.metadata.resource_version.unwrap_or_default())
        };
        match event {
            Event::Init => self.objects.secrets().listing.clear(),
            Event::InitApply(object) => {
                self.objects.secrets().listing.extend([of(object)]);
            }
            Event::InitDone => {
                let mut secrets = self.objects.secrets();
                secrets.versions = std::mem::take(&mut secrets.listing);
                (secrets.synced, secrets.failure) = (true, None);
                drop(secrets);
                self.objects.changed.notify_one();
            }
            Event::Apply(object) => {
                let (name, version) = of(object);
                self.objects.secrets().versions.insert(name.clone(), version);
                self.tell(&name);
            }
            Event::Delete(object) => {
                let (name, _) = of(object);
                self.objects.secrets().versions.remove(&name);
                self.tell(&name);
            }
        }
    }

    fn unknown(&self, failure: Failure) {
        self.failed(Some(failure));
    }

    fn failed(&self, failure: Option<Failure>) {
        self.objects.secrets().failure = failure;
        self.objects.changed.notify_one();
    }
}

/// Reads those of the `wanted` Secrets that are there in a version not read yet, and forgets those that are gone or that
/// nothing names any more. True when anything changed.
pub(super) async fn read_wanted(client: &Client, namespace: &str, wanted: BTreeSet<String>, objects: &Objects) -> bool {
    let (unread, mut changed) = {
        let mut secrets = objects.secrets();
        let before = secrets.read.len();
        let secrets = &mut *secrets;
        secrets.read.retain(|name, _| wanted.contains(name) && secrets.versions.contains_key(name));
        secrets.unread.retain(|name, _| wanted.contains(name) && secrets.versions.contains_key(name));
        let stale = |name: &&String| {
            secrets.versions.get(*name).is_some_and(|version| secrets.read.get(*name).is_none_or(|it| it.0 != *version))
        };
        let unread: Vec<String> = wanted.iter().filter(stale).cloned().collect();
        let changed = before != secrets.read.len();
        secrets.wanted = wanted;
        (unread, changed)
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(Kind::Secret, 0));
    let mut answers = stream::iter(unread)
        .map(|name| {
            let api = api.clone();
            async move { (read_one(&api, &name).await, name) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((answer, name)) = answers.next().await {
        let mut secrets = objects.secrets();
        match answer {
            Ok(Some((version, parsed))) => {
                secrets.unread.remove(&name);
                // What is read may be newer than what the watch has told; it must not be read again for that.
                secrets.versions.insert(name.clone(), version.clone());
                secrets.read.insert(name, (version, parsed));
                changed = true;
            }
            // Deleted meanwhile; the watch will say so too.
            Ok(None) => {
                secrets.versions.remove(&name);
                changed |= secrets.read.remove(&name).is_some();
            }
            Err(failure) => changed |= secrets.unread.insert(name, failure.clone()) != Some(failure),
        }
    }
    changed
}

/// Whether a Secret that is wanted could not be read, so that it should be tried again.
pub(super) fn some_unread(objects: &Objects) -> bool {
    !objects.secrets().unread.is_empty()
}

async fn read_one(api: &Api<DynamicObject>, name: &str) -> Result<Option<(String, Parsed)>, Failure> {
    let what = format!("Secret `{name}`");
    match timeout(READ, api.get_opt(name)).await {
        Ok(Ok(Some(object))) => {
            let version = object.metadata.resource_version.clone().unwrap_or_default();
            Ok(Some((version, reflect::read(Kind::Secret, object))))
        }
        Ok(Ok(None)) => Ok(None),
        Ok(Err(error)) => Err(reflect::api_failure(&error, &what)),
        Err(_) => Err(reflect::silence(&what, READ)),
    }
}
