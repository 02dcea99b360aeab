//! From a provider's answer to its verdict.

use http::HeaderName;
use routing::external::{FORBIDDEN, HttpForm};

use super::{
    messages::{CheckResponse, HttpResponse, OkResponse},
    verdict::{Denial, Edit, Grant, How, Verdict, editable, within_bounds},
};
use crate::http::{
    call::Heard,
    grpc::envoy::{AppendAction, HeaderOption},
    head::Head,
    name::Name,
};

/// A list of fields that go, in an answer over HTTP.
const REMOVE: &[u8] = b"x-envoy-auth-headers-to-remove";

/// Why an answer is no verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unusable {
    /// In words.
    pub(super) why: String,
    /// The fields of the request that a yes was about.
    pub(super) meant: Vec<HeaderName>,
}

impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Self { why, meant: Vec::new() }
    }
}

/// Of an answer by gRPC; `Err`: the provider has failed.
pub(super) fn of_message(message: CheckResponse) -> Result<Verdict, Unusable> {
    let code = message.status.map_or(0, |status| status.code);
    Ok(match (code, message.http_response) {
        (0, Some(HttpResponse::Ok(more))) => {
            grant(&more).and_then(allowed).map_err(|why| Unusable { why, meant: meant(&more) })?
        }
        (0, _) => Verdict::Allow(Box::default()),
        (_, Some(HttpResponse::Denied(denied))) => {
            let status = denied.status.and_then(|status| u16::try_from(status.code).ok());
            Verdict::Deny(Box::new(Denial {
                status: answerable(status.unwrap_or_default()),
                headers: usable(denied.headers.iter().map(edit)),
                body: denied.body.into_bytes(),
            }))
        }
        _ => Verdict::Deny(Box::new(Denial { status: FORBIDDEN, ..Denial::default() })),
    })
}

fn allowed(grant: Grant) -> Result<Verdict, String> {
    if !grant.is_within_bounds() {
        return Err("it adds more than a head may hold".to_owned());
    }
    Ok(Verdict::Allow(Box::new(grant)))
}

/// Of a no: it stays one, whatever is wrong with what else is said.
fn usable(edits: impl Iterator<Item = Result<Option<Edit>, String>>) -> Vec<Edit> {
    within_bounds(edits.filter_map(Result::ok).flatten().collect())
}

/// Of a yes: what cannot be done as it was said is no yes.
fn all(edits: impl Iterator<Item = Result<Option<Edit>, String>>) -> Result<Vec<Edit>, String> {
    edits.filter_map(Result::transpose).collect()
}

fn answerable(status: u16) -> u16 {
    if (200..=599).contains(&status) { status } else { FORBIDDEN }
}

fn meant(more: &OkResponse) -> Vec<HeaderName> {
    let set = more.headers.iter().filter_map(|option| Some(option.header.as_ref()?.key.as_str()));
    let names = set.chain(more.headers_to_remove.iter().map(String::as_str));
    names.filter_map(|name| editable(name.as_bytes())).collect()
}

fn grant(more: &OkResponse) -> Result<Grant, String> {
    let set = more.query_parameters_to_set.iter().map(|one| (one.key.clone(), Some(one.value.clone())));
    // Envoy sets first, and removes then.
    let removed = more.query_parameters_to_remove.iter().map(|name| (name.clone(), None));
    Ok(Grant {
        request: all(more.headers.iter().map(edit))?,
        remove: more.headers_to_remove.iter().filter_map(|name| editable(name.as_bytes())).collect(),
        query: set.chain(removed).filter(|(name, _)| !name.is_empty()).collect(),
        response: all(more.response_headers_to_add.iter().map(added))?,
    })
}

fn edit(option: &HeaderOption) -> Result<Option<Edit>, String> {
    let Some(header) = &option.header else { return Ok(None) };
    Edit::new(how(option), header.key.as_bytes(), header.bytes())
}

/// For the client's answer to a yes: what nobody says otherwise is added, as in Envoy.
fn added(option: &HeaderOption) -> Result<Option<Edit>, String> {
    let unsaid = option.append.is_none() && option.append_action() == AppendAction::AppendOrAdd;
    let mut edit = edit(option)?;
    if let Some(edit) = edit.as_mut().filter(|_| unsaid) {
        edit.how = How::Add;
    }
    Ok(edit)
}

