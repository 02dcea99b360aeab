//! What this network namespace and this process have.

use super::Family;

/// The kernel's number of CAP_NET_ADMIN.
const NET_ADMIN: u32 = 12;

/// The addresses of a namespace, as far as rules depend on them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ipv6 {
    /// None but the loopback's.
    Nothing,
    /// Of the link alone.
    Link,
    /// One that others can reach.
    Global,
}

/// What there is of IPv6 here.
pub(super) fn ipv6() -> Ipv6 {
    // Without IPv6 in the kernel there is no such file.
    read_ipv6(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default())
}

/// From lines of address, index, length, scope, flags, name.
fn read_ipv6(text: &str) -> Ipv6 {
    // What is on lo may be ours.
    let others = text.lines().filter(|line| line.split_whitespace().last() != Some("lo"));
    let scopes = others.filter_map(|line| line.split_whitespace().nth(3));
    scopes.fold(Ipv6::Nothing, |found, scope| match (found, scope) {
        (_, "00" | "40") => Ipv6::Global,
        (Ipv6::Nothing, "20") => Ipv6::Link,
        (found, _) => found,
    })
}

impl Ipv6 {
    /// The families that rules are for.
    pub(super) fn families(self) -> &'static [Family] {
        if self == Self::Nothing { &[Family::V4] } else { &[Family::V4, Family::V6] }
    }
}

/// Whether this process may change what the kernel does with packets.
///
/// # Errors
/// A sentence.
pub(super) fn may_change() -> Result<(), String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if has_net_admin(&status) {
        return Ok(());
    }
    Err("this process lacks CAP_NET_ADMIN, so the kernel would take no rule from it: run it as root, in a pod as an init \
         container with securityContext {runAsUser: 0, capabilities: {add: [NET_ADMIN, NET_RAW]}}; --dry-run needs no rights"
        .to_owned())
}

fn has_net_admin(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    // Where it does not say, the kernel does.
    bits.is_none_or(|bits| bits >> NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv6_are_told_by_their_scope() {
        let loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let link = "fe80000000000000000000000a0b0c0d 02 40 20 80     eth0\n";
        let global = "fd000000000000000000000000000001 02 40 00 80     eth0\n";
        assert_eq!(read_ipv6(""), Ipv6::Nothing);
        let own = "00000000000000000000000000000006 01 80 00 80       lo\n";
        assert_eq!(read_ipv6(&format!("{loopback}{own}")), Ipv6::Nothing);
        assert_eq!(read_ipv6(&format!("{loopback}{link}")), Ipv6::Link);
        assert_eq!(read_ipv6(&format!("{global}{link}")), Ipv6::Global);
    }

    #[test]
    fn the_right_is_one_bit_of_the_effective_set() {
        assert!(has_net_admin("CapInh:\t0\nCapEff:\t000001fffeffffff\n"));
        assert!(!has_net_admin("CapEff:\t0000000000002000\n"), "that is CAP_NET_RAW");
        assert!(!has_net_admin("CapEff:\t0000000000000000\n"));
    }
}
