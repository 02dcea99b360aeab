//! Where a cluster's endpoints are: in the configuration, where the client meant to go, or behind the name that it asks for.
//! And which addresses a name that nobody wrote down may have, or an address that an object names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::{HostPattern, strip_port};

/// How a cluster's endpoints are found.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Reach {
    /// They are known (`STATIC`, `DNS`, Kubernetes).
    #[default]
    Endpoints,
    /// The one that the client connected to (`NONE` at a sidecar, `PASSTHROUGH`).
    Original,
    /// The name of each request is looked up then (`DYNAMIC_DNS`).
    Name {
        /// On which port.
        port: u16,
        /// Whether it may have addresses that are not public: see [`is_public`].
        inside: bool,
    },
}

/// Why a name is not connected to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It is no name of the service.
    #[error("`{0}` is not a host of this service")]
    Unasked(String),
    /// All of its addresses are within some network.
    #[error(
        "`{0}` leads to {1}, which is no public address: write a ServiceEntry for this name, or allow it with the annotation \
         egress.sluice.dev/allow-private: \"true\""
    )]
    Inside(String, IpAddr),
    /// It has no address.
    #[error("`{0}` has no address")]
    Nowhere(String),
}

/// The name that a request asks for, if a service of this host has it. Addresses are no names.
///
/// # Errors
/// [`Refused::Unasked`].
pub fn name<'r>(service: &str, authority: &'r str) -> Result<&'r str, Refused> {
    let name = strip_port(authority);
    let unasked = || Refused::Unasked(name.to_owned());
    let covered = match (service.parse::<HostPattern>(), name.to_ascii_lowercase().parse::<HostPattern>()) {
        (Ok(service), Ok(asked)) => asked.is_exact() && service.covers(&asked),
        _ => false,
    };
    if covered && name.parse::<IpAddr>().is_err() { Ok(name) } else { Err(unasked()) }
}

/// The address to connect to: the first that is allowed and was not tried, else the first that is allowed.
///
/// # Errors
/// [`Refused`].
pub fn choose(
    name: &str,
    addresses: &[IpAddr],
    inside: bool,
    tried: impl Fn(IpAddr) -> bool,
) -> Result<IpAddr, Refused> {
    let allowed = || addresses.iter().copied().filter(|address| inside || is_public(*address));
    let found = allowed().find(|address| !tried(*address)).or_else(|| allowed().next());
    found.ok_or_else(|| match addresses.first() {
        Some(first) => Refused::Inside(name.to_owned(), *first),
        None => Refused::Nowhere(name.to_owned()),
    })
}

/// Where clouds tell their machines secrets: AWS, Azure, Google and most others (169.254.169.254, and in IPv6 fd00:ec2::254 and
/// fd20:ce::254), Alibaba, Azure's host, Oracle.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address is reached over the Internet: not this machine, this link, or a private network (the registries of special
/// addresses that RFC 6890 began), nor where a cloud tells its machines secrets.
pub fn is_public(address: IpAddr) -> bool {
    let special = match bare(address) {
        IpAddr::V4(address) => !is_public_v4(address),
        IpAddr::V6(address) => !is_public_v6(address),
    };
    // A translator of the own network leads wherever that wants (RFC 8215).
    let translated = matches!(address, IpAddr::V6(address) if address.segments()[..3] == [0x64, 0xff9b, 1]);
    !special && !translated && !is_veiled(address) && !METADATA.contains(&bare(address))
}

/// Whether an address may be asked because an object says so, when what it names may be in the cluster or on this machine:
/// no link, where clouds keep their secrets, and no crowd.
pub fn is_askable(address: IpAddr) -> bool {
    let kept = match bare(address) {
        IpAddr::V4(address) => {
            address.is_link_local() || address.is_unspecified() || address.is_broadcast() || address.is_multicast()
        }
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified() || address.is_multicast(),
    };
    !kept && !is_veiled(address) && !METADATA.contains(&bare(address))
}

/// An address of NAT64 whose IPv4 may stand elsewhere than in the last 32 bits: where depends on the length of the translator's
/// prefix (RFC 6052), which only the translator knows. With zeros between, another place holds none that anybody has.
fn is_veiled(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return false };
    let segments = address.segments();
    segments[..2] == [0x64, 0xff9b] && segments[2] <= 1 && segments[3..6] != [0; 3]
}