/// `append` is the older word and false where nobody says it; the newer one counts when it says something else.
fn how(option: &HeaderOption) -> How {
    match (option.append, option.append_action()) {
        (Some(append), _) if append.value => How::Add,
        (Some(_), _) | (None, AppendAction::AppendOrAdd | AppendAction::OverwriteOrAdd) => How::Set,
        (None, AppendAction::AddIfAbsent) => How::IfAbsent,
        (None, AppendAction::OverwriteIfExists) => How::IfPresent,
    }
}

/// Of an answer over HTTP; `Err`: the provider has failed. Nothing but 200 is a yes, as in Envoy.
pub(super) fn of_http(form: &HttpForm, heard: Heard) -> Result<Verdict, Unusable> {
    let head = &heard.head;
    match head.status {
        200 => granted(form, head).and_then(allowed).map_err(|why| {
            let set = head.fields().filter(|(_, name, _)| form.to_upstream.has(name));
            let set = set.filter_map(|(_, name, _)| editable(name));
            Unusable { why, meant: set.chain(removed(head)).collect() }
        }),
        status if status >= 500 => Err(format!("it answers with {status}").into()),
        status => {
            let all = form.to_client_on_deny.is_empty();
            let told = chosen(head, How::Set, |name| all || told_anyway(name) || form.to_client_on_deny.has(name));
            let headers = usable(told);
            Ok(Verdict::Deny(Box::new(Denial { status: answerable(status), headers, body: heard.body })))
        }
    }
}

fn granted(form: &HttpForm, head: &Head) -> Result<Grant, String> {
    Ok(Grant {
        request: all(chosen(head, How::Set, |name| form.to_upstream.has(name)))?,
        remove: removed(head),
        query: Vec::new(),
        response: all(chosen(head, How::Add, |name| form.to_client_on_allow.has(name)))?,
    })
}

/// Of a no: without these it means nothing.
fn told_anyway(name: &[u8]) -> bool {
    Name::of(name) == Name::Location || name.eq_ignore_ascii_case(b"www-authenticate")
}

