//! `x-forwarded-for`, behind proxies that are trusted.

use std::net::IpAddr;

/// The client's address when so many proxies in front of us are trusted: each of them has appended whom it took the request
/// from, so it is the address that many places from the right. `None` when there are fewer, or when that is no address.
pub fn client<'a>(values: impl Iterator<Item = &'a [u8]>, proxies: u32) -> Option<IpAddr> {
    let place = usize::try_from(proxies.checked_sub(1)?).ok()?;
    // One walk over however many fields there are: they are one list in their order.
    let all: Vec<&[u8]> = values.flat_map(|value| value.split(|byte| *byte == b',')).collect();
    let text = all.get(all.len().checked_sub(place + 1)?)?;
    str::from_utf8(text).ok()?.trim_matches([' ', '\t']).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(values: &[&str], proxies: u32) -> Option<String> {
        client(values.iter().map(|value| value.as_bytes()), proxies).map(|address| address.to_string())
    }

    #[test]
    fn the_client_stands_as_many_places_from_the_right_as_proxies_are_trusted() {
        let list = &["192.0.2.1, 192.0.2.2", "2001:db8::3,\t192.0.2.4"];
        let found: Vec<_> = (0..6).map(|proxies| seen(list, proxies)).collect();
        let some = |text: &str| Some(text.to_owned());
        let wanted = [None, some("192.0.2.4"), some("2001:db8::3"), some("192.0.2.2"), some("192.0.2.1"), None];
        assert_eq!(found, wanted);
        for odd in ["", "unknown", "192.0.2.1:80", "[::1]", "192.0.2.1,", "192.0.2.256"] {
            assert_eq!(seen(&[odd], 1), None, "{odd}");
        }
        assert_eq!(seen(&[], 1), None);
        assert_eq!(seen(&["192.0.2.9"], u32::MAX), None);
    }

    proptest! {
        #[test]
        fn what_a_client_claims_never_counts(claims in proptest::collection::vec("[ -~]{0,30}", 0..5), client in any::<u32>(), more in proptest::collection::vec(any::<u32>(), 0..4)) {
            let claimed = claims.join(",");
            let appended: Vec<String> = std::iter::once(client).chain(more.iter().copied()).map(|ip| IpAddr::from(ip.to_be_bytes()).to_string()).collect();
            let value = if claimed.is_empty() { appended.join(", ") } else { format!("{claimed}, {}", appended.join(", ")) };
            let proxies = u32::try_from(appended.len()).unwrap();
            prop_assert_eq!(seen(&[&value], proxies), Some(appended[0].clone()));
        }
    }
}
