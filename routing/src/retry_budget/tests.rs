use proptest::prelude::*;

use super::*;

const GIVEN: RetryBudget = RetryBudget::Share { parts: 200_000, least: 3, at_once: true, window: Duration::ZERO };

/// So many requests a second for some seconds, each of which fails with all of its retries; what was admitted.
fn storm(budget: &RetryBudget, rate: u32, seconds: u32, attempts: u32) -> u32 {
    let start = Instant::now();
    let (mut ledger, mut begun, mut retries) = (Ledger::default(), 0_u32, 0);
    for number in 0..rate * seconds {
        let now = start + SECOND * number / rate;
        begun += 1;
        for _ in 0..attempts {
            if !ledger.admit(budget, Load { active: 1, retrying: 0, begun }, true, now) {
                break;
            }
            begun += 1;
            retries += 1;
        }
    }
    retries
}

#[test]
fn a_storm_gets_its_share_and_no_more() {
    for budget in [RetryBudget::default(), GIVEN] {
        for rate in [60, 100, 5_000] {
            let retries = storm(&budget, rate, 30, 3);
            let share = rate * 30 / 5;
            assert!((share * 9 / 10..=share).contains(&retries), "{budget:?} {rate}: {retries} of {share}");
        }
    }
}

#[test]
fn a_retry_earns_nothing_however_late_it_begins() {
    let (budget, now) =
        (RetryBudget::Share { parts: 200_000, least: 0, at_once: false, window: Duration::ZERO }, Instant::now());
    let mut ledger = Ledger::default();
    let mut admit = |begun| ledger.admit(&budget, Load { active: 1, retrying: 0, begun }, true, now);
    // Ten requests, two retries; then the two begin, which is no reason for further ones.
    assert!(admit(10) && admit(10) && !admit(10));
    assert!((11..=16).all(|begun| !admit(begun)));
    assert!(admit(17));
}

#[test]
fn where_there_is_little_to_do_the_least_is_allowed() {
    let retries = storm(&RetryBudget::default(), 1, 30, 2);
    assert!((58..=60).contains(&retries), "{retries}");
    assert!((28..=33).contains(&storm(
        &RetryBudget::Share { parts: 0, least: 1, at_once: false, window: Duration::ZERO },
        10,
        30,
        2
    )));
    assert_eq!(storm(&RetryBudget::Share { parts: 0, least: 0, at_once: false, window: Duration::ZERO }, 10, 30, 2), 0);
}

#[test]
fn retries_that_help_are_free() {
    let (budget, now) = (RetryBudget::default(), Instant::now());
    let mut ledger = Ledger::default();
    for begun in 0..10_000 {
        assert!(ledger.admit(&budget, Load { active: 1, retrying: 0, begun }, true, now), "{begun}");
        ledger.refund();
    }
}

#[test]
fn what_no_endpoint_was_sent_is_free_too() {
    let (budget, now) = (RetryBudget::default(), Instant::now());
    let mut ledger = Ledger::default();
    assert!((0..1_000).all(|begun| ledger.admit(&budget, Load { active: 1, retrying: 0, begun }, false, now)));
}

#[test]
fn quiet_times_are_saved_up_for_a_burst() {
    let (budget, now) = (RetryBudget::default(), Instant::now());
    let mut ledger = Ledger::default();
    let load = Load { active: 1, retrying: 0, begun: 100_000 };
    let burst = (0..1_000).filter(|_| ledger.admit(&budget, load, true, now)).count();
    assert_eq!(burst, 100);
}

#[test]
fn what_a_budget_allows_at_once_can_be_paid_for() {
    let now = Instant::now();
    let load = Load { active: 500, retrying: 0, begun: 500 };
    for (parts, least, at_once, allowed) in
        [(0, 500, true, 1_000), (0, 500, false, 1_000), (1_000_000, 0, true, 500), (1_000_000, 0, false, 100)]
    {
        let (budget, mut ledger) =
            (RetryBudget::Share { parts, least, at_once, window: Duration::ZERO }, Ledger::default());
        let burst = (0..5_000).filter(|_| ledger.admit(&budget, load, true, now)).count();
        assert_eq!(burst, allowed, "{budget:?}");
    }
}

