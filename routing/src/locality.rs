//! Where a proxy or an endpoint is: region, zone and subzone.

use std::{collections::BTreeMap, fmt};

/// Label of Nodes: the region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Label of Nodes: the zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of Nodes: the subzone.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// Label of pods, with dots between the parts: it wins over the Node's labels.
pub const OF_POD: &str = "istio-locality";

/// See the module. Empty parts are unknown.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Locality {
    /// As `europe-west1`.
    pub region: String,
    /// As `europe-west1-b`.
    pub zone: String,
    /// As `rack-7`.
    pub subzone: String,
}

impl Locality {
    /// From `region/zone/subzone`, of which the later parts may be missing; `None` when there are more.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parts(text.split('/'))
    }

    fn parts<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let found = Self { region: next(), zone: next(), subzone: next() };
        parts.next().is_none().then_some(found)
    }

    /// What the labels of a pod say by themselves. A region with dots is written with slashes.
    pub fn of_pod(labels: &BTreeMap<String, String>) -> Option<Self> {
        let label = labels.get(OF_POD).filter(|label| !label.is_empty())?;
        let between = if label.contains('/') { '/' } else { '.' };
        Self::parts(label.split(between))
    }

    /// What the labels of a Node say.
    pub fn of_node(labels: &BTreeMap<String, String>) -> Self {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        Self { region: label(REGION), zone: label(ZONE), subzone: label(SUBZONE) }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// How far away another is: 0 the same subzone, 1 the same zone, 2 the same region, 3 another one.
    pub fn distance(&self, other: &Self) -> u8 {
        match (self.region == other.region, self.zone == other.zone, self.subzone == other.subzone) {
            (true, true, true) => 0,
            (true, true, false) => 1,
            (true, false, _) => 2,
            (false, ..) => 3,
        }
    }

    /// Whether it is one of those that `region/zone/subzone` means; `*` means any, and so does what is left out.
    pub fn is_in(&self, pattern: &str) -> bool {
        let own = [&self.region, &self.zone, &self.subzone];
        pattern.split('/').zip(own).all(|(wanted, own)| matches!(wanted, "" | "*") || wanted == own)
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}/{}/{}", self.region, self.zone, self.subzone);
        f.write_str(text.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Locality {
        Locality::parse(text).unwrap()
    }

    #[test]
    fn localities_are_read_as_istio_writes_them() {
        assert_eq!(at("a/b/c").to_string(), "a/b/c");
        assert_eq!(at("a").to_string(), "a");
        assert_eq!(Locality::parse("a/b/c/d"), None);
        let pod = |label: &str| Locality::of_pod(&BTreeMap::from([(OF_POD.to_owned(), label.to_owned())]));
        assert_eq!(pod("a.b.c"), Some(at("a/b/c")));
        assert_eq!(pod("us.east/b"), Some(at("us.east/b")));
        assert_eq!(pod(""), None);
    }

    #[test]
    fn distances_and_patterns() {
        for (other, distance) in [("a/b/c", 0), ("a/b/x", 1), ("a/b", 1), ("a/x/c", 2), ("a", 2), ("x/b/c", 3)] {
            assert_eq!(at("a/b/c").distance(&at(other)), distance, "{other}");
        }
        for (pattern, fits) in [
            ("a/b/c", true),
            ("a/*", true),
            ("*", true),
            ("a/b/*", true),
            ("a", true),
            ("a/*/c", true),
            ("a/x/*", false),
            ("b", false),
        ] {
            assert_eq!(at("a/b/c").is_in(pattern), fits, "{pattern}");
        }
    }
}
