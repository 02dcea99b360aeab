//! `HeaderOperations` to their compiled form.

use http::{HeaderName, HeaderValue};

use super::{
    context::Context,
    report::{BAD_VALUE, UNSUPPORTED},
};
use crate::{
    api::{VirtualService, virtual_service::HeaderOperations},
    resources::Object,
    rule::{Computed, HeaderOps},
    template::{Fault, Template},
};

/// Compile the operations; those that cannot be carried out are reported and left out.
pub(super) fn compile(
    context: &Context<'_>,
    object: &Object<VirtualService>,
    ops: &HeaderOperations,
    way: Way,
    field: &str,
) -> HeaderOps {
    let tell = |field: String, wrong: Wrong| context.report.error(object, wrong.code, &field, wrong.message);
    let (mut compiled, mut computed) = (HeaderOps::default(), Computed::default());
    let value = |text: &str| value(text, way);
    for (list, which) in [(&ops.set, "set"), (&ops.add, "add")] {
        for (name, _) in list.iter().filter(|(_, text)| text.is_empty()) {
            let message = "an empty value changes nothing, as in Istio; use `remove` to take the header away";
            context.report.warning(object, BAD_VALUE, &format!("{field}.{which}[{name}]"), message);
        }
    }
    for (name, text) in ops.set.iter().filter(|(_, text)| !text.is_empty()) {
        match (value(text), is_authority(name), header_name(name)) {
            (Err(wrong), ..) | (_, false, Err(wrong)) => tell(format!("{field}.set[{name}]"), wrong),
            (Ok(Value::Plain(value)), true, _) => compiled.authority = Some(value),
            (Ok(Value::Computed(_)), true, _) => tell(format!("{field}.set[{name}]"), computed_authority()),
            (Ok(Value::Plain(value)), false, Ok(name)) => compiled.set.push((name, value)),
            (Ok(Value::Computed(value)), false, Ok(name)) => computed.set.push((name, value)),
        }
    }
    for (name, text) in ops.add.iter().filter(|(_, text)| !text.is_empty()) {
        match (value(text), is_authority(name), header_name(name)) {
            (Err(wrong), ..) | (_, false, Err(wrong)) => tell(format!("{field}.add[{name}]"), wrong),
            (Ok(_), true, _) => {
                let message = format!("a request has one `{name}` only; use `set`");
                tell(format!("{field}.add[{name}]"), Wrong { code: BAD_VALUE, message });
            }
            (Ok(Value::Plain(value)), false, Ok(name)) => compiled.add.push((name, value)),
            (Ok(Value::Computed(value)), false, Ok(name)) => computed.add.push((name, value)),
        }
    }
    for (index, name) in ops.remove.iter().enumerate() {
        match header_name(name) {
            Ok(name) => compiled.remove.push(name),
            Err(wrong) => tell(format!("{field}.remove[{index}]"), wrong),
        }
    }
    compiled.computed = (computed != Computed::default()).then(|| Box::new(computed));
    compiled
}

/// Which way the headers go.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Way {
    /// Upstream.
    Request,
    /// Back.
    Response,
}

impl Way {
    /// As in `headers.request`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

enum Value {
    Plain(HeaderValue),
    Computed(Template),
}

/// Istio sends what stands there, percent signs and all.
fn computed_authority() -> Wrong {
    let message =
        "the Host of a request cannot be put together from commands, nor can it in Istio; it is left as it is";
    Wrong { code: UNSUPPORTED, message: message.to_owned() }
}

struct Wrong {
    code: &'static str,
    message: String,
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

fn header_name(name: &str) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Wrong { code: BAD_VALUE, message: format!("`{name}` is no header name that may be changed") })
}

/// A header value, with its commands if it has any.
fn value(text: &str, way: Way) -> Result<Value, Wrong> {
    let template = Template::parse(text).map_err(|fault| Wrong {
        code: if matches!(fault, Fault::Unserved(..)) { UNSUPPORTED } else { BAD_VALUE },
        message: format!("this header is left alone: {fault}"),
    })?;
    if let Some(command) = template.command_of_answers().filter(|_| way == Way::Request) {
        let message = format!("`%{command}%` is not known before there is an answer; this header is left alone");
        return Err(Wrong { code: BAD_VALUE, message });
    }
    match template.as_plain() {
        None => Ok(Value::Computed(template)),
        Some(plain) => HeaderValue::from_str(plain)
            .map(Value::Plain)
            .map_err(|_| Wrong { code: BAD_VALUE, message: format!("{text:?} cannot be sent as a header value") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_escaped_percent_signs() {
        let kind = |text: &str, way| match value(text, way) {
            Ok(Value::Plain(value)) => value.to_str().unwrap().to_owned(),
            Ok(Value::Computed(_)) => "computed".to_owned(),
            Err(wrong) => wrong.message,
        };
        assert_eq!(kind("100%%", Way::Request), "100%");
        assert_eq!(kind("a %REQ(x)% b", Way::Request), "computed");
        assert_eq!(kind("%RESP(x)%", Way::Response), "computed");
        assert!(kind("%RESP(x)%", Way::Request).contains("before there is an answer"));
        assert!(kind("%HOSTNAM%", Way::Request).contains("did you mean `%HOSTNAME%`?"));
    }

    #[test]
    fn host_and_authority_are_the_same_thing() {
        assert!(is_authority("Host") && is_authority(":authority"));
        assert!(!is_authority("x-host"));
        assert!(header_name(":path").is_err());
    }
}
