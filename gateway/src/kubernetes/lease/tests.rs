use super::*;

fn lease(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        renew_time: Timestamp::from_second(renewed).ok().map(MicroTime),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(3),
        ..LeaseSpec::default()
    }
}

#[test]
fn a_lease_that_is_free_or_ones_own_is_held_at_once() {
    let now = Instant::now();
    for holder in ["", "a"] {
        assert_eq!(decide("a", &lease(holder, 1), None, now).1, Step::Hold, "{holder}");
    }
    assert_eq!(decide("a", &LeaseSpec::default(), None, now).1, Step::Hold);
}

#[test]
fn anothers_lease_ends_when_it_did_not_change_for_as_long_as_it_promised() {
    let start = Instant::now();
    // However old the time in it is: clocks differ.
    let (first, step) = decide("a", &lease("b", 1), None, start);
    assert_eq!(step, Step::Wait(start + DURATION));

    let later = start + Duration::from_secs(14);
    let (same, step) = decide("a", &lease("b", 1), Some(&first), later);
    assert_eq!((same.since, step), (start, Step::Wait(start + DURATION)));
    let (_, step) = decide("a", &lease("b", 1), Some(&same), start + DURATION);
    assert_eq!(step, Step::Hold);

    let (renewed, step) = decide("a", &lease("b", 6), Some(&same), later);
    assert_eq!((renewed.since, step), (later, Step::Wait(later + DURATION)));
    let (_, step) = decide("a", &lease("c", 1), Some(&same), start + DURATION);
    assert_eq!(step, Step::Wait(start + DURATION + DURATION));
}

#[test]
fn transitions_are_counted_and_the_time_of_taking_over_is_kept() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let first = held("a", None, at(1));
    assert_eq!((first.lease_transitions, first.acquire_time.clone()), (Some(0), Some(MicroTime(at(1)))));
    let renewed = held("a", Some(&first), at(6));
    assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(0), Some(MicroTime(at(1)))));
    assert_eq!(renewed.renew_time, Some(MicroTime(at(6))));
    let taken = held("b", Some(&first), at(20));
    assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(1), Some(MicroTime(at(20)))));
}
