//! `HeaderOperations` to their compiled form.

use http::{HeaderName, HeaderValue};

use super::{
    context::Context,
    report::{BAD_VALUE, UNSUPPORTED},
};
use crate::{
    api::{VirtualService, virtual_service::HeaderOperations},
    resources::Object,
    rule::HeaderOps,
};

/// Compile the operations; those that cannot be carried out are reported and left out.
pub(super) fn compile(
    context: &Context<'_>,
    object: &Object<VirtualService>,
    ops: &HeaderOperations,
    field: &str,
) -> HeaderOps {
    let tell = |field: String, wrong: Wrong| context.report.error(object, wrong.code, &field, wrong.message);
    let mut compiled = HeaderOps::default();
    for (name, text) in &ops.set {
        match (value(text), is_authority(name), header_name(name)) {
            (Err(wrong), ..) | (_, false, Err(wrong)) => tell(format!("{field}.set[{name}]"), wrong),
            (Ok(value), true, _) => compiled.authority = Some(value),
            (Ok(value), false, Ok(name)) => compiled.set.push((name, value)),
        }
    }
    for (name, text) in &ops.add {
        match (value(text), is_authority(name), header_name(name)) {
            (Err(wrong), ..) | (_, false, Err(wrong)) => tell(format!("{field}.add[{name}]"), wrong),
            (Ok(_), true, _) => {
                let message = format!("a request has one `{name}` only; use `set`");
                tell(format!("{field}.add[{name}]"), Wrong { code: BAD_VALUE, message });
            }
            (Ok(value), false, Ok(name)) => compiled.add.push((name, value)),
        }
    }
    for (index, name) in ops.remove.iter().enumerate() {
        match header_name(name) {
            Ok(name) => compiled.remove.push(name),
            Err(wrong) => tell(format!("{field}.remove[{index}]"), wrong),
        }
    }
    compiled
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

/// A header value. `%%` is a percent sign; Envoy's `%COMMAND%` operators are not supported.
fn value(text: &str) -> Result<HeaderValue, Wrong> {
    if let Some(command) = first_command(text) {
        let message = format!(
            "the operator {command} is not supported, so this header is left alone; write `%%` for a percent sign"
        );
        return Err(Wrong { code: UNSUPPORTED, message });
    }
    HeaderValue::from_str(&text.replace("%%", "%"))
        .map_err(|_| Wrong { code: BAD_VALUE, message: format!("{text:?} cannot be sent as a header value") })
}

/// The first `%...%` with something between.
fn first_command(text: &str) -> Option<&str> {
    let mut at = 0;
    while let Some(found) = text[at..].find('%') {
        let begin = at + found;
        let end = text[begin + 1..].find('%').map_or(text.len(), |length| begin + 1 + length + 1);
        if end != begin + 2 {
            return Some(&text[begin..end]);
        }
        at = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_from_escaped_percent_signs() {
        assert_eq!(first_command("plain"), None);
        assert_eq!(first_command("100%%"), None);
        assert_eq!(first_command("%%%%x%%"), None);
        assert_eq!(first_command("a %REQ(x)% b"), Some("%REQ(x)%"));
        assert_eq!(first_command("100%% %PROTOCOL%"), Some("%PROTOCOL%"));
        assert_eq!(first_command("50%"), Some("%"));
    }

    #[test]
    fn host_and_authority_are_the_same_thing() {
        assert!(is_authority("Host") && is_authority(":authority"));
        assert!(!is_authority("x-host"));
        assert!(header_name(":path").is_err());
    }
}
