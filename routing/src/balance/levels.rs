//! Priorities and localities: which endpoints take part, with which share, and how much each priority gets. As Envoy works
//! it out, health being that nobody was ejected.

use super::Standing;
use crate::upstream::Cluster;

/// Envoy's overprovisioning factor, percent: a priority takes everything as long as 72 % of it are well.
const OVERPROVISION: u64 = 140;

/// See the module.
pub(super) struct Levels {
    /// By priority: index and share of those that take part.
    pub(super) members: Vec<Vec<(u32, f64)>>,
    /// By priority: percent of the requests. They add up to 100, or to 0 when nobody is left.
    pub(super) shares: Vec<u32>,
}

/// How many there are, and how many of them are well.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Health {
    pub(super) well: u64,
    pub(super) total: u64,
}

impl Levels {
    pub(super) fn of(cluster: &Cluster, standing: &impl Fn(usize) -> Standing) -> Self {
        let levels = cluster.endpoints.iter().map(|endpoint| usize::from(endpoint.priority) + 1).max().unwrap_or(1);
        let mut health = vec![Health::default(); levels];
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            let level = &mut health[usize::from(endpoint.priority)];
            level.total += 1;
            level.well += u64::from(!standing(index).out);
        }
        let threshold = cluster.outliers.as_ref().map_or(0, |outliers| u64::from(outliers.min_health_percent));
        let (shares, panics) = divide(&health, threshold);
        let members = (0..levels).map(|level| take_part(cluster, standing, level, panics[level])).collect();
        Self { members, shares }
    }
}

/// Percent of the requests by priority, and where health does not count because too few are well.
pub(super) fn divide(health: &[Health], threshold: u64) -> (Vec<u32>, Vec<bool>) {
    let available = |level: &Health| match level.total {
        0 => 0,
        total => (OVERPROVISION * level.well / total).min(100),
    };
    let sum: u64 = health.iter().map(available).sum::<u64>().min(100);
    let too_few = |level: &Health| level.total > 0 && 100 * level.well < threshold * level.total;
    let panics: Vec<bool> = health.iter().map(|level| sum < 100 && too_few(level)).collect();
    let mut shares = if threshold > 0
        && (sum == 0 || health.iter().all(|level| sum < 100 && (level.total == 0 || too_few(level))))
    {
        let total = health.iter().map(|level| level.total).sum::<u64>().max(1);
        health.iter().map(|level| level.total * 100 / total).collect()
    } else {
        in_order(health.iter().map(available), sum)
    };
    // What rounding has left goes to the first that gets any.
    let left = 100 - shares.iter().sum::<u64>().min(100);
    if let Some(first) = shares.iter_mut().find(|share| **share > 0) {
        *first += left;
    }
    (shares.into_iter().map(|share| share as u32).collect(), panics)
}

/// Each takes what it can of what is left.
fn in_order(available: impl Iterator<Item = u64>, sum: u64) -> Vec<u64> {
    let mut left = 100;
    let take = |available: u64| {
        let share = (available * 100).checked_div(sum).unwrap_or(0).min(left);
        left -= share;
        share
    };
    available.map(take).collect()
}

/// What is known of the endpoints of one locality within one priority.
#[derive(Clone, Copy, Default)]
struct Place {
    health: Health,
    /// Weights of all.
    weight: f64,
    /// Weights of those that take part, as far as they are warm.
    taking: f64,
}

/// The endpoints of one priority that take part. Localities share by their own weights, as far as they are well.
fn take_part(cluster: &Cluster, standing: &impl Fn(usize) -> Standing, level: usize, panics: bool) -> Vec<(u32, f64)> {
    let mut places = vec![Place::default(); cluster.groups.len().max(1)];
    let of_level = || {
        let all = cluster.endpoints.iter().enumerate();
        all.filter(move |(_, endpoint)| usize::from(endpoint.priority) == level)
    };
    let last = places.len() - 1;
    let groups: Vec<usize> = of_level().map(|(_, endpoint)| usize::from(endpoint.group).min(last)).collect();
    for ((index, endpoint), group) in of_level().zip(&groups) {
        let (standing, weight) = (standing(index), f64::from(endpoint.weight.max(1)));
        let place = &mut places[*group];
        place.health.total += 1;
        place.health.well += u64::from(!standing.out);
        place.weight += weight;
        if panics || !standing.out {
            place.taking += weight * standing.warmth;
        }
    }
    let taking = of_level().zip(&groups).filter_map(|((index, endpoint), group)| {
        let (standing, place) = (standing(index), places[*group]);
        if standing.out && !panics {
            return None;
        }
        let weight = f64::from(endpoint.weight.max(1)) * standing.warmth;
        if cluster.groups.len() < 2 {
            return Some((index as u32, weight));
        }
        let whole = cluster.groups[*group].share.map_or(place.weight, f64::from);
        let health = place.health;
        let well = match panics {
            true => 1.0,
            false => (health.well as f64 * OVERPROVISION as f64 / 100.0 / health.total as f64).min(1.0),
        };
        Some((index as u32, weight / place.taking * whole * well))
    });
    taking.collect()
}
