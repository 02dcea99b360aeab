//! Ring hash (ketama): points and keys are hashed as Envoy does it. Envoy gives each endpoint fewer points when there are
//! more of them, so that nearly twice as many keys move as have to when one goes. Here an endpoint has as many whoever else is
//! there, and no key moves but its own.

use std::fmt::Write as _;

use super::of_bytes;

/// Points of all endpoints together, unless more are asked for; beyond it each gets fewer. 12 MiB.
const MOST_POINTS: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    /// Ascending.
    points: Box<[u64]>,
    /// Whose each point is.
    owners: Box<[u32]>,
}

impl Ring {
    /// Of endpoints with these weights, of which there is at least one, and names.
    pub(super) fn new(weights: &[f64], name: impl Fn(usize) -> String, minimum: u64) -> Self {
        let most = weights.iter().copied().fold(0.0, f64::max);
        let (count, sum) = (weights.len() as u64, weights.iter().sum::<f64>());
        // With two endpoints of the same weight it is as asked for, with more of them it is more; light ones need help.
        let wanted = minimum.div_ceil(2).max((minimum as f64 * most / sum).ceil() as u64);
        let heaviest = wanted.min(MOST_POINTS.max(minimum) / count).max(1);
        let mut laid: Vec<(u64, u32)> = Vec::new();
        for (owner, weight) in weights.iter().enumerate() {
            let mut key = name(owner);
            key.push('_');
            let length = key.len();
            for number in 0..(heaviest as f64 * weight / most).ceil() as u64 {
                key.truncate(length);
                // Writing into a String cannot fail.
                let _ = write!(key, "{number}");
                laid.push((of_bytes(key.as_bytes()), owner as u32));
            }
        }
        laid.sort_unstable();
        Self {
            points: laid.iter().map(|(point, _)| *point).collect(),
            owners: laid.iter().map(|(_, owner)| *owner).collect(),
        }
    }

    /// The owner of the first point that is not before the key.
    pub(super) fn at(&self, key: u64) -> u32 {
        let next = self.points.partition_point(|point| *point < key);
        self.owners[if next == self.points.len() { 0 } else { next }]
    }
}
