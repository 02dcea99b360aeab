//! Which trace a request belongs to: what its sender says, or what is decided here; and what is said to whoever is next.

use std::sync::Arc;

use super::{exchange::Exchange, head::Head, name::Name};
use crate::net::facts::Arrival;
use http::HeaderName;
use routing::{
    api::telemetry::WorkloadMode,
    request::Headers as _,
    rule::EditHeaders as _,
    telemetry::{
        context::{self, Parent},
        tracing::{Context, SHARES, Tracing},
    },
};
use tokio::time::Instant;

const W3C: HeaderName = HeaderName::from_static("traceparent");
const B3: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const CLIENT_TRACE: HeaderName = HeaderName::from_static("x-client-trace-id");
const FORCED: HeaderName = HeaderName::from_static("x-envoy-force-trace");

/// Where Envoy's request ids tell why a request is traced.
const REASON: usize = 14;

/// A request's place in its trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Trace {
    /// The trace.
    pub(crate) id: u128,
    /// Its own span here.
    pub(crate) span: u64,
    /// The span of whoever is next: of a gateway one of its own, since it serves and calls; else [`Self::span`].
    pub(crate) next: u64,
    /// The sender's span; 0 = there is none.
    pub(crate) parent: u64,
    /// Its spans are told.
    pub(crate) sampled: bool,
    /// When the current try began, of one whose spans are told.
    pub(crate) begun: Option<Instant>,
    /// It was decided here that they are, and so why: as Envoy's request ids tell it.
    reason: Option<u8>,
}

/// The side of a request that this proxy is on.
pub(super) fn side(exchange: &Exchange) -> WorkloadMode {
    match exchange.arrival() {
        Arrival::Inbound { .. } => WorkloadMode::Server,
        _ => WorkloadMode::Client,
    }
}

/// How requests of this side are traced; `None`: they are not.
pub(super) fn tracing(exchange: &Exchange) -> Option<&Arc<Tracing>> {
    exchange.installed.snapshot.telemetry.as_ref()?.traced.get(side(exchange))
}

/// Finds out where a request belongs.
pub(super) fn begin(exchange: &mut Exchange, request: &Head) {
    let Some(tracing) = tracing(exchange) else { return };
    let edge = matches!(exchange.arrival(), Arrival::Gateway { .. });
    let parent = parent(tracing.context, request);
    let (decided, reason) =
        match parent.and_then(|parent| parent.sampled).or_else(|| decision(tracing.context, request)) {
            Some(decided) => (decided, None),
            None => {
                let reason = reason(tracing, request, edge);
                (reason.is_some(), reason)
            }
        };
    let span = some(fastrand::u64);
    exchange.trace = Some(Trace {
        id: parent.map_or_else(|| fresh(tracing.short_ids), |parent| parent.trace),
        span,
        next: if edge { some(fastrand::u64) } else { span },
        parent: parent.map_or(0, |parent| parent.span),
        sampled: decided,
        begun: None,
        reason,
    });
}

/// A try begins. At a gateway each has a span of its own, under which the endpoint's stands.
pub(super) fn begin_try(exchange: &mut Exchange) {
    let Some(trace) = exchange.trace.as_mut().filter(|trace| trace.sampled) else { return };
    let again = trace.begun.replace(Instant::now()).is_some();
    if again && trace.next != trace.span {
        trace.next = some(fastrand::u64);
    }
}

/// The id of a trace that begins here.
fn fresh(short: bool) -> u128 {
    if short { some(fastrand::u64).into() } else { some(fastrand::u128) }
}

/// A number that is not 0, which stands for none.
fn some<T: Default + PartialEq>(draw: impl Fn(std::ops::RangeFull) -> T) -> T {
    loop {
        let drawn = draw(..);
        if drawn != T::default() {
            return drawn;
        }
    }
}

/// The sender's span, by the headers that are meant here, or by the others.
fn parent(context: Context, request: &Head) -> Option<Parent> {
    let w3c = || context::of_w3c(request.nth(&W3C, 0)?);
    let b3 = || {
        let fields = || {
            let [trace, span] = [request.nth(&TRACE, 0)?, request.nth(&SPAN, 0)?];
            context::of_b3_fields(trace, span, request.nth(&SAMPLED, 0), request.nth(&FLAGS, 0))
        };
        request.nth(&B3, 0).and_then(context::of_b3).or_else(fields)
    };
    if context == Context::W3c { w3c().or_else(b3) } else { b3().or_else(w3c) }
}

/// What the sender has decided without a span of his own.
fn decision(context: Context, request: &Head) -> Option<bool> {
    if context == Context::W3c {
        return None;
    }
    let one = request.nth(&B3, 0).and_then(context::decision_of_b3);
    one.or_else(|| context::decision(request.nth(&SAMPLED, 0), request.nth(&FLAGS, 0)))
}

/// Why a request is traced whose sender has not decided it, as Envoy's request ids tell it; `None`: it is not.
fn reason(tracing: &Tracing, request: &Head, edge: bool) -> Option<u8> {
    if tracing.by_request_id && !edge {
        let said = request.value(Name::XRequestId).filter(|id| id.len() == 36).map(|id| id[REASON]);
        if let Some(said @ (b'9' | b'a' | b'b')) = said {
            return Some(said);
        }
    }
    if request.nth(&CLIENT_TRACE, 0).is_some() {
        return Some(b'a');
    }
    // From outside it is not believed.
    if !edge && request.nth(&FORCED, 0).is_some() {
        return Some(b'9');
    }
    (tracing.share > 0 && fastrand::u32(..SHARES) < tracing.share).then_some(b'b')
}

