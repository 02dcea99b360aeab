//! What a provider says of a request, whatever it was asked by, and what that does to heads.

use http::{HeaderName, HeaderValue};
use routing::{request::Headers as _, rule::EditHeaders};

use crate::http::{head::Head, name::Name};

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It may go on, changed like this.
    Allow(Box<Grant>),
    /// It may not.
    Deny(Box<Denial>),
}

/// What a yes changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Grant {
    /// Of the request.
    pub(crate) request: Vec<Edit>,
    /// Fields of the request that go.
    pub(crate) remove: Vec<HeaderName>,
    /// Of its query: names, each with its value or without.
    pub(crate) query: Vec<(String, Option<String>)>,
    /// Of the answer.
    pub(crate) response: Vec<Edit>,
}

/// The client's answer to a no.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Denial {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Edit>,
    pub(crate) body: Vec<u8>,
}

/// A field of a head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Edit {
    pub(crate) how: How,
    name: HeaderName,
    value: HeaderValue,
}

/// What becomes of fields of that name which are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// They are replaced.
    Set,
    /// They stay, and it stands beside them.
    Add,
    /// They stay, and it is dropped.
    IfAbsent,
    /// They are replaced; without them it is dropped.
    IfPresent,
}

impl Edit {
    /// `None`: no field that a provider decides about. What frames a message, what is one hop's, and pseudo-fields are not; nor
    /// is what is no field at all.
    pub(crate) fn new(how: How, name: &[u8], value: &[u8]) -> Option<Self> {
        let name = editable(name)?;
        Some(Self { how, name, value: HeaderValue::from_bytes(value.trim_ascii()).ok()? })
    }

    fn apply(&self, head: &mut Head) {
        let there = || head.nth(&self.name, 0).is_some();
        match self.how {
            How::Set => EditHeaders::set(head, &self.name, self.value.clone()),
            How::IfPresent if there() => EditHeaders::set(head, &self.name, self.value.clone()),
            How::IfAbsent if there() => {}
            How::IfAbsent | How::Add => head.add(&self.name, self.value.clone()),
            How::IfPresent => {}
        }
    }
}

/// The name of a field that a provider may set or remove.
pub(crate) fn editable(name: &[u8]) -> Option<HeaderName> {
    let known = Name::of(name);
    let framing = matches!(known, Name::ContentLength | Name::Host | Name::Trailer | Name::Expect);
    if framing || known.is_hop_by_hop() { None } else { HeaderName::from_bytes(name).ok() }
}

/// Edits of a head of our own: what is set goes first, whatever its number, so that a field may be set several times.
pub(crate) fn compose(head: &mut Head, edits: &[Edit]) {
    for edit in edits.iter().filter(|edit| edit.how == How::Set) {
        head.remove_all(&edit.name);
    }
    for edit in edits {
        match edit.how {
            How::Set => head.add(&edit.name, edit.value.clone()),
            _ => edit.apply(head),
        }
    }
}

impl Grant {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes_nothing_of_the_request() && self.response.is_empty()
    }

    /// Whether the request stays as it is.
    pub(crate) fn changes_nothing_of_the_request(&self) -> bool {
        self.request.is_empty() && self.remove.is_empty() && self.query.is_empty()
    }

    /// Changes the request.
    pub(crate) fn apply(&self, head: &mut Head) {
        self.remove.iter().for_each(|name| head.remove_all(name));
        self.request.iter().for_each(|edit| edit.apply(head));
        if !self.query.is_empty() {
            let target = with_query(head.path(), head.query(), &self.query);
            head.set_target(target.as_bytes());
        }
    }

    /// What the proxy has set since, as on every request, is the provider's again.
    pub(crate) fn reassert(&self, head: &mut Head) {
        self.remove.iter().for_each(|name| head.remove_all(name));
        self.request.iter().filter(|edit| edit.how == How::Set).for_each(|edit| edit.apply(head));
    }

    /// Changes the answer.
    pub(crate) fn answer(&self, head: &mut Head) {
        self.response.iter().for_each(|edit| edit.apply(head));
    }
}

/// A target whose query has these parameters and others not.
fn with_query(path: &str, query: Option<&str>, edits: &[(String, Option<String>)]) -> String {
    let named = |part: &str, name: &str| part.split_once('=').map_or(part, |(key, _)| key) == name;
    let edited = |part: &&str| edits.iter().any(|(name, _)| named(part, name));
    let kept = query.unwrap_or_default().split('&').filter(|part| !part.is_empty() && !edited(part)).map(str::to_owned);
    let set = edits.iter().enumerate().filter_map(|(at, (name, value))| {
        // The last word on a name holds.
        let last = !edits[at + 1..].iter().any(|(later, _)| later == name);
        value.as_ref().filter(|_| last).map(|value| format!("{}={}", escaped(name), escaped(value)))
    });
    let parts: Vec<String> = kept.chain(set).collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

fn escaped(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(how: How, name: &str, value: &str) -> Edit {
        Edit::new(how, name.as_bytes(), value.as_bytes()).unwrap()
    }

    fn spelled(head: &Head) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        head.fields().map(|(_, name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    #[test]
    fn what_frames_a_message_is_nobodys_to_set() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "keep-alive",
            "TE",
            "upgrade",
            "proxy-connection",
            "Host",
            ":path",
            ":authority",
            "a b",
            "",
            "trailer",
            "expect",
            "http2-settings",
        ] {
            assert_eq!(Edit::new(How::Set, name.as_bytes(), b"1"), None, "{name}");
        }
        for value in ["a\r\nb: c", "a\nb", "\0"] {
            assert_eq!(Edit::new(How::Set, b"x-a", value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn each_way_of_editing_does_what_it_says() {
        let mut head = Head::default();
        for (name, value) in [("x-set", "1"), ("x-add", "1"), ("x-absent", "1"), ("x-present", "1"), ("x-gone", "1")] {
            head.push(name.as_bytes(), value.as_bytes());
        }
        let grant = Grant {
            request: vec![
                edit(How::Set, "X-Set", "2"),
                edit(How::Add, "x-add", "2"),
                edit(How::IfAbsent, "x-absent", "2"),
                edit(How::IfPresent, "x-present", "2"),
                edit(How::IfPresent, "x-nobody", "2"),
                edit(How::IfAbsent, "x-new", "2"),
            ],
            remove: vec![HeaderName::from_static("x-gone")],
            ..Grant::default()
        };
        grant.apply(&mut head);
        let wanted = ["x-add: 1", "x-absent: 1", "x-set: 2", "x-add: 2", "x-present: 2", "x-new: 2"];
        assert_eq!(spelled(&head), wanted);
    }

    #[test]
    fn an_answer_may_set_a_field_several_times() {
        let mut head = Head::default();
        head.push(b"set-cookie", b"old");
        compose(&mut head, &[edit(How::Set, "set-cookie", "a"), edit(How::Set, "Set-Cookie", "b")]);
        assert_eq!(spelled(&head), ["set-cookie: a", "set-cookie: b"]);
    }

    #[test]
    fn a_query_is_edited_by_names() {
        let set = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let gone = |name: &str| (name.to_owned(), None);
        assert_eq!(with_query("/a", Some("x=1&y=2&x=3&z"), &[gone("x"), set("u", "a b&c")]), "/a?y=2&z&u=a%20b%26c");
        assert_eq!(with_query("/a", None, &[set("u", "1"), set("u", "2")]), "/a?u=2");
        assert_eq!(with_query("/a", Some("x"), &[gone("x")]), "/a");
    }
}