/// As [`is_askable`], but not this machine: whoever writes objects in a cluster must not ask services of a node.
pub fn is_askable_elsewhere(address: IpAddr) -> bool {
    is_askable(address) && !bare(address).is_loopback()
}

/// The address that is meant: NAT64 and 6to4 hold one of IPv4 (RFC 6052, RFC 8215, RFC 3056), and so does IPv4 in IPv6.
fn bare(address: IpAddr) -> IpAddr {
    let IpAddr::V6(given) = address.to_canonical() else { return address.to_canonical() };
    let [first, second, third, .., high, low] = given.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match (first, second) {
        (0x64, 0xff9b) if third <= 1 => v4(high, low),
        (0x2002, _) => v4(second, third),
        _ => IpAddr::V6(given),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || address.is_broadcast()
        || a == 0
        // Shared by carriers (RFC 6598), of protocols (RFC 6890), of tests (RFC 2544), reserved (RFC 1112).
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is given out; of that documentation and protocols (2001::/23) are no hosts.
    let given_out = first & 0xe000 == 0x2000;
    given_out && !(first == 0x2001 && (second < 0x200 || second == 0xdb8)) && first != 0x3fff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_the_internet_routes_is_public() {
        for address in
            ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "172.32.0.1"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "168.63.129.16",
            "64:ff9b::a83f:8110",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:2::8.8.8.8",
            "64:ff9b:0:5::8.8.8.8",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_keeps_secrets_is_not_asked() {
        for kept in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            // The same address behind prefixes of 48, 56 and 64 bits.
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00::",
            "64:ff9b:1:5::10.0.0.1",
            "64:ff9b:0:5::10.0.0.1",
            "2002:a9fe:a9fe::1",
            "100.100.100.200",
            "64:ff9b::100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ] {
            let address = kept.parse().unwrap();
            assert!(!is_askable(address) && !is_askable_elsewhere(address), "{kept}");
        }
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let address = own.parse().unwrap();
            assert!(is_askable(address) && !is_askable_elsewhere(address), "{own}");
        }
        assert!(!is_askable_elsewhere("64:ff9b::127.0.0.1".parse().unwrap()));
        for good in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "100.64.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1"] {
            assert!(is_askable_elsewhere(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn a_name_has_to_be_one_of_the_service() {
        assert_eq!(name("*.example.com", "api.example.com:443"), Ok("api.example.com"));
        assert_eq!(name("*.example.com", "API.Example.com"), Ok("API.Example.com"));
        for asked in ["example.org", "127.0.0.1", "*.example.com", "evil.com", ""] {
            assert!(name("*.example.com", asked).is_err(), "{asked}");
        }
    }

    #[test]
    fn an_address_that_was_tried_is_taken_last() {
        let addresses: Vec<IpAddr> = ["10.0.0.1", "1.1.1.1", "8.8.8.8"].iter().map(|it| it.parse().unwrap()).collect();
        let pick = |inside, tried: &str| {
            choose("a", &addresses, inside, |it| it.to_string() == tried).map(|it| it.to_string())
        };
        assert_eq!(pick(false, ""), Ok("1.1.1.1".to_owned()));
        assert_eq!(pick(false, "1.1.1.1"), Ok("8.8.8.8".to_owned()));
        assert_eq!(pick(true, ""), Ok("10.0.0.1".to_owned()));
        assert!(matches!(choose("a", &addresses[..1], false, |_| false), Err(Refused::Inside(..))));
        assert!(matches!(choose("a", &[], true, |_| false), Err(Refused::Nowhere(_))));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_allowed(bytes in prop::collection::vec(any::<[u8; 4]>(), 0..4), inside: bool) {
            let addresses: Vec<IpAddr> = bytes.iter().map(|it| IpAddr::V4(Ipv4Addr::from(*it))).collect();
            match choose("a", &addresses, inside, |_| false) {
                Ok(address) => prop_assert!(addresses.contains(&address) && (inside || is_public(address))),
                Err(_) => prop_assert!(addresses.iter().all(|it| !inside && !is_public(*it))),
            }
        }
    }
}
