//! Who holds certificates of this CA, and who was refused one: the last of each, for the page. The log has all of them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// Holders that are remembered; of more, those whose certificate ends first are forgotten.
const MOST: usize = 2000;
/// Refusals that are remembered.
const MOST_REFUSALS: usize = 50;
/// Bytes of a reason: peers have a say in it.
const LONGEST: usize = 300;

/// Somebody who holds a certificate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Holder {
    /// SPIFFE id.
    pub(crate) identity: String,
    /// Its pod, where the proof names it; else the address that it asked from.
    pub(crate) from: String,
    /// How it has proven who it is: `token` or `certificate`.
    pub(crate) proof: &'static str,
    /// Of its last certificate.
    pub(crate) serial: String,
    /// When that was issued.
    pub(crate) issued: String,
    /// When that ends.
    pub(crate) not_after: String,
    /// How many it got from this process.
    pub(crate) count: u64,
}

/// Somebody who got none.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Refusal {
    /// When.
    pub(crate) at: String,
    /// SPIFFE id; empty = it is not known who asked.
    pub(crate) identity: String,
    /// The address that it asked from.
    pub(crate) from: String,
    /// A sentence.
    pub(crate) why: String,
}

#[derive(Debug, Default)]
struct Known {
    /// By identity and place.
    holders: BTreeMap<(String, String), Holder>,
    refusals: VecDeque<Refusal>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<Known>);

impl Holders {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A certificate was issued. `holder.count` is made here.
    pub(crate) fn issued(&self, mut holder: Holder) {
        let key = (holder.identity.clone(), holder.from.clone());
        let holders = &mut self.known().holders;
        holder.count = holders.get(&key).map_or(1, |before| before.count + 1);
        if holders.len() >= MOST
            && !holders.contains_key(&key)
            && let Some(first) =
                holders.iter().min_by(|a, b| a.1.not_after.cmp(&b.1.not_after)).map(|(key, _)| key.clone())
        {
            holders.remove(&first);
        }
        holders.insert(key, holder);
    }

    /// Nothing was issued.
    pub(crate) fn refused(&self, identity: &str, from: IpAddr, why: &str) {
        let mut end = LONGEST.min(why.len());
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        let refusals = &mut self.known().refusals;
        if refusals.len() >= MOST_REFUSALS {
            refusals.pop_back();
        }
        let (identity, why) = (identity.to_owned(), why[..end].to_owned());
        refusals.push_front(Refusal { at: now(), identity, from: from.to_string(), why });
    }

    /// Those whose certificate was issued last, at most so many, and how many more there are; refusals, the last one first.
    pub(crate) fn told(&self, most: usize) -> (Vec<Holder>, usize, Vec<Refusal>) {
        let known = self.known();
        let mut holders: Vec<Holder> = known.holders.values().cloned().collect();
        holders.sort_by(|a, b| b.issued.cmp(&a.issued));
        let more = holders.len().saturating_sub(most);
        holders.truncate(most);
        (holders, more, known.refusals.iter().cloned().collect())
    }
}

/// As the pages write times: to the second.
pub(crate) fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn holder(number: usize, not_after: &str) -> Holder {
        Holder {
            identity: format!("spiffe://mesh/ns/shop/sa/{number}"),
            from: "10.0.0.1".to_owned(),
            proof: "token",
            serial: "1".to_owned(),
            issued: not_after.to_owned(),
            not_after: not_after.to_owned(),
            count: 0,
        }
    }

    #[test]
    fn the_last_certificate_of_each_is_told() {
        let holders = Holders::default();
        holders.issued(holder(1, "2026-01-01T00:00:00Z"));
        holders.issued(holder(1, "2026-01-03T00:00:00Z"));
        holders.issued(holder(2, "2026-01-02T00:00:00Z"));
        let (told, more, _) = holders.told(1);
        assert_eq!((told.len(), more), (1, 1));
        assert_eq!((told[0].count, told[0].not_after.as_str()), (2, "2026-01-03T00:00:00Z"));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let holders = Holders::default();
        holders.issued(holder(0, "2025-01-01T00:00:00Z"));
        for number in 1..=MOST {
            holders.issued(holder(number, "2026-01-01T00:00:00Z"));
        }
        let (told, more, _) = holders.told(MOST);
        assert_eq!((told.len(), more), (MOST, 0));
        assert!(!told.iter().any(|it| it.identity.ends_with("/0")), "who ends first goes first");
        for number in 0..200 {
            holders.refused("", Ipv4Addr::LOCALHOST.into(), &format!("{number} {}", "ä".repeat(1000)));
        }
        let (_, _, refusals) = holders.told(1);
        assert_eq!(refusals.len(), MOST_REFUSALS);
        assert!(refusals[0].why.starts_with("199 ä") && refusals[0].why.len() <= LONGEST);
    }
}
