//! The path of a request in one form, so that what is matched, authorised and forwarded is the same string.

use std::borrow::Cow;

use crate::api::mesh_config::Normalization;

/// Istio `pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Form {
    /// `NONE`: only a fragment is cut off.
    AsIs,
    /// `BASE`: RFC 3986.
    #[default]
    Base,
    /// `MERGE_SLASHES`: then one slash stands for several.
    MergedSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: first `%2F` and `%5C` become slashes.
    DecodedSlashes,
}

impl From<Normalization> for Form {
    fn from(written: Normalization) -> Self {
        match written {
            Normalization::None => Self::AsIs,
            Normalization::Default | Normalization::Base => Self::Base,
            Normalization::MergeSlashes => Self::MergedSlashes,
            Normalization::DecodeAndMergeSlashes => Self::DecodedSlashes,
        }
    }
}

/// Why a path cannot be normalised; the request is answered with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadPath {
    /// Does not start with `/` (and is not `*`).
    #[error("the path does not start with `/`")]
    Relative,
    /// `%` without two hexadecimal digits, or `%00`.
    #[error("the path holds an invalid percent escape")]
    Escape,
    /// Control characters or spaces.
    #[error("the path holds a control character or a space")]
    Control,
}

/// Bring a path (without query) into a form. [`Form::Base`] resolves dot segments (also percent-encoded ones, and with parameters), makes `\` to `/`,
/// decodes percent-encoded unreserved characters and cuts a fragment off; `%2F`, `%5C` and duplicate slashes stay. The empty path
/// of `http://host` is `/`; `*` stays for OPTIONS.
///
/// Borrowed when nothing changes. Source: Istio `pathNormalization.normalization`, RFC 3986 sections 5.2.4, 6.2.2.
///
/// # Errors
/// [`BadPath`] when the path cannot be brought into this form.
pub fn normalise(raw: &str, form: Form) -> Result<Cow<'_, str>, BadPath> {
    if !raw.starts_with(['/', '\\']) {
        return match raw {
            "" => Ok("/".into()),
            "*" => Ok(raw.into()),
            _ if raw.starts_with('#') => Ok("/".into()),
            _ => Err(BadPath::Relative),
        };
    }
    if is_normal(raw.as_bytes(), form) {
        return Ok(Cow::Borrowed(raw));
    }
    let changed = match form {
        Form::AsIs => return as_is(raw),
        Form::Base => remove_dot_segments(&decode(raw)?),
        Form::MergedSlashes => merge_slashes(&remove_dot_segments(&decode(raw)?)),
        Form::DecodedSlashes => merge_slashes(&remove_dot_segments(&decode(&decode_slashes(raw))?)),
    };
    Ok(if changed == raw { Cow::Borrowed(raw) } else { Cow::Owned(changed) })
}

/// Whether one look at each byte shows that there is nothing to do. `false` means: look closer.
fn is_normal(path: &[u8], form: Form) -> bool {
    let merges = matches!(form, Form::MergedSlashes | Form::DecodedSlashes);
    let mut after_slash = false;
    for &byte in path {
        match byte {
            b'/' if after_slash && merges => return false,
            b'/' => after_slash = true,
            b'.' if after_slash => return false,
            b'%' | b'\\' | b'#' | 0..=b' ' | 0x7f => return false,
            _ => after_slash = false,
        }
    }
    true
}

/// [`Form::AsIs`]: escapes and dot segments are whatever they are.
fn as_is(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if !raw.starts_with('/') {
        return Err(BadPath::Relative);
    }
    let path = raw.split('#').next().unwrap_or(raw);
    if path.contains(|letter: char| letter <= ' ' || letter == '\x7f') {
        return Err(BadPath::Control);
    }
    Ok(Cow::Borrowed(path))
}

fn decode_slashes(raw: &str) -> String {
    raw.replace("%2F", "/").replace("%2f", "/").replace("%5C", "/").replace("%5c", "/")
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !merged.ends_with('/') {
            merged.push(letter);
        }
    }
    merged
}

