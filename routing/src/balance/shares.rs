//! Shares laid end to end: which one lies under a point.

/// See the module.
#[derive(Debug)]
pub(super) struct Shares {
    /// Where each share ends.
    ends: Box<[u64]>,
    /// How far apart turns are: so that those of a heavy share do not come in a row.
    stride: u64,
}

/// What fractions are scaled to: as fine as a random number.
const WHOLE: f64 = 4_294_967_296.0;

impl Shares {
    /// Of whole numbers; there is at least one, and none is 0.
    pub(super) fn whole(weights: impl Iterator<Item = u32>) -> Self {
        Self::new(weights.map(u64::from))
    }

    /// Of numbers above 0; there is at least one.
    pub(super) fn parts(shares: impl Iterator<Item = f64> + Clone) -> Self {
        let sum: f64 = shares.clone().sum();
        Self::new(shares.map(|share| ((share / sum * WHOLE) as u64).max(1)))
    }

    fn new(shares: impl Iterator<Item = u64>) -> Self {
        let mut total = 0_u64;
        let ends = shares.map(|share| {
            total += share;
            total
        });
        let ends: Box<[u64]> = ends.collect();
        Self { ends, stride: coprime_stride(total) }
    }

    fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(1)
    }

    /// The share under a random point.
    pub(super) fn under(&self, random: u32) -> u32 {
        self.at(((u128::from(random) * u128::from(self.total())) >> 32) as u64)
    }

    /// The share of a turn: in as many turns as there are points, each gets exactly as many as it is wide.
    pub(super) fn in_turn(&self, turn: usize) -> u32 {
        let (total, turn) = (u128::from(self.total()), turn as u128);
        self.at((turn % total * u128::from(self.stride) % total) as u64)
    }

    fn at(&self, point: u64) -> u32 {
        self.ends.partition_point(|end| *end <= point) as u32
    }
}

/// A number near the golden section of `total` that shares no factor with it: its multiples visit every point once.
fn coprime_stride(total: u64) -> u64 {
    let start = (total / 1000 * 618 + total % 1000 * 618 / 1000).max(1);
    (start..total.max(2)).find(|&stride| greatest_common_divisor(stride, total) == 1).unwrap_or(1)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
