//! What a provider says of a request, whatever it was asked by, and what that does to heads.

use http::{HeaderName, HeaderValue, header::COOKIE};
use routing::{request::Headers as _, rule::EditHeaders};

use super::query::with_query;
use crate::http::{
    head::Head,
    limits::{FIELDS, HEAD_BYTES},
    name::Name,
};

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
    /// They stay, and it stands beside them; in a request behind them, in one field, and without them it is dropped (see
    /// [`Grant::apply`]).
    Add,
    /// They stay, and it is dropped.
    IfAbsent,
    /// They are replaced; without them it is dropped.
    IfPresent,
}

impl Edit {
    /// `None`: no field that a provider decides about. What frames a message, what is one hop's, and pseudo-fields are not; nor
    /// is a name that no field can have.
    ///
    /// # Errors
    /// The field is the provider's to decide about, and this is no value: without the edit the client's own would stay.
    pub(crate) fn new(how: How, name: &[u8], value: &[u8]) -> Result<Option<Self>, String> {
        let Some(name) = editable(name) else { return Ok(None) };
        match HeaderValue::from_bytes(value.trim_ascii()) {
            Ok(value) => Ok(Some(Self { how, name, value })),
            Err(_) => Err(format!("what it says for {name} is no value of a header")),
        }
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

    /// As Envoy adds to a request: to the field that is there, since many an application reads the first of several alone.
    fn apply_to_request(&self, head: &mut Head) {
        if self.how != How::Add {
            return self.apply(head);
        }
        let there: Vec<&[u8]> = (0..).map_while(|number| head.nth(&self.name, number)).collect();
        if there.is_empty() {
            return;
        }
        let between: &[u8] = if self.name == COOKIE { b"; " } else { b"," };
        let all = [&there[..], &[self.value.as_bytes()]].concat().join(between);
        head.remove_all(&self.name);
        head.push(self.name.as_str().as_bytes(), &all);
    }

    fn size(&self) -> usize {
        self.name.as_str().len() + self.value.len()
    }
}

/// Whether these are more than a head may hold.
fn are_too_many<'a>(edits: impl Iterator<Item = &'a Edit>, more: usize) -> bool {
    let (count, size) = edits.fold((0, more), |(count, size), edit| (count + 1, size + edit.size()));
    count > FIELDS || size > HEAD_BYTES
}