/// Tells whoever is next, in the place of what the sender has said.
pub(super) fn pass_on(exchange: &Exchange, head: &mut Head) {
    let Some(trace) = &exchange.trace else { return };
    let Some(tracing) = tracing(exchange) else { return };
    if let Some(reason) = trace.reason.filter(|_| tracing.by_request_id) {
        mark(head, reason);
    }
    if !tracing.propagates {
        return;
    }
    if tracing.context != Context::B3 {
        set(head, &W3C, &context::w3c(trace.id, trace.next, trace.sampled));
    }
    if tracing.context != Context::W3c {
        let parent = if trace.next == trace.span { trace.parent } else { trace.span };
        // What the sender has said must not contradict what is said now.
        for name in [&B3, &PARENT, &FLAGS] {
            head.remove_all(name);
        }
        set(head, &TRACE, context::b3_digits(&context::trace_text(trace.id)));
        set(head, &SPAN, &context::span_text(trace.next));
        if parent != 0 {
            set(head, &PARENT, &context::span_text(parent));
        }
        set(head, &SAMPLED, if trace.sampled { b"1" } else { b"0" });
    }
}

fn set(head: &mut Head, name: &HeaderName, value: &[u8]) {
    head.remove_all(name);
    head.push(name.as_str().as_bytes(), value);
}

/// Says in the request's id why it is traced.
fn mark(head: &mut Head, reason: u8) {
    let mut text = [0; 36];
    match head.value(Name::XRequestId) {
        Some(id) if id.len() == text.len() && matches!(id[REASON], b'4' | b'9' | b'a' | b'b') => {
            text.copy_from_slice(id)
        }
        _ => return,
    }
    text[REASON] = reason;
    head.set(Name::XRequestId, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracing(share: u32) -> Tracing {
        Tracing {
            share,
            propagates: true,
            by_request_id: true,
            istio_tags: true,
            tags: Box::default(),
            longest_path: 256,
            context: Context::W3c,
            short_ids: false,
            collector: None,
        }
    }

    fn with(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        fields.iter().for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()));
        head
    }

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_headers_that_are_meant_here_come_first_and_the_others_count_too() {
        let w3c = format!("00-{ID}-00f067aa0ba902b7-01");
        let both = with(&[("traceparent", &w3c), ("x-b3-traceid", ID), ("x-b3-spanid", "00000000000000aa")]);
        assert_eq!(parent(Context::W3c, &both).map(|it| it.span), Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(parent(Context::B3, &both).map(|it| it.span), Some(0xaa));
        let b3 = with(&[("b3", &format!("{ID}-00000000000000bb-1"))]);
        assert_eq!(parent(Context::W3c, &b3).map(|it| it.span), Some(0xbb));
        assert_eq!(parent(Context::W3c, &with(&[("traceparent", "nonsense")])), None);
    }

    #[test]
    fn a_reason_is_given_by_the_id_the_headers_or_by_chance() {
        let id = |reason: &str| with(&[("x-request-id", &format!("1b9d6bcd-bbfd-{reason}b2d-9b5d-ab8dfbbd4bed"))]);
        assert_eq!(reason(&tracing(0), &id("4"), false), None);
        assert_eq!(reason(&tracing(0), &id("9"), false), Some(b'9'));
        assert_eq!(reason(&tracing(0), &id("9"), true), None, "from outside nothing is believed");
        assert_eq!(reason(&tracing(0), &with(&[("x-envoy-force-trace", "1")]), false), Some(b'9'));
        assert_eq!(reason(&tracing(0), &with(&[("x-envoy-force-trace", "1")]), true), None);
        assert_eq!(reason(&tracing(0), &with(&[("x-client-trace-id", "1")]), true), Some(b'a'));
        assert_eq!(reason(&tracing(SHARES), &Head::default(), true), Some(b'b'));
        assert_eq!(reason(&tracing(0), &Head::default(), true), None);
    }

    #[test]
    fn short_ids_have_64_bits_on_the_wire_and_others_128() {
        for _ in 0..1000 {
            let text = context::trace_text(fresh(true));
            assert_eq!(context::b3_digits(&text).len(), 16);
        }
        let long = (0..1000).filter(|_| context::b3_digits(&context::trace_text(fresh(false))).len() == 32);
        assert_eq!(long.count(), 1000);
    }

    #[test]
    fn the_share_is_kept() {
        let tracing = tracing(1000);
        let traced = (0..20_000).filter(|_| reason(&tracing, &Head::default(), true).is_some()).count();
        assert!((1700..2300).contains(&traced), "{traced}");
    }

    #[test]
    fn an_id_is_marked_where_it_is_one() {
        let mut head = with(&[("x-request-id", "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")]);
        mark(&mut head, b'b');
        assert_eq!(head.str(Name::XRequestId), Some("1b9d6bcd-bbfd-bb2d-9b5d-ab8dfbbd4bed"));
        let mut head = with(&[("x-request-id", "mine")]);
        mark(&mut head, b'b');
        assert_eq!(head.str(Name::XRequestId), Some("mine"));
    }
}
