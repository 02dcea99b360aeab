//! Whose limit it is: what a rule looks at to tell clients apart.

use std::{borrow::Cow, fmt::Write as _, hash::Hasher, net::IpAddr};

use http::HeaderName;
use serde_json::Value;

use super::Asked;
use crate::{balance::cookie::named_cookie, host::bare, pattern::header_value};

/// The parts of a key, in order. Empty: everybody's.
#[derive(Clone, Debug, Default)]
pub struct Key(pub Box<[(Part, Share)]>);

/// How a part is told, and what becomes of requests without it.
#[derive(Clone, Debug)]
pub struct Share {
    /// Name of the entry for a service that counts.
    pub name: Box<str>,
    /// Requests without it are not counted.
    pub skips: bool,
}

/// One thing that tells clients apart.
#[derive(Clone, Debug)]
pub enum Part {
    /// The client's network of this many bits (IPv4, IPv6).
    Client(u8, u8),
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A claim of the token, by its path.
    Claim(Box<[Box<str>]>),
    /// The peer's SPIFFE id.
    Principal,
    /// The namespace in it.
    Namespace,
    /// The method.
    Method,
    /// The path.
    Path,
    /// The host.
    Host,
    /// The route's name.
    Route,
    /// The same for everybody.
    Constant(Box<str>),
}

