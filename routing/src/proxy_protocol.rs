//! The PROXY protocol, versions 1 and 2: who the client of the other side is, in front of everything else
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins.
const PROXY: &[u8; 6] = b"PROXY ";
/// Bytes of the longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;
/// Bytes before the addresses of version 2.
const FIXED: usize = 16;
/// Most bytes that a header may have: addresses take 216 at most, and what balancers of clouds add is some hundred.
pub const LONGEST: usize = 4096;
/// TLV that holds a checksum of the whole header.
const CRC32C: u8 = 0x03;

/// What stands at the beginning of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// A header.
    Header(Header),
    /// The beginning of one; more bytes are needed.
    Incomplete,
    /// None, and why.
    Invalid(&'static str),
}

/// A header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Bytes of it.
    pub length: usize,
    /// The client, and the address that it connected to. `None`: the sender speaks for itself (`LOCAL`, as health checks
    /// do), or of a client without an IP address (`UNKNOWN`, UNIX sockets, UDP).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Reads a header from the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    if bytes.len() < SIGNATURE.len() && SIGNATURE.starts_with(bytes) {
        return Parsed::Incomplete;
    }
    if bytes.starts_with(SIGNATURE) {
        return version_2(bytes);
    }
    if bytes.starts_with(PROXY) {
        return version_1(bytes);
    }
    if PROXY.starts_with(bytes) { Parsed::Incomplete } else { Parsed::Invalid("no PROXY header") }
}

fn version_1(bytes: &[u8]) -> Parsed {
    let seen = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        let too_long = seen.len() == LONGEST_LINE;
        return if too_long { Parsed::Invalid("a PROXY line without end") } else { Parsed::Incomplete };
    };
    let line = str::from_utf8(&seen[..end]).ok();
    let Some(line) = line else { return Parsed::Invalid("a PROXY line that is no text") };
    match addresses_of_line(line) {
        Some(addresses) => Parsed::Header(Header { length: end + 2, addresses }),
        None => Parsed::Invalid("a PROXY line without two addresses of its family and two ports"),
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`. Behind `UNKNOWN` there may be anything.
fn addresses_of_line(line: &str) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let mut words = line.split(' ');
    let family = words.nth(1)?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (from, to) = (words.next()?, words.next()?);
    let (from, to): (IpAddr, IpAddr) = match family {
        "TCP4" => (from.parse::<Ipv4Addr>().ok()?.into(), to.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => (from.parse::<Ipv6Addr>().ok()?.into(), to.parse::<Ipv6Addr>().ok()?.into()),
        _ => return None,
    };
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))))
}

/// Digits alone, without a sign.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn version_2(bytes: &[u8]) -> Parsed {
    let Some(&[version, family, high, low]) = bytes.get(12..FIXED) else { return Parsed::Incomplete };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if version >> 4 != 2 {
        return Parsed::Invalid("a PROXY header of an unknown version");
    }
    if version & 0xf > 1 {
        return Parsed::Invalid("a PROXY header with an unknown command");
    }
    if length > LONGEST {
        return Parsed::Invalid("a PROXY header of more than 4 KiB");
    }
    let Some(header) = bytes.get(..length) else { return Parsed::Incomplete };
    let local = version & 0xf == 0;
    // Of the transports, streams alone; the sizes are those of the family, whatever the transport.
    let (size, stream) = match (family >> 4, family & 0xf) {
        (1, transport) => (12, transport == 1),
        (2, transport) => (36, transport == 1),
        (3, _) => (216, false),
        _ => (0, false),
    };
    let Some((addresses, extensions)) = header[FIXED..].split_at_checked(if local { 0 } else { size }) else {
        return Parsed::Invalid("a PROXY header that is too short for its addresses");
    };
    // What follows `LOCAL` is nobody's business.
    if !local && let Err(why) = check_extensions(header, extensions) {
        return Parsed::Invalid(why);
    }
    Parsed::Header(Header { length, addresses: if stream && !local { pair(addresses) } else { None } })
}

/// From address, to address, from port, to port.
fn pair(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (ips, ports) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (from, to) = ips.split_at(ips.len() / 2);
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        match <[u8; 4]>::try_from(bytes) {
            Ok(four) => Some(four.into()),
            Err(_) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((SocketAddr::new(ip(from)?, port(0)), SocketAddr::new(ip(to)?, port(2))))
}

/// Type, length in two bytes, value: unknown ones are passed over, a checksum has to be right.
fn check_extensions(header: &[u8], extensions: &[u8]) -> Result<(), &'static str> {
    let mut rest = extensions;
    while let [kind, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) =
            tail.split_at_checked(length).ok_or("a PROXY header whose extensions do not fit into it")?;
        if *kind == CRC32C {
            let at = header.len() - tail.len();
            let given =
                <[u8; 4]>::try_from(value).map_err(|_| "a PROXY header with a checksum of other than 4 bytes")?;
            let zeros = [0; 4];
            let parts = [&header[..at], &zeros[..], &header[at + 4..]];
            if crc32c(parts.into_iter().flatten()) != u32::from_be_bytes(given) {
                return Err("a PROXY header with a wrong checksum");
            }
        }
        rest = next;
    }
    if rest.is_empty() { Ok(()) } else { Err("a PROXY header whose extensions do not fit into it") }
}

/// RFC 4960 appendix B, bit by bit: such headers are short and rare.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A header of version 1. Addresses of different families are both written as IPv6.
pub fn version_1_of(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (family, from_ip, to_ip) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", from.to_string(), to.to_string()),
        (from, to) => ("TCP6", six(from).to_string(), six(to).to_string()),
    };
    let mut line = String::with_capacity(LONGEST_LINE);
    // Writing to a String cannot fail.
    let _ = write!(line, "PROXY {family} {from_ip} {to_ip} {} {}\r\n", from.port(), to.port());
    line.into_bytes()
}

/// A header of version 2.
pub fn version_2_of(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(six(from).octets());
            header.extend(six(to).octets());
        }
    }
    header.extend(from.port().to_be_bytes());
    header.extend(to.port().to_be_bytes());
    header
}

fn six(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    }
}

#[cfg(test)]
mod tests;
