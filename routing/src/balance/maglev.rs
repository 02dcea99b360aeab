//! Maglev (Eisenbud et al., 2016), place for place as Envoy fills its table.

use std::{cmp::Reverse, collections::BinaryHeap};

use twox_hash::XxHash64;

use super::of_bytes;

/// See the module.
#[derive(Debug)]
pub(super) struct Maglev {
    owners: Box<[u32]>,
}

/// An endpoint that fills its places in an order of its own.
struct Filler {
    owner: u32,
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    target: f64,
}

const FREE: u32 = u32::MAX;

impl Maglev {
    /// Of endpoints with these weights, of which there is at least one, and names; `size` is a prime.
    pub(super) fn new(weights: &[f64], name: impl Fn(usize) -> String, size: u64) -> Self {
        let mut names: Vec<(String, u32)> = (0..weights.len()).map(|at| (name(at), at as u32)).collect();
        names.sort_unstable();
        let sum: f64 = weights.iter().sum();
        let most = weights.iter().copied().fold(0.0, f64::max) / sum;
        let mut fillers: Vec<Filler> =
            names.iter().map(|(name, owner)| filler(name, *owner, weights[*owner as usize] / sum, size)).collect();
        let mut owners = vec![FREE; size as usize];
        // Whose turn is next: by round, then in order. The heaviest has a turn in every round, lighter ones in fewer.
        let mut turns: BinaryHeap<Reverse<(u64, usize)>> = (0..fillers.len()).map(|at| Reverse((1, at))).collect();
        let mut filled = 0;
        while filled < size {
            let Some(Reverse((round, at))) = turns.pop() else { break };
            let filler = &mut fillers[at];
            filler.target += most;
            let place = loop {
                let place = (filler.offset + filler.skip * filler.next) % size;
                filler.next += 1;
                if owners[place as usize] == FREE {
                    break place;
                }
            };
            owners[place as usize] = filler.owner;
            filled += 1;
            turns.push(Reverse((filler.due_after(round), at)));
        }
        Self { owners: owners.into() }
    }

    pub(super) fn at(&self, key: u64) -> u32 {
        self.owners[(key % self.owners.len() as u64) as usize]
    }
}

fn filler(name: &str, owner: u32, weight: f64, size: u64) -> Filler {
    let skip = XxHash64::oneshot(1, name.as_bytes()) % (size - 1).max(1) + 1;
    Filler { owner, offset: of_bytes(name.as_bytes()) % size, skip, next: 0, weight, target: 0.0 }
}

impl Filler {
    /// The first round after this one in which its weight has come up to what it has taken.
    fn due_after(&self, round: u64) -> u64 {
        let is_due = |round: u64| round as f64 * self.weight >= self.target;
        let mut due = ((self.target / self.weight) as u64).saturating_sub(1).max(round + 1);
        while !is_due(due) {
            due += 1;
        }
        due
    }
}
