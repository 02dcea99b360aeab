//! Values by patterns of texts. What it costs to find those of a text does not depend on how many there are.

use std::collections::BTreeMap;

use super::pattern::Pattern;
use crate::hashed::HashMap;

/// Values by pattern.
#[derive(Debug)]
pub(super) struct Texts<V> {
    exact: HashMap<Box<str>, V>,
    prefixes: Affixes<V>,
    /// Letters in reverse.
    suffixes: Affixes<V>,
    present: Option<V>,
    /// Those that are looked at one by one.
    others: Vec<(Pattern, V)>,
}

impl<V: Default> Texts<V> {
    /// From patterns; `join` adds to the value of a pattern that comes again.
    pub(super) fn new<T>(entries: impl IntoIterator<Item = (Pattern, T)>, mut join: impl FnMut(&mut V, T)) -> Self {
        let (mut exact, mut present, mut others) = (HashMap::default(), None, Vec::new());
        let (mut prefixes, mut suffixes) = (BTreeMap::new(), BTreeMap::new());
        for (pattern, value) in entries {
            let slot = match pattern {
                Pattern::Present => present.get_or_insert_with(V::default),
                Pattern::Exact(text) => exact.entry(text).or_default(),
                Pattern::Prefix(text) => prefixes.entry(text.into_boxed_bytes()).or_default(),
                Pattern::Suffix(text) => suffixes.entry(text.bytes().rev().collect()).or_default(),
                Pattern::Glob(_) | Pattern::Template(_) => {
                    others.push((pattern, V::default()));
                    let Some((_, slot)) = others.last_mut() else { continue };
                    slot
                }
            };
            join(slot, value);
        }
        Self { exact, prefixes: Affixes::new(prefixes), suffixes: Affixes::new(suffixes), present, others }
    }

    /// Shows the values of all patterns that match, until one is taken; whether one was.
    pub(super) fn any(&self, text: &str, mut take: impl FnMut(&V) -> bool) -> bool {
        (!self.exact.is_empty() && self.exact.get(text).is_some_and(&mut take))
            || (!text.is_empty() && self.present.as_ref().is_some_and(&mut take))
            || self.prefixes.any(|| text.bytes(), &mut take)
            || self.suffixes.any(|| text.bytes().rev(), &mut take)
            || self.others.iter().any(|(pattern, value)| pattern.matches(text) && take(value))
    }
}

/// Values by what a text begins with, sorted.
#[derive(Debug)]
struct Affixes<V>(Vec<Affix<V>>);

#[derive(Debug)]
struct Affix<V> {
    text: Box<[u8]>,
    /// The longest other one that this one begins with.
    parent: Option<usize>,
    value: V,
}

impl<V> Affixes<V> {
    fn new(sorted: BTreeMap<Box<[u8]>, V>) -> Self {
        let mut all: Vec<Affix<V>> = Vec::with_capacity(sorted.len());
        for (text, value) in sorted {
            // Whatever this one begins with is what the one before is, or begins with.
            let mut parent = all.len().checked_sub(1);
            while let Some(at) = parent.filter(|at| !text.starts_with(&all[*at].text)) {
                parent = all[at].parent;
            }
            all.push(Affix { text, parent, value });
        }
        Self(all)
    }

    /// All that a text begins with are the last one that is not behind the text, or among what that one begins with.
    fn any<I: Iterator<Item = u8>>(&self, text: impl Fn() -> I, take: &mut impl FnMut(&V) -> bool) -> bool {
        let behind = self.0.partition_point(|affix| affix.text.iter().copied().le(text()));
        let mut at = behind.checked_sub(1);
        while let Some(affix) = at.map(|at| &self.0[at]) {
            let begins = affix.text.iter().copied().eq(text().take(affix.text.len()));
            if begins && take(&affix.value) {
                return true;
            }
            at = affix.parent;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_each_pattern_by_itself_matches(
            patterns in prop::collection::vec("[ab*]{1,5}", 0..12),
            text in "[ab/]{0,8}",
            namespaces in any::<bool>(),
        ) {
            let compiled: Vec<Pattern> = patterns
                .iter()
                .map(|text| if namespaces { Pattern::of_namespace(text) } else { Pattern::of_header(text) })
                .collect();
            let numbered = compiled.iter().cloned().enumerate().map(|(number, pattern)| (pattern, number));
            let texts: Texts<Vec<usize>> = Texts::new(numbered, Vec::push);
            let mut found: Vec<usize> = Vec::new();
            texts.any(&text, |numbers| {
                found.extend(numbers);
                false
            });
            found.sort_unstable();
            let wanted: Vec<usize> = (0..compiled.len()).filter(|number| compiled[*number].matches(&text)).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
