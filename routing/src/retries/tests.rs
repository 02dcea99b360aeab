use proptest::prelude::*;

use super::*;

fn on(names: &str) -> Retries {
    let on = names.split(',').filter_map(Conditions::named).fold(Conditions::default(), Conditions::and);
    let statuses = names.split(',').filter_map(|name| name.parse().ok()).collect();
    Retries { on, statuses, ..Retries::default() }
}

#[test]
fn what_a_try_without_an_answer_is_to_each_condition() {
    use Fault::{NoConnection, PerTryTimeout, Refused, Reset};
    let cases: [(&str, &[Fault]); 12] = [
        ("5xx", &[NoConnection, Refused, Reset, PerTryTimeout]),
        ("gateway-error", &[NoConnection, Refused, Reset, PerTryTimeout]),
        ("reset", &[NoConnection, Refused, Reset, PerTryTimeout]),
        ("reset-before-request", &[NoConnection, Refused]),
        ("connect-failure", &[NoConnection]),
        ("refused-stream", &[Refused]),
        ("envoy-ratelimited", &[]),
        ("retriable-4xx", &[]),
        ("unavailable,internal,cancelled,deadline-exceeded,resource-exhausted", &[]),
        ("retriable-status-codes,503", &[]),
        ("retriable-headers", &[]),
        ("http3-post-connect-failure", &[]),
    ];
    for (names, wanted) in cases {
        for fault in [NoConnection, Refused, Reset, PerTryTimeout] {
            assert_eq!(on(names).want_after(fault), wanted.contains(&fault), "{names} after {fault:?}");
        }
    }
}

#[test]
fn what_an_answer_is_to_each_condition() {
    // Conditions, status, gRPC status of the head, whether it is to be followed by another try.
    let cases = [
        ("5xx", 500, None, true),
        ("5xx", 599, None, true),
        ("5xx", 499, None, false),
        ("gateway-error", 500, None, false),
        ("gateway-error", 502, None, true),
        ("gateway-error", 504, None, true),
        ("gateway-error", 505, None, false),
        ("retriable-4xx", 409, None, true),
        ("retriable-4xx", 404, None, false),
        ("retriable-status-codes,429", 429, None, true),
        ("retriable-status-codes", 503, None, false),
        ("reset,connect-failure,refused-stream,reset-before-request", 503, None, false),
        ("cancelled", 200, Some(1), true),
        ("deadline-exceeded", 200, Some(4), true),
        ("resource-exhausted", 200, Some(8), true),
        ("internal", 200, Some(13), true),
        ("unavailable", 200, Some(14), true),
        ("unavailable", 200, Some(0), false),
        ("unavailable", 200, Some(13), false),
        ("unavailable", 503, None, false),
    ];
    for (names, status, grpc, wanted) in cases {
        assert_eq!(on(names).want_other_than(status, grpc, || false), wanted, "{names}: {status} {grpc:?}");
    }
}

#[test]
fn a_rate_limit_is_looked_at_before_anything_else() {
    for (names, status, wanted) in [
        ("5xx,503", 503, false),
        ("envoy-ratelimited", 429, true),
        ("5xx,envoy-ratelimited", 503, true),
        ("retriable-status-codes,429", 429, false),
    ] {
        assert_eq!(on(names).want_other_than(status, None, || true), wanted, "{names}");
    }
    assert!(!on("envoy-ratelimited").want_other_than(429, None, || false));
}

#[test]
fn an_answer_that_nothing_speaks_of_is_not_searched() {
    assert!(!Retries::DEFAULT.want_other_than(200, None, || panic!("nobody has to look")));
}

#[test]
fn the_default_repeats_what_nobody_has_processed_and_what_grpc_says_is_unavailable() {
    let default = Retries::default();
    assert!(default.want_after(Fault::NoConnection) && default.want_after(Fault::Refused));
    assert!(!default.want_after(Fault::Reset) && !default.want_after(Fault::PerTryTimeout));
    assert!(!default.want_other_than(503, None, || false));
    assert!(default.want_other_than(200, Some(14), || false));
    let inbound = Retries::inbound();
    assert!(inbound.want_after(Fault::NoConnection) && !inbound.want_after(Fault::Reset));
    assert!(!inbound.want_other_than(200, Some(14), || false));
}

proptest! {
    #[test]
    fn a_wait_is_below_its_bound_and_the_bound_doubles_to_ten_times_the_base(
        base in 1_u64..10_000, number in 1_u32..200, random in 0.0..1.0_f64,
    ) {
        let retries = Retries { backoff: Duration::from_millis(base), ..Retries::default() };
        let factor = if number > 4 { 10 } else { 1 << (number - 1) };
        let bound = Duration::from_millis(base * factor);
        prop_assert!(retries.wait(number, random) < bound);
        prop_assert!(retries.wait(number, 0.999_999) > bound.mul_f64(0.99));
    }
}