fn chosen(head: &Head, how: How, which: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Result<Option<Edit>, String>> {
    let mine = move |known: Name| matches!(known, Name::Server | Name::Date | Name::XEnvoyServiceTime);
    let fields = head.fields().filter(move |(known, name, _)| !mine(*known) && which(name));
    fields.map(move |(_, name, value)| Edit::new(how, name, value))
}

fn removed(head: &Head) -> Vec<HeaderName> {
    let lists = head.fields().filter(|(_, name, _)| name.eq_ignore_ascii_case(REMOVE));
    let names = lists.flat_map(|(_, _, value)| value.split(|byte| *byte == b','));
    names.filter_map(|name| editable(name.trim_ascii())).collect()
}

#[cfg(test)]
mod tests {
    use routing::external::Names;

    use super::*;
    use crate::http::{
        external::messages::{DeniedResponse, Status},
        grpc::envoy::{BoolValue, HeaderValue},
    };

    fn option(key: &str, append: Option<bool>, action: AppendAction) -> HeaderOption {
        HeaderOption {
            header: Some(HeaderValue { key: key.into(), value: "v".into(), raw_value: Vec::new() }),
            append: append.map(|value| BoolValue { value }),
            append_action: action as i32,
        }
    }

    #[test]
    fn a_message_is_a_yes_when_its_status_is_ok_and_nothing_else_is() {
        assert_eq!(of_message(CheckResponse::default()), Ok(Verdict::Allow(Box::default())));
        let no = |status: i32| CheckResponse {
            status: Some(Status { code: 7 }),
            http_response: Some(HttpResponse::Denied(DeniedResponse {
                status: Some(Status { code: status }),
                ..DeniedResponse::default()
            })),
        };
        for (status, told) in [(401, 401), (0, 403), (101, 403), (-1, 403), (99_999, 403), (200, 200), (302, 302)] {
            let Ok(Verdict::Deny(denial)) = of_message(no(status)) else { panic!("{status} is a yes") };
            assert_eq!(denial.status, told);
        }
        let contradicting = CheckResponse {
            status: Some(Status { code: 7 }),
            http_response: Some(HttpResponse::Ok(OkResponse::default())),
        };
        assert!(matches!(of_message(contradicting), Ok(Verdict::Deny(denial)) if denial.status == 403));
    }

    #[test]
    fn a_header_is_set_unless_another_way_is_asked_for() {
        for (append, action, wanted) in [
            (None, AppendAction::AppendOrAdd, How::Set),
            (Some(true), AppendAction::AppendOrAdd, How::Add),
            (Some(false), AppendAction::AddIfAbsent, How::Set),
            (None, AppendAction::AddIfAbsent, How::IfAbsent),
            (None, AppendAction::OverwriteOrAdd, How::Set),
            (None, AppendAction::OverwriteIfExists, How::IfPresent),
        ] {
            assert_eq!(how(&option("x-a", append, action)), wanted, "{append:?} {action:?}");
        }
        assert_eq!(edit(&option("content-length", None, AppendAction::AppendOrAdd)), Ok(None));
    }

    #[test]
    fn a_yes_that_cannot_be_done_is_none_and_a_no_stays_one() {
        let broken = || {
            let mut broken = option("x-auth-user", None, AppendAction::AppendOrAdd);
            broken.header.as_mut().unwrap().value = "bob\na: b".into();
            broken
        };
        let many = || vec![option("x-a", Some(true), AppendAction::AppendOrAdd); 1000];
        let yes = |headers, response_headers_to_add| CheckResponse {
            http_response: Some(HttpResponse::Ok(OkResponse {
                headers,
                response_headers_to_add,
                ..OkResponse::default()
            })),
            ..CheckResponse::default()
        };
        let unusable = of_message(yes(vec![broken()], Vec::new())).unwrap_err();
        assert!(unusable.why.contains("x-auth-user"));
        assert_eq!(unusable.meant, ["x-auth-user"]);
        assert!(of_message(yes(Vec::new(), vec![broken()])).is_err());
        assert!(of_message(yes(many(), Vec::new())).is_err());
        let mut headers = vec![broken()];
        headers.extend(many());
        let denied = DeniedResponse { headers, ..DeniedResponse::default() };
        let no = CheckResponse { status: Some(Status { code: 7 }), http_response: Some(HttpResponse::Denied(denied)) };
        assert!(matches!(of_message(no), Ok(Verdict::Deny(denial)) if denial.headers.len() == 100));
    }

    fn heard(status: u16, fields: &[(&str, &str)]) -> Heard {
        let mut heard = Heard::all(10);
        heard.head.status = status;
        fields.iter().for_each(|(name, value)| heard.head.push(name.as_bytes(), value.as_bytes()));
        heard
    }

    #[test]
    fn over_http_200_is_a_yes_and_5xx_is_a_failure() {
        let form = HttpForm { to_upstream: Names::new(["x-auth-*"]), ..HttpForm::default() };
        let fields = [("X-Auth-User", "me"), ("x-other", "1"), ("X-Envoy-Auth-Headers-To-Remove", "cookie, host,x-a")];
        let Ok(Verdict::Allow(grant)) = of_http(&form, heard(200, &fields)) else { panic!("200 is a yes") };
        assert_eq!(grant.request, [Edit::new(How::Set, b"x-auth-user", b"me").unwrap().unwrap()]);
        assert_eq!(grant.remove, ["cookie", "x-a"]);
        assert!(of_http(&form, heard(503, &[])).is_err());
        for status in [201, 202, 204, 302, 401, 404] {
            let answer = of_http(&form, heard(status, &[]));
            assert!(matches!(answer, Ok(Verdict::Deny(denial)) if denial.status == status));
        }
    }

    #[test]
    fn of_a_no_all_headers_are_told_or_those_that_are_named() {
        let fields =
            [("Location", "/login"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("x-why", "c"), ("Content-Length", "0")];
        let names = |form: HttpForm| match of_http(&form, heard(302, &fields)) {
            Ok(Verdict::Deny(denial)) => denial.headers.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(names(HttpForm::default()), 4);
        assert_eq!(names(HttpForm { to_client_on_deny: Names::new(["set-cookie"]), ..HttpForm::default() }), 3);
    }
}
