//! The page for people: one document, one module and one style sheet, which are part of the binary and read the JSON pages. They
//! load nothing from elsewhere.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::answers::{Reply, reply};

/// Scripts and styles are files of ours; nothing else may run, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, media type, content.
const FILES: [(&str, &str, &[u8]); 11] = [
    ("/", HTML, include_bytes!("page/index.html")),
    ("/page.css", STYLE, include_bytes!("page/page.css")),
    ("/page.js", SCRIPT, include_bytes!("page/page.js")),
    ("/traffic.js", SCRIPT, include_bytes!("page/traffic.js")),
    ("/graph.js", SCRIPT, include_bytes!("page/graph.js")),
    ("/control.js", SCRIPT, include_bytes!("page/control.js")),
    ("/fold.js", SCRIPT, include_bytes!("page/fold.js")),
    ("/listing.js", SCRIPT, include_bytes!("page/listing.js")),
    ("/parts.js", SCRIPT, include_bytes!("page/parts.js")),
    ("/sections.js", SCRIPT, include_bytes!("page/sections.js")),
    ("/icon.svg", SVG, include_bytes!("page/icon.svg")),
];

/// Whether somebody wants to look rather than to read.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"))
}

/// A file of the page.
pub(crate) fn file(path: &str) -> Option<Reply> {
    let (_, kind, content) = FILES.iter().find(|(name, ..)| *name == path)?;
    let mut reply = reply(StatusCode::OK, kind, Bytes::from_static(content));
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::VARY, "accept"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_stays_at_home() {
        let size: usize = FILES.iter().map(|(.., content)| content.len()).sum();
        assert!(size < 200 << 10, "{size} bytes");
        for (name, _, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            let without_names = text.replace("http://www.w3.org/", "");
            assert!(
                !without_names.contains("https://") && !without_names.contains("http://"),
                "{name} leads elsewhere"
            );
            assert!(!text.contains("innerHTML") && !text.contains("insertAdjacentHTML"), "{name}: names are only text");
        }
        let html = std::str::from_utf8(FILES[0].2).unwrap();
        assert!(
            !html.contains("style=") && !html.contains("<style") && !html.contains("onclick"),
            "the policy forbids it"
        );
    }
}
