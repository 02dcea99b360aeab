//! Host names as Istio writes them (`a.example.com`, `*.example.com`, `*`) and the map that finds one for a request.

use std::{
    borrow::Cow,
    cmp::{Ordering, Reverse},
    fmt,
    str::FromStr,
};

use crate::hashed::HashMap;

/// A host of a Gateway server, a VirtualService or a DestinationRule, in lower case.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// `*.example.com`: the text after the `*`. At least one character must stand in its place, any number of labels.
    Suffix(Box<str>),
    /// One host.
    Exact(Box<str>),
}

/// Why a text is no host pattern.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHost {
    /// A `*` somewhere else than in front.
    #[error("`*` may stand only at the start of a host, as in `*.example.com`")]
    Star,
    /// Nothing.
    #[error("a host must not be empty; write a name such as `www.example.com`, or `*` for every host")]
    Empty,
    /// Something that cannot be in a host.
    #[error("a host is a name without scheme, path, port and spaces, as in `www.example.com`")]
    Character,
}

impl FromStr for HostPattern {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost::Empty);
        }
        if text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'/') || (text.contains(':') && !is_ipv6(text)) {
            return Err(BadHost::Character);
        }
        let host = text.to_ascii_lowercase();
        match host.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(rest) if !rest.contains('*') => Ok(Self::Suffix(rest.into())),
            None if !host.contains('*') => Ok(Self::Exact(host.into())),
            _ => Err(BadHost::Star),
        }
    }
}

fn is_ipv6(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.parse::<std::net::Ipv6Addr>().is_ok()
}

impl HostPattern {
    /// Whether every host of `other` is also one of this pattern.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Suffix(own), Self::Suffix(theirs)) => theirs.ends_with(&**own),
            (Self::Suffix(own), Self::Exact(host)) => host.len() > own.len() && host.ends_with(&**own),
            (Self::Exact(own), Self::Exact(host)) => own == host,
            (_, Self::Any) | (Self::Exact(_), Self::Suffix(_)) => false,
        }
    }

    /// The hosts that both patterns match: the more specific of the two, or `None`.
    pub fn intersect<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.covers(other) {
            Some(other)
        } else if other.covers(self) {
            Some(self)
        } else {
            None
        }
    }

    /// Whether this is a single host.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }
}

impl Ord for HostPattern {
    /// Most specific first: exact, longer wildcard, shorter wildcard, `*`; then alphabetically.
    fn cmp(&self, other: &Self) -> Ordering {
        fn rank(pattern: &HostPattern) -> (u8, Reverse<usize>, &str) {
            match pattern {
                HostPattern::Exact(host) => (0, Reverse(0), host),
                HostPattern::Suffix(rest) => (1, Reverse(rest.len()), rest),
                HostPattern::Any => (2, Reverse(0), ""),
            }
        }
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for HostPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(rest) => write!(f, "*{rest}"),
            Self::Exact(host) => f.write_str(host),
        }
    }
}

/// The host of an authority: without its port, and without the final dot of a fully qualified name, which is the same host.
pub fn bare(authority: &str) -> &str {
    let host = strip_port(authority);
    host.strip_suffix('.').unwrap_or(host)
}

/// The host of a `Host` header or `:authority`: what is left without `:port`. IPv6 literals keep their brackets.
pub fn strip_port(authority: &str) -> &str {
    let Some(colon) = authority.rfind(':') else { return authority };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    // `::1` without brackets has no port; `[::1]` has its last colon inside of the brackets.
    if !digits || (host.contains(':') && !host.ends_with(']')) { authority } else { host }
}

/// Values by host pattern. The most specific pattern wins: exact, then the longest `*suffix`, then `*`.
///
/// The cost of a lookup depends on the labels of the host asked for, not on the number of hosts stored.
#[derive(Clone, Debug)]
pub struct HostMap<V> {
    entries: Vec<(HostPattern, V)>,
    exact: HashMap<Box<str>, usize>,
    /// Suffixes that start with a dot: looked up at each dot of the host.
    dotted: HashMap<Box<str>, usize>,
    /// Other suffixes (`*-v1.example.com`), with their distinct lengths, longest first.
    other: HashMap<Box<str>, usize>,
    other_lengths: Vec<usize>,
    any: Option<usize>,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            exact: HashMap::default(),
            dotted: HashMap::default(),
            other: HashMap::default(),
            other_lengths: Vec::new(),
            any: None,
        }
    }
}

impl<V> HostMap<V> {
    /// Store a value; gives back the one it replaces.
    pub fn insert(&mut self, pattern: &HostPattern, value: V) -> Option<V> {
        if let Some(index) = self.position(pattern) {
            return Some(std::mem::replace(&mut self.entries[index].1, value));
        }
        let index = self.entries.len();
        self.entries.push((pattern.clone(), value));
        match pattern {
            HostPattern::Any => self.any = Some(index),
            HostPattern::Exact(host) => {
                self.exact.insert(host.clone(), index);
            }
            HostPattern::Suffix(rest) if rest.starts_with('.') => {
                self.dotted.insert(rest.clone(), index);
            }
            HostPattern::Suffix(rest) => {
                self.other.insert(rest.clone(), index);
                if let Err(place) = self.other_lengths.binary_search_by_key(&Reverse(rest.len()), |&l| Reverse(l)) {
                    self.other_lengths.insert(place, rest.len());
                }
            }
        }
        None
    }

