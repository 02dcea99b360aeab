//! Unix sockets among addresses.
//!
//! Endpoints are told apart, counted, kept and logged by their address, millions of times a second. So a socket's path has an
//! address, too: one that no packet, no object and no header can spell, made of the path's hash, from which a table leads back
//! to the path when somebody connects. Whoever has no unix sockets pays nothing for them.

use std::{
    collections::HashMap,
    fmt,
    hash::Hasher as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use twox_hash::XxHash64;

/// What addresses of unix sockets begin with.
pub const SCHEME: &str = "unix://";
/// The `flowinfo` by which such an address is known: whatever is read from text or from the wire has none.
const MARK: u32 = 0x756e_6978;
/// The first half of the IPv6 address: RFC 6666's, whose packets are discarded.
const DISCARD: u64 = 0x0100 << 48;
/// Paths that one process knows at most, over all of its configurations. Only objects of the proxy's own namespace and of the
/// root namespace add to them.
const MOST: usize = 65_536;
/// What `sockaddr_un` has room for: a path ends with a NUL there, an abstract name begins with one.
const LONGEST: usize = 107;

static PATHS: LazyLock<RwLock<HashMap<SocketAddr, Arc<str>>>> = LazyLock::new(RwLock::default);

/// The address that stands for `unix:///path` or `unix://@name`.
///
/// # Errors
/// Why it cannot be connected to.
pub fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let path = text.strip_prefix(SCHEME).unwrap_or(text);
    if path.is_empty() || path == "@" {
        return Err("it names no socket");
    }
    // It is written to logs.
    if path.contains(|letter: char| letter.is_control() || matches!(letter, '"' | '\\')) {
        return Err("the path of a unix socket holds no control characters, quotes and backslashes here");
    }
    if path.len() > LONGEST {
        return Err("the path of a unix socket has 107 bytes at most");
    }
    let address = hashed(path);
    let mut paths = PATHS.write().unwrap_or_else(PoisonError::into_inner);
    match paths.get(&address) {
        Some(known) if **known == *path => Ok(address),
        Some(_) => Err("another path has the same hash; choose another one"),
        None if paths.len() >= MOST => Err("a process knows 65,536 paths at most; restart it"),
        None => {
            paths.insert(address, path.into());
            Ok(address)
        }
    }
}

/// The path that an address stands for, `@name` for an abstract one; `None`: it is an IP address.
pub fn path(address: SocketAddr) -> Option<Arc<str>> {
    if !is_unix(address) {
        return None;
    }
    PATHS.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
}

/// Whether an address stands for a path.
pub fn is_unix(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(address) => address.flowinfo() == MARK && address.port() == 0,
    }
}

/// The other side of a connection through a unix socket, which has no address: the machine itself.
pub fn nobody() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

/// An address as people write it: `10.0.0.1:80`, `[fd00::1]:80`, `unix:///run/app.sock`.
pub fn shown(address: SocketAddr) -> impl fmt::Display {
    struct Shown(SocketAddr);
    impl fmt::Display for Shown {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            match path(self.0) {
                Some(path) => write!(out, "{SCHEME}{path}"),
                None => write!(out, "{}", self.0),
            }
        }
    }
    Shown(address)
}

/// Whether a path is in the table.
#[cfg(test)]
pub(crate) fn is_known(text: &str) -> bool {
    path(hashed(text.strip_prefix(SCHEME).unwrap_or(text))).is_some()
}

fn hashed(path: &str) -> SocketAddr {
    let of = |seed| {
        let mut hasher = XxHash64::with_seed(seed);
        hasher.write(path.as_bytes());
        hasher.finish()
    };
    let (low, scope) = (of(1), of(2) as u32);
    let ip = Ipv6Addr::from_bits(u128::from(DISCARD) << 64 | u128::from(low));
    SocketAddr::V6(SocketAddrV6::new(ip, 0, MARK, scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_again_by_its_address() {
        let first = address("unix:///run/app.sock").unwrap();
        assert_eq!(address("unix:///run/app.sock"), Ok(first));
        let other = address("unix://@name").unwrap();
        assert_ne!(first, other);
        assert_eq!(path(first).as_deref(), Some("/run/app.sock"));
        assert_eq!(path(other).as_deref(), Some("@name"));
        assert_eq!(shown(first).to_string(), "unix:///run/app.sock");
    }

    #[test]
    fn nothing_that_can_be_written_or_sent_is_the_address_of_a_socket() {
        let made = address("unix:///run/other.sock").unwrap();
        let text: SocketAddr = made.to_string().parse().unwrap();
        let wire = SocketAddr::new(made.ip(), 0);
        for forged in [text, wire, "10.0.0.1:80".parse().unwrap()] {
            assert_eq!((path(forged), is_unix(forged)), (None, false), "{forged}");
        }
        assert_eq!(shown("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }

    #[test]
    fn what_the_system_has_no_room_for_is_refused() {
        for text in ["unix://", "unix://@", "unix:///a\0b", &format!("unix:///{}", "x".repeat(107))] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(address(&format!("unix:///{}", "x".repeat(106))).is_ok());
    }
}