/// As many as a head may hold: a no is one, whatever else is said.
pub(crate) fn within_bounds(mut edits: Vec<Edit>) -> Vec<Edit> {
    let mut size = 0;
    let fitting = edits.iter().take(FIELDS).take_while(|edit| {
        size += edit.size();
        size <= HEAD_BYTES
    });
    let count = fitting.count();
    edits.truncate(count);
    edits
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

    /// What another one says who was asked later: of the same field his word holds.
    pub(crate) fn extend(&mut self, later: Self) {
        let sets = |name: &HeaderName| later.request.iter().any(|edit| edit.how == How::Set && edit.name == *name);
        self.request.retain(|edit| !sets(&edit.name));
        self.remove.retain(|name| !later.request.iter().any(|edit| edit.name == *name));
        self.request.extend(later.request);
        self.remove.extend(later.remove);
        self.query.extend(later.query);
        self.response.extend(later.response);
    }

    /// Whether all that it adds is within what a head may hold.
    pub(crate) fn is_within_bounds(&self) -> bool {
        let query = self.query.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len)).sum();
        !are_too_many(self.request.iter(), query) && !are_too_many(self.response.iter(), 0)
    }

    /// Changes the request, as Envoy does: what is set comes first, then what is added; what is removed is so at the end.
    pub(crate) fn apply(&self, head: &mut Head) {
        self.remove_lookalikes(head);
        let (set, others): (Vec<_>, Vec<_>) = self.request.iter().partition(|edit| edit.how == How::Set);
        set.into_iter().chain(others).for_each(|edit| edit.apply_to_request(head));
        self.remove.iter().for_each(|name| head.remove_all(name));
        if !self.query.is_empty() {
            let target = with_query(head.path(), head.query(), &self.query);
            head.set_target(target.as_bytes());
        }
    }

    /// What the proxy has set since, as on every request, is the provider's again.
    pub(crate) fn reassert(&self, head: &mut Head) {
        let of_how = |how: How| self.request.iter().filter(move |edit| edit.how == how);
        of_how(How::Set).for_each(|edit| edit.apply(head));
        let beside = |edit: &&Edit| of_how(How::Set).any(|set| set.name == edit.name);
        of_how(How::Add).filter(beside).for_each(|edit| edit.apply_to_request(head));
        self.remove.iter().for_each(|name| head.remove_all(name));
    }

    /// Of what [`Self::reassert`] gives back, keeps what the proxy writes on every request: the rest has been seen, and perhaps
    /// taken away, by whoever came behind the provider, as all of `others`.
    pub(crate) fn retain_own(&mut self, others: &[HeaderName]) {
        let own = |name: &HeaderName| {
            if others.contains(name) {
                return false;
            }
            let name = name.as_str();
            ["x-forwarded-", "x-envoy-"].iter().any(|prefix| name.starts_with(prefix)) || name == "x-request-id"
        };
        self.request.retain(|edit| own(&edit.name));
        self.remove.retain(|name| own(name));
    }

    /// Many an application reads `x_user` as `x-user`: beside what the provider decides about, a client says no such thing.
    fn remove_lookalikes(&self, head: &mut Head) {
        let sets = self.request.iter().filter(|edit| edit.how != How::Add).map(|edit| &edit.name);
        let decided: Vec<&[u8]> = sets.chain(&self.remove).map(|name| name.as_str().as_bytes()).collect();
        if decided.iter().any(|name| name.iter().any(|byte| is_dash(*byte))) {
            head.remove_if(|_, name| {
                decided.iter().any(|one| looks_like(one, name))
                    && !decided.iter().any(|one| one.eq_ignore_ascii_case(name))
            });
        }
    }

    /// Changes the answer.
    pub(crate) fn answer(&self, head: &mut Head) {
        self.response.iter().for_each(|edit| edit.apply(head));
    }
}

fn is_dash(byte: u8) -> bool {
    matches!(byte, b'-' | b'_')
}