    /// The value of the most specific pattern that matches a host (without port, any case).
    pub fn get(&self, host: &str) -> Option<&V> {
        let host = lower_case(host);
        let index = self.exact.get(&*host).copied().or_else(|| self.wildcard(&host)).or(self.any)?;
        Some(&self.entries[index].1)
    }

    /// Shows the values of all patterns that match a host (without port, any case), until one says stop.
    ///
    /// # Errors
    /// What `each` stopped with.
    pub fn each<E>(&self, host: &str, mut each: impl FnMut(&V) -> Result<(), E>) -> Result<(), E> {
        let host = lower_case(host);
        if let Some(index) = self.exact.get(&*host) {
            each(&self.entries[*index].1)?;
        }
        for at in 1..host.len() {
            let Some(rest) = host.get(at..) else { continue };
            let map = if rest.starts_with('.') { &self.dotted } else { &self.other };
            if !map.is_empty()
                && let Some(index) = map.get(rest)
            {
                each(&self.entries[*index].1)?;
            }
        }
        self.any.map_or(Ok(()), |index| each(&self.entries[index].1))
    }

    /// The values of all patterns that cover a pattern, the most specific first.
    pub fn covering<'a>(&'a self, pattern: &'a HostPattern) -> impl Iterator<Item = &'a V> {
        let (text, exact) = match pattern {
            HostPattern::Any => ("", None),
            HostPattern::Suffix(rest) => (&**rest, None),
            HostPattern::Exact(host) => (&**host, self.exact.get(host).copied()),
        };
        // A wildcard covers itself, but a host that equals the rest of a wildcard lacks the part in front.
        let start = usize::from(pattern.is_exact());
        let suffixes = (start..text.len()).filter_map(move |at| {
            let rest = text.get(at..)?;
            let map = if rest.starts_with('.') { &self.dotted } else { &self.other };
            if map.is_empty() { None } else { map.get(rest).copied() }
        });
        exact.into_iter().chain(suffixes).chain(self.any).map(|index| &self.entries[index].1)
    }

    /// The value of exactly this pattern.
    pub fn get_pattern(&self, pattern: &HostPattern) -> Option<&V> {
        self.position(pattern).map(|index| &self.entries[index].1)
    }

    /// The value of exactly this pattern, made first if need be.
    pub fn get_or_insert_with(&mut self, pattern: &HostPattern, make: impl FnOnce() -> V) -> &mut V {
        let index = self.position(pattern).unwrap_or_else(|| {
            self.insert(pattern, make());
            self.entries.len() - 1
        });
        &mut self.entries[index].1
    }

    /// Patterns and values in the order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = (&HostPattern, &V)> {
        self.entries.iter().map(|(pattern, value)| (pattern, value))
    }

    /// Number of patterns.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any pattern.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The same patterns with other values.
    pub fn map<W>(self, mut change: impl FnMut(&HostPattern, V) -> W) -> HostMap<W> {
        let entries = self.entries.into_iter().map(|(pattern, value)| {
            let value = change(&pattern, value);
            (pattern, value)
        });
        HostMap {
            entries: entries.collect(),
            exact: self.exact,
            dotted: self.dotted,
            other: self.other,
            other_lengths: self.other_lengths,
            any: self.any,
        }
    }

    fn position(&self, pattern: &HostPattern) -> Option<usize> {
        match pattern {
            HostPattern::Any => self.any,
            HostPattern::Exact(host) => self.exact.get(host).copied(),
            HostPattern::Suffix(rest) if rest.starts_with('.') => self.dotted.get(rest).copied(),
            HostPattern::Suffix(rest) => self.other.get(rest).copied(),
        }
    }

    fn wildcard(&self, host: &str) -> Option<usize> {
        let dotted = if self.dotted.is_empty() { None } else { self.longest_dotted(host) };
        let other = self.other_lengths.iter().filter(|&&length| length < host.len()).find_map(|&length| {
            let rest = host.get(host.len() - length..)?;
            self.other.get(rest).map(|&index| (length, index))
        });
        match (dotted, other) {
            (Some(a), Some(b)) => Some(if a.0 >= b.0 { a.1 } else { b.1 }),
            (a, b) => a.or(b).map(|found| found.1),
        }
    }

    fn longest_dotted(&self, host: &str) -> Option<(usize, usize)> {
        let dots = host.bytes().enumerate().skip(1).filter(|&(_, byte)| byte == b'.');
        dots.map(|(at, _)| &host[at..]).find_map(|rest| self.dotted.get(rest).map(|&index| (rest.len(), index)))
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

#[cfg(test)]
mod tests;
