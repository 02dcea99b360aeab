//! Blocks of addresses, of both families in one form, so that they can be looked up by length.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;

/// Where IPv4 addresses begin among those of IPv6 (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// A CIDR block, or one address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Subnet {
    /// Without the bits behind the length.
    bits: u128,
    /// From 0 to 128; IPv4's are counted from 96.
    length: u8,
}

impl Subnet {
    /// One address.
    pub fn of(address: IpAddr) -> Self {
        let bits = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self { bits, length: 128 }
    }

    /// How narrow it is.
    pub(crate) fn length(&self) -> u8 {
        self.length
    }

    /// The wider block around it. `None`: it would be one of the other family, or it is no wider one.
    pub(crate) fn shortened(&self, length: u8) -> Option<Self> {
        let foreign = self.is_v4() && length < MAPPED;
        (length <= self.length && !foreign).then(|| Self { bits: self.bits & mask(length), length })
    }

    /// Whether it is one address.
    pub fn is_address(&self) -> bool {
        self.length == 128
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::of(address).shortened(self.length) == Some(*self)
    }

    fn is_v4(&self) -> bool {
        self.length >= MAPPED && self.bits >> 32 == 0xffff
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl FromStr for Subnet {
    type Err = ();

    /// `10.0.0.0/8`, `fd00::/8`, or an address.
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::of(address));
        }
        let block: IpNet = text.parse().map_err(|_| ())?;
        let length = match block {
            IpNet::V4(block) => MAPPED + block.prefix_len(),
            IpNet::V6(block) => block.prefix_len(),
        };
        Ok(Self { bits: Self::of(block.network()).bits, length })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, length, whole) = if self.is_v4() {
            // The lower 32 bits.
            (IpAddr::V4(Ipv4Addr::from_bits(self.bits as u32)), self.length - MAPPED, 32)
        } else {
            (IpAddr::V6(Ipv6Addr::from_bits(self.bits)), self.length, 128)
        };
        if length == whole { write!(f, "{address}") } else { write!(f, "{address}/{length}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_and_addresses_read_back_as_they_are_written() {
        for (text, back) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("fd00::1/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(text.parse::<Subnet>().unwrap().to_string(), back);
        }
        assert!("10.0.0.0/33".parse::<Subnet>().is_err() && "shop".parse::<Subnet>().is_err());
    }

    #[test]
    fn the_families_stay_apart() {
        let (four, six): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        for (block, is_four, is_six) in [("0.0.0.0/0", true, false), ("::/0", false, true), ("::/90", false, false)] {
            let block: Subnet = block.parse().unwrap();
            assert_eq!((block.contains(four), block.contains(six)), (is_four, is_six), "{block}");
        }
    }

    proptest! {
        #[test]
        fn a_block_contains_what_ipnet_says(bits in any::<u32>(), length in 0_u8..=32, other in any::<u32>(), near in any::<bool>()) {
            let block = ipnet::Ipv4Net::new(Ipv4Addr::from_bits(bits), length).unwrap();
            let address = Ipv4Addr::from_bits(if near { bits ^ (other >> 16) } else { other });
            let own: Subnet = block.to_string().parse().unwrap();
            prop_assert_eq!(own.contains(address.into()), block.contains(&address));
        }

        #[test]
        fn so_it_does_for_ipv6(bits in any::<u128>(), length in 0_u8..=128, flip in 0_u8..128) {
            let block = ipnet::Ipv6Net::new(Ipv6Addr::from_bits(bits), length).unwrap();
            let address = Ipv6Addr::from_bits(bits ^ (1 << flip));
            prop_assume!(address.to_ipv4_mapped().is_none() && block.network().to_ipv4_mapped().is_none());
            let own: Subnet = block.to_string().parse().unwrap();
            prop_assert_eq!(own.contains(address.into()), block.contains(&address));
        }
    }
}