fn looks_like(one: &[u8], other: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || is_dash(*a) && is_dash(*b);
    one.len() == other.len() && one.iter().zip(other).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(how: How, name: &str, value: &str) -> Edit {
        Edit::new(how, name.as_bytes(), value.as_bytes()).unwrap().unwrap()
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
            assert_eq!(Edit::new(How::Set, name.as_bytes(), b"1"), Ok(None), "{name}");
        }
        for value in ["a\r\nb: c", "a\nb", "\0"] {
            assert!(Edit::new(How::Set, b"x-a", value.as_bytes()).is_err(), "{value:?}");
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
        let wanted = ["x-absent: 1", "x-set: 2", "x-add: 1,2", "x-present: 2", "x-new: 2"];
        assert_eq!(spelled(&head), wanted);
    }

    #[test]
    fn what_is_added_to_a_request_stands_in_the_field_that_is_there_and_cookies_of_an_answer_stay_apart() {
        let mut head = Head::default();
        for (name, value) in [("x-a", "1"), ("cookie", "a=1"), ("X-A", "2"), ("Cookie", "b=2")] {
            head.push(name.as_bytes(), value.as_bytes());
        }
        let request = ["x-a", "cookie", "x-nobody"].map(|name| edit(How::Add, name, "c=3")).to_vec();
        Grant { request, ..Grant::default() }.apply(&mut head);
        assert_eq!(spelled(&head), ["x-a: 1,2,c=3", "cookie: a=1; b=2; c=3"]);
        let mut answer = Head::default();
        let told = || ["a", "b"].map(|value| edit(How::Add, "set-cookie", value)).to_vec();
        compose(&mut answer, &told());
        assert_eq!(spelled(&answer), ["set-cookie: a", "set-cookie: b"]);
        Grant { response: told(), ..Grant::default() }.answer(&mut answer);
        assert_eq!(answer.fields().count(), 4);
    }

    #[test]
    fn an_answer_may_set_a_field_several_times() {
        let mut head = Head::default();
        head.push(b"set-cookie", b"old");
        compose(&mut head, &[edit(How::Set, "set-cookie", "a"), edit(How::Set, "Set-Cookie", "b")]);
        assert_eq!(spelled(&head), ["set-cookie: a", "set-cookie: b"]);
    }

    #[test]
    fn what_is_removed_is_gone_whatever_else_is_said_of_it() {
        let mut head = Head::default();
        head.push(b"x-a", b"client");
        let grant = Grant {
            request: vec![edit(How::Add, "x-a", "2"), edit(How::Set, "x-a", "1"), edit(How::Set, "x-b", "1")],
            remove: vec![HeaderName::from_static("x-b")],
            ..Grant::default()
        };
        grant.apply(&mut head);
        assert_eq!(spelled(&head), ["x-a: 1,2"]);
        head.push(b"x-b", b"2");
        grant.reassert(&mut head);
        assert_eq!(spelled(&head), ["x-a: 1,2"]);
    }

    #[test]
    fn of_two_who_are_asked_the_later_one_has_the_last_word() {
        let remove = |name| vec![HeaderName::from_static(name)];
        let mut all = Grant {
            request: vec![edit(How::Set, "x-a", "1"), edit(How::Set, "x-b", "1")],
            remove: remove("x-c"),
            ..Grant::default()
        };
        all.extend(Grant {
            request: vec![edit(How::Set, "x-a", "2"), edit(How::Set, "x-c", "2")],
            remove: remove("x-b"),
            ..Grant::default()
        });
        let mut head = Head::default();
        all.reassert(&mut head);
        assert_eq!(spelled(&head), ["x-a: 2", "x-c: 2"]);
    }

    #[test]
    fn what_looks_like_a_field_of_the_provider_goes() {
        let mut head = Head::default();
        for name in ["x_auth-user", "X_Auth_User", "x-auth-user", "x_gone", "x_other", "xxauth-user"] {
            head.push(name.as_bytes(), b"root");
        }
        let grant = Grant {
            request: vec![edit(How::Set, "x-auth-user", "me"), edit(How::Set, "x_auth-user", "also me")],
            remove: vec![HeaderName::from_static("x-gone")],
            ..Grant::default()
        };
        grant.apply(&mut head);
        assert_eq!(spelled(&head), ["x_other: root", "xxauth-user: root", "x-auth-user: me", "x_auth-user: also me"]);
    }

    #[test]
    fn what_is_added_has_the_bounds_of_a_head() {
        let many = |count: usize, size: usize| vec![edit(How::Set, "x-a", &"x".repeat(size)); count];
        for (count, size, within) in [(FIELDS, 1, true), (FIELDS + 1, 1, false), (2, HEAD_BYTES / 2, false)] {
            let grant = |request, response| Grant { request, response, ..Grant::default() };
            assert_eq!(grant(many(count, size), Vec::new()).is_within_bounds(), within);
            assert_eq!(grant(Vec::new(), many(count, size)).is_within_bounds(), within);
        }
        let query = vec![("a".to_owned(), Some("x".repeat(HEAD_BYTES)))];
        assert!(!Grant { query, ..Grant::default() }.is_within_bounds());
        assert_eq!(within_bounds(many(FIELDS + 1, 1)).len(), FIELDS);
        assert_eq!(within_bounds(many(3, HEAD_BYTES / 2 - 10)).len(), 2);
    }
}
