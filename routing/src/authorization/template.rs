//! Templates of paths: `{*}` is one segment, `{**}` any number of them.

/// A path with `{*}` and `{**}` in place of segments.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Template(Box<[Part]>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Part {
    /// As it is, slashes included.
    Literal(Box<str>),
    /// One segment of at least one character.
    Segment,
    /// Whatever is there, nothing included.
    Rest,
}

const SEGMENT: &str = "{*}";
const REST: &str = "{**}";

/// Whether a path is meant as a template.
pub(crate) fn is_template(path: &str) -> bool {
    path.contains(SEGMENT) || path.contains(REST)
}

/// Says what is wrong with a path that may be a template.
pub(crate) fn fault(path: &str) -> Option<String> {
    let mut behind_rest = false;
    for segment in path.trim_matches('/').split('/') {
        match segment {
            SEGMENT | REST if behind_rest => {
                return Some(format!("`{path}` has a template behind `{REST}`, which must be the last one"));
            }
            SEGMENT => {}
            REST => behind_rest = true,
            _ if segment.contains(['{', '}']) => {
                return Some(format!(
                    "`{path}` has a brace within a segment; `{SEGMENT}` and `{REST}` stand for whole segments, as `/a/{SEGMENT}/b`"
                ));
            }
            _ if is_template(path) && (segment.is_empty() || !segment.bytes().all(|b| b != b'*' && is_literal(b))) => {
                return Some(format!(
                    "`{path}` has the segment `{segment}`, which no template can have; letters, digits and -._~%!$&'()+,;:@= are \
                     wanted"
                ));
            }
            _ => {}
        }
    }
    (is_template(path) && !path.starts_with('/'))
        .then(|| format!("`{path}` is a template that no path fits; write `/{path}`"))
}

/// RFC 3986 pchar, as Envoy counts them.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;:@=".contains(&byte)
}

impl Template {
    /// Reads a template that [`fault`] finds right.
    pub(crate) fn of(path: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        for (number, segment) in path.split('/').enumerate() {
            if number > 0 {
                literal.push('/');
            }
            let part = match segment {
                SEGMENT => Part::Segment,
                REST => Part::Rest,
                _ => {
                    literal.push_str(segment);
                    continue;
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Self(parts.into())
    }

    /// What every path that fits begins with.
    pub(super) fn head(&self) -> &str {
        match self.0.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether a path fits, all of it.
    pub(super) fn fits(&self, path: &str) -> bool {
        let mut rest = path;
        for (number, part) in self.0.iter().enumerate() {
            match part {
                Part::Literal(text) => match rest.strip_prefix(&**text) {
                    Some(behind) => rest = behind,
                    None => return false,
                },
                Part::Segment => {
                    let end = rest.bytes().position(|b| !is_literal(b)).unwrap_or(rest.len());
                    if end == 0 {
                        return false;
                    }
                    rest = &rest[end..];
                }
                // It is the last, so only something literal can stand behind it.
                Part::Rest => {
                    let tail = match self.0.get(number + 1) {
                        Some(Part::Literal(text)) => &**text,
                        _ => "",
                    };
                    return rest.strip_suffix(tail).is_some_and(|it| it.bytes().all(|b| b == b'/' || is_literal(b)));
                }
            }
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_rests_stand_for_what_they_say() {
        for (template, fitting, others) in [
            ("/a/{*}", &["/a/b", "/a/b.c%20", "/a/*"][..], &["/a/", "/a", "/a/b/", "/a/b/c", "/a/\"", "/x/b"][..]),
            ("/a/{**}", &["/a/", "/a/b", "/a/b/c/", "/a//"], &["/a", "/b/", "/a/|"]),
            ("/{*}/b/{*}", &["/x/b/y"], &["/b/y", "/x/b/", "/x/y/b/z"]),
            ("/a/{**}/z", &["/a//z", "/a/b/z", "/a/b/c/z"], &["/a/z", "/a/b/zz"]),
            ("/{*}/", &["/a/"], &["/a", "//"]),
            ("/{**}", &["/", "/a/b"], &["", "a"]),
        ] {
            assert_eq!(fault(template), None, "{template}");
            let compiled = Template::of(template);
            for path in fitting {
                assert!(compiled.fits(path), "{template} {path}");
            }
            for path in others {
                assert!(!compiled.fits(path), "{template} {path}");
            }
        }
        assert_eq!(Template::of("/a/b/{*}/c").head(), "/a/b/");
    }

    #[test]
    fn what_is_no_template_is_told() {
        for bad in
            ["/a/{x}", "/a/b{*}", "/{**}/{*}", "/{**}/a/{**}", "/{*}/a*", "/{*}//a", "/{*}/\u{e4}", "{*}/a", "/a}"]
        {
            assert!(fault(bad).is_some(), "{bad}");
        }
        for good in ["/a", "*", "/a*", "*.js", "/a/{*}/%20/", "/ä"] {
            assert_eq!(fault(good), None, "{good}");
        }
    }
}