/// The path of a claim as users write it: `sub`, or `request.auth.claims[realm][tenant]`; `None` = it is no such thing.
pub fn claim_path(text: &str) -> Option<Box<[Box<str>]>> {
    let text = text.strip_prefix("request.auth.claims").filter(|rest| rest.starts_with('[')).unwrap_or(text);
    if !text.starts_with('[') {
        let plain = !text.is_empty() && !text.contains(['[', ']']) && !text.starts_with("request.auth");
        return plain.then(|| [text.into()].into());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<Box<str>> = inner.split("][").map(Into::into).collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then(|| names.into())
}

impl Key {
    /// Shows what tells this client's limit from others' to a hasher. `false`: the request is not counted.
    pub fn hash(&self, asked: &Asked<'_>, hasher: &mut impl Hasher) -> bool {
        self.0.iter().all(|(part, share)| {
            part.value(asked, |value| match value {
                Some(value) => {
                    // With its length, or `ab`, `c` would be `a`, `bc`.
                    hasher.write_usize(value.len().wrapping_add(1));
                    hasher.write(value);
                    true
                }
                None => {
                    hasher.write_usize(0);
                    !share.skips
                }
            })
        })
    }

    /// The entries of a descriptor, each a name and a value. `None`: the request is not counted.
    pub fn entries(&self, asked: &Asked<'_>) -> Option<Vec<(String, String)>> {
        let entry = |(part, share): &(Part, Share)| {
            part.value(asked, |value| match value {
                None if share.skips => None,
                value => {
                    let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                    Some((share.name.to_string(), value))
                }
            })
        };
        self.0.iter().map(entry).collect()
    }
}

impl Part {
    /// Envoy's name of such an entry.
    pub fn usual_name(&self) -> Box<str> {
        match self {
            Self::Client(32, 128) => "remote_address".into(),
            Self::Client(..) => "masked_remote_address".into(),
            Self::Header(name) => name.as_str().into(),
            Self::Cookie(name) => name.clone(),
            Self::Claim(path) => path.last().cloned().unwrap_or_default(),
            Self::Principal => "principal".into(),
            Self::Namespace => "namespace".into(),
            Self::Method => "method".into(),
            Self::Path => "path".into(),
            Self::Host => "host".into(),
            Self::Route => "route".into(),
            Self::Constant(_) => "generic_key".into(),
        }
    }

    /// Shows the value; `None` = the request does not have it.
    fn value<R>(&self, asked: &Asked<'_>, show: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let text = |text: &str, show: &mut dyn FnMut(Option<&[u8]>)| {
            show(Some(text.as_bytes()).filter(|text| !text.is_empty()))
        };
        let mut show = Some(show);
        let mut shown = None;
        let mut tell = |value: Option<&[u8]>| shown = show.take().map(|show| show(value));
        match self {
            Self::Client(v4, v6) => text(&network(asked.client, *v4, *v6), &mut tell),
            Self::Header(name) => tell(header_value(asked.request.headers, name).as_deref()),
            Self::Cookie(name) => tell(named_cookie(asked.request.headers, name)),
            Self::Claim(path) => {
                let claim = asked.request.token.and_then(|token| token.claim(path.iter().map(|name| &**name)));
                match claim {
                    None | Some(Value::Null) => tell(None),
                    Some(Value::String(value)) => tell(Some(value.as_bytes())),
                    Some(other) => tell(Some(other.to_string().as_bytes())),
                }
            }
            Self::Principal => text(asked.peer, &mut tell),
            Self::Namespace => text(namespace(asked.peer), &mut tell),
            Self::Method => text(asked.request.method, &mut tell),
            Self::Path => text(asked.request.path, &mut tell),
            Self::Host => text(&lower_case(bare(asked.request.authority)), &mut tell),
            Self::Route => text(asked.route.map_or("", |rule| &rule.name), &mut tell),
            Self::Constant(constant) => text(constant, &mut tell),
        }
        shown.expect("every arm shows once")
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `spiffe://cluster.local/ns/NAMESPACE/sa/account`.
fn namespace(peer: &str) -> &str {
    let rest = peer.split_once("/ns/").map_or("", |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Room for the text of any network, on the stack.
struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// `10.0.0.0/8`; a whole address stands alone.
fn network(address: IpAddr, v4: u8, v6: u8) -> Text {
    let mut text = Text { bytes: [0; 48], length: 0 };
    // The longest, `ffff:...:ffff/128`, has 43 letters.
    let _ = match address.to_canonical() {
        IpAddr::V4(address) if v4 >= 32 => write!(text, "{address}"),
        IpAddr::V4(address) => {
            let masked = u32::from(address) & u32::MAX.checked_shl(u32::from(32 - v4)).unwrap_or(0);
            write!(text, "{}/{v4}", std::net::Ipv4Addr::from(masked))
        }
        IpAddr::V6(address) if v6 >= 128 => write!(text, "{address}"),
        IpAddr::V6(address) => {
            let masked = u128::from(address) & u128::MAX.checked_shl(u32::from(128 - v6)).unwrap_or(0);
            write!(text, "{}/{v6}", std::net::Ipv6Addr::from(masked))
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_written_in_two_ways() {
        let path = |text: &str| claim_path(text).map(|path| path.join("|"));
        assert_eq!(path("sub").as_deref(), Some("sub"));
        assert_eq!(path("https://example.com/tenant").as_deref(), Some("https://example.com/tenant"));
        assert_eq!(path("request.auth.claims[realm][tenant]").as_deref(), Some("realm|tenant"));
        assert_eq!(path("[a]").as_deref(), Some("a"));
        for wrong in ["", "[", "[]", "a]", "request.auth.claims", "request.auth.claims[a", "[a][]", "[a]b"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn networks_are_told_by_their_first_address() {
        let text = |address: &str, v4, v6| network(address.parse().unwrap(), v4, v6).to_string();
        assert_eq!(text("10.1.2.3", 32, 64), "10.1.2.3");
        assert_eq!(text("10.1.2.3", 8, 64), "10.0.0.0/8");
        assert_eq!(text("10.1.2.3", 0, 64), "0.0.0.0/0");
        assert_eq!(text("::ffff:10.1.2.3", 32, 64), "10.1.2.3");
        assert_eq!(text("2001:db8:1:2:3:4:5:6", 32, 64), "2001:db8:1:2::/64");
        assert_eq!(text("2001:db8::1", 32, 0), "::/0");
        let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!((text(all, 32, 128), text(all, 32, 127).len()), (all.to_owned(), 43));
    }

    #[test]
    fn the_namespace_is_in_the_identity() {
        assert_eq!(namespace("spiffe://cluster.local/ns/shop/sa/web"), "shop");
        assert_eq!(namespace(""), "");
    }
}
