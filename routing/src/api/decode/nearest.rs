//! Which known name a misspelt one was meant to be.

/// `; did you mean ...?`, or nothing when no name is near.
pub(super) fn sentence(name: &str, known: &[&str]) -> String {
    let near = nearest(name, known);
    if near.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", quoted.join(" or "))
}

/// At most two names that differ in few letters, the nearest first.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Vec<&'k str> {
    const MOST: usize = 2;
    /// Longer names cannot be misspellings, and comparing costs their product.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return Vec::new();
    }
    let name = name.replace('_', "").to_lowercase();
    let allowed = (name.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .iter()
        .map(|candidate| (distance(&name, &candidate.replace('_', "").to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.retain(|(distance, _)| *distance <= best + 1);
    near.truncate(MOST);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut cost = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before_last[j - 2] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_letters_that_differ() {
        assert_eq!(distance("retries", "retires"), 1);
        assert_eq!(distance("host", "hosts"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn proposes_near_names_only() {
        let known = ["retries", "rewrite", "redirect", "timeout"];
        assert_eq!(sentence("retires", &known), "; did you mean `retries`?");
        assert_eq!(sentence("TIME_OUT", &known), "; did you mean `timeout`?");
        assert_eq!(sentence("bananas", &known), "");
    }
}
