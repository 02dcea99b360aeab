use std::net::{Ipv4Addr, SocketAddr};

use super::*;

fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    weights.iter().map(|&weight| Endpoint { weight, ..Endpoint::new(address) }).collect()
}

/// Marsaglia's xorshift with a fixed seed: the same numbers in every run.
fn seeded() -> impl FnMut() -> u32 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}

/// How often each endpoint is picked in 10,000 picks.
fn counts(
    balance: &Balance,
    weights: &[u32],
    load: impl Fn(usize) -> u32,
    usable: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let (endpoints, cursor, mut random) = (endpoints(weights), AtomicUsize::new(0), seeded());
    let mut counts = vec![0; weights.len()];
    for _ in 0..10_000 {
        counts[pick(balance, &endpoints, &mut random, &load, &usable, &cursor).unwrap()] += 1;
    }
    counts
}

fn near(counts: &[usize], expected: &[usize]) {
    for (count, expected) in counts.iter().zip(expected) {
        assert!(count.abs_diff(*expected) < 200, "{counts:?}");
    }
}

#[test]
fn random_honours_weights() {
    near(&counts(&Balance::Random, &[1, 1], |_| 0, |_| true), &[5000, 5000]);
    near(&counts(&Balance::Random, &[1, 3], |_| 0, |_| true), &[2500, 7500]);
}

#[test]
fn round_robin_is_exact_and_interleaved() {
    assert_eq!(counts(&Balance::RoundRobin, &[1, 1], |_| 0, |_| true), [5000, 5000]);
    assert_eq!(counts(&Balance::RoundRobin, &[1, 3], |_| 0, |_| true), [2500, 7500]);
    let (endpoints, cursor) = (endpoints(&[2, 2, 4]), AtomicUsize::new(0));
    let turns: Vec<usize> =
        (0..8).map(|_| pick(&Balance::RoundRobin, &endpoints, || 0, |_| 0, |_| true, &cursor).unwrap()).collect();
    assert!(turns.windows(3).all(|three| three != [2, 2, 2]), "{turns:?}");
}

#[test]
fn least_request_prefers_the_less_loaded_of_two() {
    let counts = counts(&Balance::LeastRequest, &[1, 1], |index| if index == 0 { 10 } else { 0 }, |_| true);
    near(&counts, &[2500, 7500]); // The loaded one is used only when both picks are it.
}

#[test]
fn least_request_honours_weights_when_idle() {
    let counts = counts(&Balance::LeastRequest, &[1, 3], |_| 0, |_| true);
    assert!(counts[1] > 7300, "{counts:?}");
}

#[test]
fn an_unusable_endpoint_is_never_picked() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
        let counts = counts(&balance, &[1, 5, 1], |_| 0, |index| index != 1);
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 0 && counts[2] > 0);
    }
}

#[test]
fn one_usable_among_many_is_found() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
        assert_eq!(counts(&balance, &[1; 50], |_| 0, |index| index == 33)[33], 10_000);
    }
}

#[test]
fn nothing_usable_is_nothing() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
        let cursor = AtomicUsize::new(0);
        assert_eq!(pick(&balance, &endpoints(&[1, 2]), || 7, |_| 0, |_| false, &cursor), None);
        assert_eq!(pick(&balance, &[], || 7, |_| 0, |_| true, &cursor), None);
    }
}
