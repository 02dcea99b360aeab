//! Takes back what the replicas of one gateway have told about objects, when the gateway goes for good: nobody else would, and
//! `Programmed` would stay true for ever.

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use routing::resources::Kind;
use tokio::time::{Instant, sleep};

use super::{
    client,
    conditions::{self, KINDS, Key},
    kinds::resource,
    lease::{Election, NOTICED, name_of},
    pace::Pace,
    reflect::Wait,
    write::{AT_ONCE, BURST, Failed, Job, PER_SECOND, Written, manager, status_managers},
};
use crate::settings::{KubernetesSettings, Whose};

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// How often one status is tried.
const TRIES: usize = 5;

/// Takes the conditions off every object that this gateway wrote them to. Its replicas stop to write while this goes on and
/// for 15 s after it, since the Lease of their leader is taken. Gives how many objects there were.
///
/// # Errors
/// The API server cannot be reached, or refuses.
pub(crate) async fn withdraw(settings: &KubernetesSettings, whose: &Whose) -> Result<usize> {
    let client = client::connect(settings).await?;
    let lease = name_of(&whose.workload);
    let mut election = Election::new(client.clone(), &whose.namespace, lease.clone(), whose.replica.clone());
    let taken = election.seize().await;
    taken.with_context(|| format!("taking the Lease {}/{lease} of the replica that writes status", whose.namespace))?;
    tokio::select! {
        () = election.run() => bail!("the Lease {}/{lease} was lost", whose.namespace),
        done = take_back(&client, whose) => done,
    }
}

async fn take_back(client: &Client, whose: &Whose) -> Result<usize> {
    sleep(NOTICED).await;
    let manager = manager(&whose.namespace, &whose.workload);
    let mut jobs = Vec::new();
    for kind in KINDS {
        jobs.extend(told(client, kind, &manager).await?);
    }
    let mut pace = Pace::new(PER_SECOND, BURST);
    let count = jobs.len();
    let mut done = stream::iter(jobs)
        .map(|mut job| {
            for _ in 0..job.requests() {
                job.not_before = pace.next();
            }
            async move { (insist(&job).await, job.key) }
        })
        .buffer_unordered(AT_ONCE);
    let (mut failures, mut first) = (0, None);
    while let Some((written, (kind, namespace, name))) = done.next().await {
        if let Err(failed) = written {
            failures += 1;
            first.get_or_insert(format!("{} {namespace}/{name}: {}", kind.name(), failed.text));
        }
    }
    match first {
        None => Ok(count),
        Some(first) => bail!("{failures} of {count} statuses still say what they did, the first one {first}"),
    }
}

/// The objects of a kind to whose status `manager` wrote conditions that are still there.
async fn told(client: &Client, kind: Kind, manager: &str) -> Result<Vec<Job>> {
    let (mut version, mut params, mut jobs) = (0, ListParams::default().limit(PAGE), Vec::new());
    loop {
        let of_kind = resource(kind, version);
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &of_kind);
        let page = match all.list(&params).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                version += 1;
                if version < kind.group_versions().1.len() {
                    continue;
                }
                // The cluster does not have the kind.
                return Ok(jobs);
            }
            Err(error) => return Err(error).with_context(|| format!("listing {}s", kind.name())),
        };
        for object in page.items {
            let ours = status_managers(&object).any(|it| it == manager);
            if !ours || conditions::read(&object.data["status"]).0.is_empty() {
                continue;
            }
            let key: Key =
                (kind, object.metadata.namespace.unwrap_or_default(), object.metadata.name.unwrap_or_default());
            jobs.push(Job {
                api: Api::namespaced_with(client.clone(), &key.1, &of_kind),
                manager: manager.to_owned(),
                target: Vec::new(),
                generation: 0,
                told: conditions::digest(&[], 0),
                uid: object.metadata.uid,
                rejected: None,
                changed: None,
                blank: None,
                not_before: Instant::now(),
                key,
            });
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(jobs),
        }
    }
}

/// Tries until it is done, but not for ever.
async fn insist(job: &Job) -> Result<(), Failed> {
    let mut wait = Wait::default();
    let mut left = TRIES;
    loop {
        left -= 1;
        match job.run().await {
            Ok(Written::Done { .. } | Written::Gone) => return Ok(()),
            Ok(Written::Again(_)) if left > 0 => {}
            Ok(Written::Again(_)) => return Err(Failed::of_changes()),
            Err(failed) if failed.refused || left == 0 => return Err(failed),
            Err(failed) => match failed.after {
                Some(pause) => sleep(pause).await,
                None => wait.pause().await,
            },
        }
    }
}
