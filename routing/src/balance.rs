//! Which endpoint of a cluster a request goes to. Randomness, load and usability are the caller's.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::upstream::{Balance, Endpoint};

/// The index of the endpoint to use; `None` when none is usable.
///
/// `random` gives uniformly distributed numbers; `load` the requests in flight at an endpoint; `usable` whether it may be
/// tried at all (not ejected, not tried by this request before); `cursor` belongs to the cluster and survives reloads.
/// Weights are shares: an endpoint of weight 2 gets twice as much as one of weight 1.
#[expect(clippy::too_many_arguments, reason = "three are closures over the caller's state, which has no type here")]
pub fn pick(
    balance: &Balance,
    endpoints: &[Endpoint],
    mut random: impl FnMut() -> u32,
    load: impl Fn(usize) -> u32,
    usable: impl Fn(usize) -> bool,
    cursor: &AtomicUsize,
) -> Option<usize> {
    let shares = Shares::of(endpoints)?;
    match balance {
        Balance::RoundRobin => {
            let turn = cursor.fetch_add(1, Ordering::Relaxed);
            let start = shares.in_turn(turn);
            around(start, endpoints.len()).find(|&index| usable(index))
        }
        Balance::Random => draw(&shares, &mut random, &usable),
        Balance::LeastRequest => {
            let first = draw(&shares, &mut random, &usable)?;
            let second = shares.at(random());
            if second == first || !usable(second) {
                return Some(first);
            }
            // Load per weight, without dividing. The request about to be sent counts, or idle endpoints would all tie.
            let cost =
                |index: usize, other: usize| (u64::from(load(index)) + 1) * u64::from(endpoints[other].weight.max(1));
            Some(if cost(second, first) < cost(first, second) { second } else { first })
        }
    }
}

/// A random usable endpoint: a few draws by weight, then the usable ones one by one.
fn draw(shares: &Shares<'_>, random: &mut impl FnMut() -> u32, usable: &impl Fn(usize) -> bool) -> Option<usize> {
    let lucky = (0..DRAWS).map(|_| shares.at(random())).find(|&index| usable(index));
    lucky.or_else(|| {
        let weights = || shares.endpoints.iter().enumerate().filter(|(index, _)| usable(*index));
        let total: u64 = weights().map(|(_, endpoint)| u64::from(endpoint.weight.max(1))).sum();
        let mut left = u64::from(random()) % total.max(1);
        let mut last = None;
        for (index, endpoint) in weights() {
            last = Some(index);
            match left.checked_sub(endpoint.weight.max(1).into()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        last
    })
}

const DRAWS: usize = 3;

fn around(start: usize, count: usize) -> impl Iterator<Item = usize> {
    (start..count).chain(0..start)
}

/// Endpoints laid out on a ring by weight.
struct Shares<'a> {
    endpoints: &'a [Endpoint],
    /// Sum of the weights; `None` when all are equal and an index is as good.
    total: Option<u64>,
}

impl<'a> Shares<'a> {
    fn of(endpoints: &'a [Endpoint]) -> Option<Self> {
        let first = endpoints.first()?.weight;
        let equal = endpoints.iter().all(|endpoint| endpoint.weight == first);
        let total = || endpoints.iter().map(|endpoint| u64::from(endpoint.weight.max(1))).sum();
        Some(Self { endpoints, total: (!equal).then(total) })
    }

    /// The endpoint under a point of the ring.
    fn at(&self, point: u32) -> usize {
        match self.total {
            None => ((u64::from(point) * self.endpoints.len() as u64) >> 32) as usize,
            Some(total) => self.under(u64::from(point) % total),
        }
    }

    /// The endpoint of a turn. With weights, turns stride over the ring so that a heavy endpoint's do not come in a row.
    fn in_turn(&self, turn: usize) -> usize {
        let Some(total) = self.total else { return turn % self.endpoints.len() };
        let stride = coprime_stride(total);
        self.under((turn as u64 % total) * stride % total)
    }

    fn under(&self, mut point: u64) -> usize {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            match point.checked_sub(endpoint.weight.max(1).into()) {
                Some(rest) => point = rest,
                None => return index,
            }
        }
        self.endpoints.len() - 1
    }
}

/// A number near the golden section of `total` that shares no factor with it: its multiples visit every point once.
fn coprime_stride(total: u64) -> u64 {
    let start = (total * 618 / 1000).max(1);
    (start..total.max(2)).find(|&stride| greatest_common_divisor(stride, total) == 1).unwrap_or(1)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
