//! Watches: changes after a revision, bookmarks, and how they end.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

use super::{
    Shared,
    call::Call,
    refusal::Refusal,
    selector::Selector,
    state::{State, StreamingLists},
    store::{Change, Page, Stored},
};

/// One open watch.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    signal: watch::Receiver<u64>,
    call: Call,
    selector: Selector,
    /// The last revision that was told.
    revision: u64,
    /// Waiting to be sent.
    ready: Vec<u8>,
    deadline: Option<Instant>,
    next_bookmark: Option<(Instant, Duration)>,
    drops: u64,
    expirations: u64,
    ended: bool,
}

impl Watcher {
    /// Starts one; its first bytes are ready when there is something to tell already.
    pub(crate) fn start(shared: &Arc<Shared>, state: &State, call: Call) -> Result<Self, Refusal> {
        let selector = call.selector()?;
        let asked = call.query.number("resourceVersion")?;
        let seconds = call.query.number("timeoutSeconds")?;
        let expirations = state.tables.get(&call.kind.storage).map_or(0, |table| table.expirations);
        let bookmarks = call.query.flag("allowWatchBookmarks").then_some(state.bookmarks);
        let mut watcher = Self {
            signal: shared.signal.subscribe(),
            shared: Arc::clone(shared),
            selector,
            revision: state.revision,
            ready: Vec::new(),
            deadline: seconds.filter(|it| *it > 0).map(|it| Instant::now() + Duration::from_secs(it)),
            next_bookmark: bookmarks.map(|pause| (Instant::now() + pause, pause)),
            drops: state.drops,
            expirations,
            ended: false,
            call,
        };
        watcher.begin(state, asked)?;
        Ok(watcher)
    }

    fn begin(&mut self, state: &State, asked: Option<u64>) -> Result<(), Refusal> {
        if let Some(asked) = asked.filter(|asked| *asked > state.revision) {
            return Err(Refusal::too_large(asked, state.revision));
        }
        if !self.call.query.text("sendInitialEvents").is_empty() {
            return self.begin_with_list(state);
        }
        match asked {
            None | Some(0) => self.tell_all(state),
            Some(asked) if asked < state.compacted => self.fail(&Refusal::expired(asked, state.compacted)),
            Some(asked) => {
                self.revision = asked;
                self.advance(state);
            }
        }
        Ok(())
    }

    fn begin_with_list(&mut self, state: &State) -> Result<(), Refusal> {
        let refuse =
            |why: &str| Err(Refusal::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {why}")));
        if self.call.query.text("resourceVersionMatch") != "NotOlderThan" {
            return refuse(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        match state.streaming_lists {
            StreamingLists::Refused => refuse(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            ),
            StreamingLists::OldEtcd => {
                let why =
                    "resource version: a streaming list needs RequestWatchProgress, which this etcd does not have";
                self.fail(&Refusal::new(500, "InternalError", why));
                Ok(())
            }
            StreamingLists::Served => {
                if self.call.query.flag("sendInitialEvents") {
                    self.tell_all(state);
                    if self.next_bookmark.is_some() {
                        self.bookmark(json!({"k8s.io/initial-events-end": "true"}));
                    }
                }
                Ok(())
            }
        }
    }

    /// The next bytes of the stream; `None` = it ended.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.look();
            if !self.ready.is_empty() {
                return Some(Bytes::from(std::mem::take(&mut self.ready)));
            }
            if self.ended {
                return None;
            }
            let far = Instant::now() + Duration::from_secs(86_400);
            tokio::select! {
                changed = self.signal.changed() => if changed.is_err() { return None },
                () = sleep_until(self.deadline.unwrap_or(far)) => self.ended = true,
                () = sleep_until(self.next_bookmark.map_or(far, |(at, _)| at)) => self.due_bookmark(),
            }
        }
    }

    /// Collects what happened.
    fn look(&mut self) {
        if self.ended {
            return;
        }
        self.signal.mark_unchanged();
        let shared = Arc::clone(&self.shared);
        let state = shared.state();
        if state.drops != self.drops {
            self.ended = true;
            return;
        }
        let expirations = state.tables.get(&self.call.kind.storage).map_or(0, |table| table.expirations);
        if expirations != self.expirations || self.revision < state.compacted.saturating_sub(1) {
            self.fail(&Refusal::expired(self.revision, state.compacted));
            return;
        }
        self.advance(&state);
    }

    fn advance(&mut self, state: &State) {
        if let Some(table) = state.tables.get(&self.call.kind.storage) {
            for change in table.since(self.revision) {
                self.tell(change);
            }
        }
        self.revision = state.revision;
    }

    fn tell_all(&mut self, state: &State) {
        let page = Page { namespace: &self.call.namespace, selector: &self.selector, limit: 0, after: None };
        let (objects, _) = page.take(state.objects(&self.call.kind));
        for object in objects {
            self.event("ADDED", &object);
        }
    }

    /// One change as the selector makes it look: what enters it was added, what leaves it was deleted.
    fn tell(&mut self, change: &Change) {
        if !self.call.namespace.is_empty() && change.key.0 != self.call.namespace {
            return;
        }
        let selected = |object: &Arc<Stored>| self.selector.selects(&object.value);
        let was = change.before.as_ref().is_some_and(selected);
        let is = !change.deleted && selected(&change.after);
        match (was, is) {
            (false, true) => self.event("ADDED", &change.after),
            (true, true) => self.event("MODIFIED", &change.after),
            (true, false) => self.event("DELETED", &change.after),
            (false, false) => {}
        }
    }

    fn event(&mut self, what: &str, object: &Stored) {
        self.ready.extend_from_slice(format!("{{\"type\":\"{what}\",\"object\":").as_bytes());
        object.write(&mut self.ready, &self.call.view(), true);
        self.ready.extend_from_slice(b"}\n");
    }

    fn due_bookmark(&mut self) {
        if let Some((at, pause)) = &mut self.next_bookmark {
            *at = Instant::now() + *pause;
        }
        self.bookmark(Value::Null);
    }

    fn bookmark(&mut self, annotations: Value) {
        let mut metadata = json!({"resourceVersion": self.revision.to_string(), "creationTimestamp": null});
        if !annotations.is_null() {
            metadata["annotations"] = annotations;
        }
        let (kind, version) = match self.call.form {
            super::store::Form::Whole => (self.call.kind.kind.clone(), self.call.kind.api_version(&self.call.version)),
            super::store::Form::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let event = json!({
            "type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": metadata},
        });
        self.ready.extend_from_slice(event.to_string().as_bytes());
        self.ready.push(b'\n');
    }

    /// An ERROR event is the last one.
    fn fail(&mut self, refusal: &Refusal) {
        let event = json!({"type": "ERROR", "object": refusal.status()});
        self.ready.extend_from_slice(event.to_string().as_bytes());
        self.ready.push(b'\n');
        self.ended = true;
    }
}