#[test]
fn the_largest_least_after_a_long_pause_is_no_overflow() {
    let now = Instant::now();
    let budget = RetryBudget::Share { parts: 1_000_000, least: u32::MAX, at_once: true, window: Duration::ZERO };
    let (mut ledger, load) = (Ledger::default(), Load { active: u32::MAX, retrying: 0, begun: u32::MAX });
    for days in [0, 1, 10_000, 100_000] {
        let later = now + Duration::from_secs(days * 86_400);
        assert!(ledger.admit(&budget, load, true, later), "{days}");
        ledger.refund();
    }
}

#[test]
fn a_given_budget_counts_what_is_under_way_as_envoy_does() {
    let now = Instant::now();
    // Tries in flight, retries among them, allowed.
    for (active, retrying, allowed) in [(0, 2, true), (0, 3, false), (15, 3, false), (20, 3, true), (100, 20, false)] {
        let load = Load { active, retrying, begun: 100_000 };
        assert_eq!(Ledger::default().admit(&GIVEN, load, true, now), allowed, "{load:?}");
        // Without a budget there is no such limit.
        assert!(Ledger::default().admit(&RetryBudget::default(), load, true, now), "{load:?}");
    }
    for (retrying, allowed) in [(0, true), (6, true), (7, false)] {
        let load = Load { active: 1_000, retrying, begun: 0 };
        assert_eq!(Ledger::default().admit(&RetryBudget::AtOnce(7), load, true, now), allowed);
    }
}

proptest! {
    #[test]
    fn never_more_than_requests_earn_and_seconds_allow(
        parts in 0_u32..=1_000_000, least in 0_u32..10, steps in prop::collection::vec((0_u32..50, 0_u64..3_000), 1..200),
    ) {
        let budget = RetryBudget::Share { parts, least, at_once: false, window: Duration::ZERO };
        let (mut ledger, mut now, start) = (Ledger::default(), Instant::now(), Instant::now());
        let (mut begun, mut requests, mut retries) = (u32::MAX - 100, 0_u64, 0_u64);
        ledger.begun = begun;
        for (fresh, pause) in steps {
            now += Duration::from_millis(pause);
            begun = begun.wrapping_add(fresh);
            requests += u64::from(fresh);
            while ledger.admit(&budget, Load { active: 1, retrying: 0, begun }, true, now) {
                begun = begun.wrapping_add(1);
                retries += 1;
            }
            let earned = requests * u64::from(parts) / 1_000_000;
            let seconds = now.duration_since(start).as_secs() + 2;
            prop_assert!(retries <= earned + seconds * u64::from(least), "{retries} of {requests}");
        }
    }
}

#[test]
fn requests_of_the_interval_count_beside_those_in_flight() {
    let second = Duration::from_secs(1);
    let budget = |window| RetryBudget::Share { parts: 200_000, least: 1, at_once: true, window };
    let (mut with, mut without) = (Ledger::default(), Ledger::default());
    let start = Instant::now();
    let mut admitted = (0, 0);
    for step in 1..=50_u32 {
        let now = start + second * step / 10;
        // Each request is gone before the next one comes, and each retry stays.
        let load = |retrying| Load { active: 1, retrying, begun: step * 10 };
        admitted.0 += u32::from(with.admit(&budget(second), load(admitted.0), false, now));
        admitted.1 += u32::from(without.admit(&budget(Duration::ZERO), load(admitted.1), false, now));
    }
    assert_eq!(admitted.1, 1, "nothing but the least");
    assert!((15..=30).contains(&admitted.0), "a fifth of a hundred requests a second: {}", admitted.0);
}
