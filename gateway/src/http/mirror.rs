//! Copies of requests for other clusters (Istio `mirror`): made while a request passes, sent once it is whole, each by a task and
//! over connections of its own. Nothing waits for them, and what has become of them is only counted.

use std::{rc::Rc, sync::Arc, time::Duration};

use routing::{mirrors::shadow_host, rule::Rule};

use super::{
    admit::speaks_h2,
    call::{Call, Heard, NoAnswer, Way, call},
    desk::Desk,
    edit,
    exchange::Exchange,
    head::Head,
    limits::{MIRROR, MIRROR_BODY},
    name::Name,
};
use crate::{net::facts::Facts, telemetry::outcomes::Mirroring, upstream::endpoints::Upstream};

/// A request that is being copied.
pub(crate) struct Copying {
    desk: Rc<Desk>,
    to: Vec<Where>,
    message: Message,
    limit: Duration,
    /// Whose request it is.
    client: Rc<Facts>,
    /// Why it is not sent.
    dropped: Option<Mirroring>,
}

/// One cluster that a copy is for.
struct Where {
    upstream: Arc<Upstream>,
    /// Its host is Envoy's shadow of the request's.
    shadow: bool,
    h2: bool,
}

/// What is sent.
struct Message {
    desk: Rc<Desk>,
    head: Head,
    body: Vec<u8>,
    trailers: Option<Head>,
    /// It is one of gRPC.
    grpc: bool,
    /// Room that it takes.
    taken: usize,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.desk.live.mirrored.give_back(self.taken);
    }
}

/// Begins to copy a request whose head goes upstream like this, if its route says so. A request for a tunnel has no end, and is
/// not copied.
pub(crate) fn begin(desk: &Rc<Desk>, exchange: &mut Exchange, sent: &Head, down_h2: bool) -> Option<Box<Copying>> {
    let rule = exchange.rule.as_ref()?;
    let mirrors = rule.mirrors.as_ref()?;
    if sent.upgrade.is_some() || std::mem::replace(&mut exchange.tries.mirrored, true) {
        return None;
    }
    let drawn = mirrors.iter().filter(|mirror| mirror.share.takes(fastrand::u32(..)));
    let to: Vec<Where> = drawn
        .map(|mirror| {
            let upstream = Arc::clone(exchange.installed.upstream(mirror.cluster));
            let h2 = speaks_h2(upstream.cluster.protocol, down_h2);
            Where { upstream, shadow: mirror.shadow, h2 }
        })
        .collect();
    if to.is_empty() {
        return None;
    }
    let mut head = sent.clone();
    head.remove(Name::Expect);
    // It was for the endpoint of the request.
    edit::strip_who(&mut head);
    let grpc = exchange.grpc;
    let message = Message { desk: Rc::clone(desk), head, body: Vec::new(), trailers: None, grpc, taken: 0 };
    Some(Box::new(Copying {
        desk: Rc::clone(desk),
        to,
        message,
        limit: limit(rule),
        client: Rc::clone(&exchange.facts),
        dropped: None,
    }))
}

/// A copy has as long as its request, and never longer than [`MIRROR`].
fn limit(rule: &Rule) -> Duration {
    rule.timeout.map_or(MIRROR, |timeout| timeout.min(MIRROR))
}

impl Copying {
    /// More of the body has come.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if self.dropped.is_some() {
            return;
        }
        let size = self.message.body.len() + bytes.len();
        let wanted = size.next_power_of_two();
        let more = wanted.saturating_sub(self.message.taken);
        self.dropped = if size > MIRROR_BODY {
            Some(Mirroring::TooLarge)
        } else if more > 0 && !self.desk.live.mirrored.take(more) {
            Some(Mirroring::NoRoom)
        } else {
            self.message.taken += more;
            self.message.body.extend_from_slice(bytes);
            None
        };
        if self.dropped.is_some() {
            self.message.body = Vec::new();
            self.desk.live.mirrored.give_back(std::mem::take(&mut self.message.taken));
        }
    }

    /// The request is whole: its copies go their ways.
    pub(crate) fn send(mut self: Box<Self>, trailers: Option<&Head>) {
        if let Some(why) = self.dropped {
            return self.count(why);
        }
        self.message.trailers = trailers.cloned();
        let Self { desk, to, message, limit, client, .. } = *self;
        let message = Rc::new(message);
        for one in to {
            let Some(guard) = one.upstream.mirror() else {
                desk.metrics().mirror(Mirroring::TooMany);
                continue;
            };
            let (message, client) = (Rc::clone(&message), Rc::clone(&client));
            tokio::task::spawn_local(async move {
                let result = deliver(&message, &one, &client, limit).await;
                message.desk.metrics().mirror(result);
                drop(guard);
            });
        }
    }

    /// The request has ended before it was whole.
    pub(crate) fn give_up(self: Box<Self>) {
        self.count(self.dropped.unwrap_or(Mirroring::Incomplete));
    }

    fn count(&self, why: Mirroring) {
        self.to.iter().for_each(|_| self.desk.metrics().mirror(why));
    }
}

/// Sends a copy; its answer is nobody's.
async fn deliver(message: &Message, to: &Where, client: &Rc<Facts>, limit: Duration) -> Mirroring {
    let mut head = message.head.clone();
    head.set(Name::XEnvoyDecorator, to.upstream.decorator.as_bytes());
    let installed = message.desk.live.pin();
    if let Some(own) = installed.own.as_ref().filter(|_| to.upstream.is_mesh()) {
        edit::say_who(own, &mut head);
    }
    if to.shadow {
        let host = shadow_host(head.authority());
        head.set_authority(host.as_bytes());
    }
    let (body, trailers, grpc) = (message.body.as_slice(), message.trailers.as_ref(), message.grpc);
    let copy = Call { head: &head, body, trailers, grpc, again: false };
    let host = head.authority();
    let pools = &message.desk.mirrors;
    let way = Way { upstream: &to.upstream, h2: to.h2, host, pools, waits: false, client };
    match call(&message.desk, way, copy, limit, &mut Heard::default()).await {
        Ok(()) => Mirroring::Answered,
        Err(NoAnswer::Unsent) => Mirroring::NoEndpoint,
        Err(NoAnswer::Lost(_) | NoAnswer::TooLarge) => Mirroring::Failed,
        Err(NoAnswer::TimedOut) => Mirroring::TimedOut,
    }
}

/// What becomes of the copy of a request whose end does not come.
pub(crate) fn abandon(exchange: &mut Exchange) {
    if let Some(copy) = exchange.mirror.take() {
        copy.give_up();
    }
}
