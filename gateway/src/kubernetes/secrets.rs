//! Secrets: the namespace's names are followed without their contents, and those that something names are read: one by one,
//! or in pages where nearly all that there are have to be read anyway. What nothing names is dropped unread from a page.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, PartialObjectMeta},
    runtime::watcher::{Config, Event, watcher},
};
use routing::resources::{Kind, Parsed};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    kinds::resource,
    objects::{Failure, Objects, Secrets},
    reflect::{self, Sink},
};

/// Secrets read at the same time.
const AT_ONCE: usize = 32;
/// So many and more are read in pages, if they are [`MOSTLY`] what there is.
const MANY: usize = 100;
/// Of the namespace's Secrets, the part that is wanted when pages are asked for, as one in so many.
const MOSTLY: usize = 2;
/// The types of Secrets that are asked for in pages, most likely first. Releases of Helm and tokens are of others.
const TYPES: [&str; 2] = ["kubernetes.io/tls", "Opaque"];
/// Secrets in one page. Each may have 1 MiB.
const PAGE: u32 = 250;
/// Longest wait for those that are read in one go; what is missing then is tried again.
const READ: Duration = Duration::from_secs(5);

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
        let mut secrets = self.objects.secrets();
        if secrets.failure != failure {
            secrets.failure = failure;
            self.objects.changed.notify_one();
        }
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
        let stale = |name: &String| {
            let version = secrets.versions.get(name)?;
            let known = secrets.read.get(name).is_some_and(|(read, _)| read == version);
            (!known).then(|| (name.clone(), version.clone()))
        };
        let unread: Vec<(String, String)> = wanted.iter().filter_map(stale).collect();
        let changed = before != secrets.read.len();
        secrets.wanted = wanted;
        (unread, changed)
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(Kind::Secret, 0));
    // All of them together, since whatever else has changed waits for it.
    let end = Instant::now() + READ;
    // Pages may take half of it, so that every round gets on also where they are slow.
    let end_of_pages = Instant::now() + READ / 2;
    let mut unread: BTreeMap<String, String> = unread.into_iter().collect();
    for of_type in TYPES {
        if unread.len() >= MANY && unread.len() * MOSTLY >= objects.secrets().versions.len() {
            changed |= read_pages(&api, of_type, &mut unread, objects, end_of_pages).await;
        }
    }
    let mut answers = stream::iter(unread)
        .map(|(name, version)| {
            let api = api.clone();
            async move { (read_one(&api, &name, end).await, name, version) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((answer, name, version)) = answers.next().await {
        changed |= take(&mut objects.secrets(), answer, name, version);
    }
    changed
}

/// Reads all Secrets of a type and takes those that are `unread`. What an answer that fails would have brought stays unread,
/// to be read one by one. True when anything changed.
async fn read_pages(
    api: &Api<DynamicObject>,
    of_type: &str,
    unread: &mut BTreeMap<String, String>,
    objects: &Objects,
    end: Instant,
) -> bool {
    let mut params = ListParams::default().fields(&format!("type={of_type}")).limit(PAGE);
    let mut changed = false;
    loop {
        let page = match timeout_at(end, api.list(&params)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                debug!(of_type, %error, "a page of Secrets");
                return changed;
            }
            Err(_) => return changed,
        };
        for object in page.items {
            let name = object.metadata.name.clone().unwrap_or_default();
            let Some(asked) = unread.remove(&name) else { continue };
            let parsed = reflect::read(Kind::Secret, object);
            changed |= take(&mut objects.secrets(), Ok(Some(parsed)), name, asked);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if !unread.is_empty() => params = params.continue_token(&token),
            _ => return changed,
        }
    }
}

/// Keeps what a request has brought, under the version that was known when it was made: the watch alone tells versions, so
/// a Secret that has changed meanwhile is read once more. True when anything changed.
fn take(secrets: &mut Secrets, answer: Result<Option<Parsed>, Failure>, name: String, asked: String) -> bool {
    match answer {
        Ok(Some(parsed)) => {
            secrets.unread.remove(&name);
            secrets.read.insert(name, (asked, parsed));
            true
        }
        // Deleted; when it is there again, the watch has told a newer version.
        Ok(None) => {
            if secrets.versions.get(&name) == Some(&asked) {
                secrets.versions.remove(&name);
            }
            secrets.unread.remove(&name);
            secrets.read.remove(&name).is_some()
        }
        Err(failure) => secrets.unread.insert(name, failure.clone()) != Some(failure),
    }
}

/// Whether a Secret that is wanted could not be read, so that it should be tried again.
pub(super) fn some_unread(objects: &Objects) -> bool {
    !objects.secrets().unread.is_empty()
}

async fn read_one(api: &Api<DynamicObject>, name: &str, end: Instant) -> Result<Option<Parsed>, Failure> {
    let what = format!("Secret `{name}`");
    if Instant::now() >= end {
        // Not even begun, which would be a request for nothing.
        return Err(reflect::silence(&what, READ));
    }
    match timeout_at(end, api.get_opt(name)).await {
        Ok(Ok(object)) => Ok(object.map(|object| reflect::read(Kind::Secret, object))),
        Ok(Err(error)) => Err(reflect::api_failure(&error, &what)),
        Err(_) => Err(reflect::silence(&what, READ)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(version: &str) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.versions.insert("cert".to_owned(), version.to_owned());
        secrets
    }

    #[test]
    fn a_secret_that_changes_while_it_is_read_stays_stale() {
        let mut newer = secrets("6");
        assert!(take(&mut newer, Ok(Some(Parsed::default())), "cert".to_owned(), "5".to_owned()));
        assert_eq!((newer.versions["cert"].as_str(), newer.read["cert"].0.as_str()), ("6", "5"));
    }

    #[test]
    fn a_secret_that_comes_back_while_it_is_read_is_not_forgotten() {
        let mut back = secrets("6");
        assert!(!take(&mut back, Ok(None), "cert".to_owned(), "5".to_owned()));
        assert!(back.versions.contains_key("cert"));
        let mut gone = secrets("5");
        take(&mut gone, Ok(None), "cert".to_owned(), "5".to_owned());
        assert!(gone.versions.is_empty());
    }
}