/// Cut the fragment, turn backslashes, decode unreserved characters, refuse what may not be in a path.
fn decode(raw: &str) -> Result<String, BadPath> {
    let mut decoded = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(|c: char| c <= ' ' || matches!(c, '%' | '\\' | '#' | '\x7f')) {
        decoded.push_str(&rest[..at]);
        let special = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match special {
            b'#' => return Ok(decoded),
            b'\\' => decoded.push('/'),
            b'%' => {
                let digits = rest.get(..2).ok_or(BadPath::Escape)?;
                match escaped(digits)? {
                    0 => return Err(BadPath::Escape),
                    byte if is_unreserved(byte) => decoded.push(byte.into()),
                    _ => {
                        decoded.push('%');
                        decoded.push_str(digits);
                    }
                }
                rest = &rest[2..];
            }
            _ => return Err(BadPath::Control),
        }
    }
    decoded.push_str(rest);
    Ok(decoded)
}

fn escaped(digits: &str) -> Result<u8, BadPath> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(BadPath::Escape);
    }
    u8::from_str_radix(digits, 16).map_err(|_| BadPath::Escape)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 section 5.2.4 on a path that starts with `/`. `..` above the root stays at the root. As in Envoy `..;a` is `..`: many
/// an application cuts off what stands behind `;` before it climbs.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.split(';').next().unwrap_or(segment) {
            "." if last => out.push('/'),
            "." => {}
            ".." => {
                out.truncate(out.rfind('/').unwrap_or(0));
                if last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> String {
        normalise(raw, Form::Base).unwrap().into_owned()
    }

    #[test]
    fn an_ordinary_path_is_borrowed() {
        for path in ["/", "/a/b.c", "/.well-known/acme", "/a%2Fb", "/a//b", "/%7B", "/...", "/a/..b"] {
            assert!(matches!(normalise(path, Form::Base), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_resolved() {
        assert_eq!(normal("/a/./b/../c"), "/a/c");
        assert_eq!(normal("/a/.."), "/");
        assert_eq!(normal("/a/b/.."), "/a/");
        assert_eq!(normal("/a/."), "/a/");
        assert_eq!(normal("/../../a"), "/a");
        assert_eq!(normal("/."), "/");
    }

    #[test]
    fn dots_with_parameters_are_dots_and_nothing_else_is() {
        for (raw, path) in [
            ("/x/..;/a", "/a"),
            ("/x/..;p=1;q/a", "/a"),
            ("/x/.;/a", "/x/a"),
            ("/x/..;", "/"),
            ("/x/.;p", "/x/"),
            ("/..;/a", "/a"),
            ("/x/y/..;/..;/a", "/a"),
            ("/x//..;/a", "/x/a"),
            (r"/x/..;\a", "/a"),
            ("/x/%2e%2e;/a", "/a"),
            ("/x/...;/a", "/x/...;/a"),
            ("/x/..a;/b", "/x/..a;/b"),
            ("/x/;/a", "/x/;/a"),
            ("/x/..%3b/a", "/x/..%3b/a"),
            ("/a;x", "/a;x"),
        ] {
            assert_eq!(normal(raw), path, "{raw}");
        }
        assert_eq!(normalise("/x/..;/a", Form::AsIs).unwrap(), "/x/..;/a");
    }

    #[test]
    fn encoded_dots_are_dots() {
        assert_eq!(normal("/a/%2e%2E/b"), "/b");
        assert_eq!(normal("/a/.%2e/b"), "/b");
    }

    #[test]
    fn a_backslash_is_a_slash() {
        assert_eq!(normal(r"/a\..\b"), "/b");
        assert_eq!(normal(r"\a"), "/a");
    }

    #[test]
    fn escaped_slashes_and_double_slashes_stay() {
        assert_eq!(normal("/a%2F..%5Cb"), "/a%2F..%5Cb");
        assert_eq!(normal("//a//b"), "//a//b");
        assert_eq!(normal("/a//../b"), "/a/b");
    }

    #[test]
    fn unreserved_characters_are_decoded_once() {
        assert_eq!(normal("/%61%2D%7e"), "/a-~");
        assert_eq!(normal("/%2561"), "/%2561");
    }

    #[test]
    fn a_fragment_is_cut_off() {
        assert_eq!(normal("/a#/../b"), "/a");
        assert_eq!(normal(""), "/");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        assert_eq!(normalise("a", Form::Base), Err(BadPath::Relative));
        assert_eq!(normalise("/%", Form::Base), Err(BadPath::Escape));
        assert_eq!(normalise("/%6", Form::Base), Err(BadPath::Escape));
        assert_eq!(normalise("/%+1", Form::Base), Err(BadPath::Escape));
        assert_eq!(normalise("/%é", Form::Base), Err(BadPath::Escape));
        assert_eq!(normalise("/%00", Form::Base), Err(BadPath::Escape));
        assert_eq!(normalise("/a\0", Form::Base), Err(BadPath::Control));
        assert_eq!(normalise("/a b", Form::Base), Err(BadPath::Control));
        assert_eq!(normalise("/a\u{7f}", Form::Base), Err(BadPath::Control));
    }

    #[test]
    fn the_other_forms_are_istio_s() {
        let form = |raw: &str, form: Form| normalise(raw, form).map(Cow::into_owned);
        for (raw, as_is, merged, decoded) in [
            ("/a//b///c", "/a//b///c", "/a/b/c", "/a/b/c"),
            ("/a/../b", "/a/../b", "/b", "/b"),
            ("/a%2Fb%5Cc", "/a%2Fb%5Cc", "/a%2Fb%5Cc", "/a/b/c"),
            ("/a%2f%2e%2E%2fb", "/a%2f%2e%2E%2fb", "/a%2f..%2fb", "/b"),
            ("/a%2f/b", "/a%2f/b", "/a%2f/b", "/a/b"),
            ("//", "//", "/", "/"),
            ("/%61#x", "/%61", "/a", "/a"),
            ("/100%", "/100%", "", ""),
        ] {
            assert_eq!(form(raw, Form::AsIs).unwrap(), as_is, "{raw}");
            assert_eq!(form(raw, Form::MergedSlashes).unwrap_or_default(), merged, "{raw}");
            assert_eq!(form(raw, Form::DecodedSlashes).unwrap_or_default(), decoded, "{raw}");
        }
        assert_eq!(form("\\a", Form::AsIs), Err(BadPath::Relative));
        assert_eq!(form("/a b", Form::AsIs), Err(BadPath::Control));
        assert_eq!(form("a", Form::AsIs), Err(BadPath::Relative));
    }

    proptest! {
        #[test]
        fn every_form_is_reached_at_once(raw in r"/([ab/.\\#]|%2e|%2F|%5c|%61){0,12}") {
            for form in [Form::AsIs, Form::MergedSlashes, Form::DecodedSlashes] {
                let Ok(once) = normalise(&raw, form) else { continue };
                prop_assert_eq!(normalise(&once, form).unwrap(), once.clone());
                prop_assert!(form == Form::AsIs || !once.contains("//"));
            }
        }

        #[test]
        fn normalising_twice_changes_nothing(raw in r"/([ab/.;\\#é]|%2e|%2F|%5c|%25|%61){0,12}") {
            let once = normal(&raw);
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn nothing_climbs_out(raw in r"/([a/.;\\]|%2e|%2E){0,12}") {
            let path = normal(&raw);
            prop_assert!(path.starts_with('/'));
            let bare = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
            prop_assert!(!path.split('/').map(bare).any(|segment| segment == ".." || segment == "."));
        }

        #[test]
        fn any_text_gives_an_answer(raw in any::<String>()) {
            let _ = normalise(&raw, Form::Base);
        }
    }
}
