//! Connections whose bytes nobody looks at.

use std::sync::Arc;

use super::{
    Question,
    asking::policies,
    course::{Met, Proxy},
    destinations::{Cut, arrive, destination},
    told::{End, Story},
};
use crate::opaque::OpaqueRule;

/// Where bytes go.
pub(super) struct Bytes<'a> {
    /// `None`: no route is for them.
    pub(super) rule: Option<&'a Arc<OpaqueRule>>,
    /// The server name that it was looked for by; empty = none.
    pub(super) name: &'a str,
}

/// Bytes that come to a gateway: its policies have a word.
pub(super) fn pass(
    proxy: Proxy<'_>,
    bytes: Bytes<'_>,
    (question, met): (&Question, Met<'_>),
    story: &mut Story,
) -> Result<(), End> {
    policies(proxy, (question, met, question.client.to_canonical()), None, story)?;
    follow(proxy, bytes, story)
}

/// Bytes that nobody keeps from their route.
pub(super) fn follow(proxy: Proxy<'_>, bytes: Bytes<'_>, story: &mut Story) -> Result<(), End> {
    let Some(rule) = bytes.rule else {
        let of = if bytes.name.is_empty() { "it".to_owned() } else { format!("the name {}", bytes.name) };
        return Err(End::closed("route", format!("no route is for {of}")));
    };
    story.passed("route", "its bytes go on unread: no HTTP is looked at here", &rule.source);
    for one in &rule.to.all {
        let told = destination(proxy.snapshot, &rule.to, one, (String::new(), String::new()));
        story.told.destinations.push(told);
    }
    arrive(Cut::Closed, story)
}
