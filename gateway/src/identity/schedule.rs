//! When a CA is asked. Pure: times (milliseconds since 1970) and chances (from 0 to 1) come in as arguments.

/// Istio's `SECRET_GRACE_PERIOD_RATIO`: this part of a certificate's life is left when it is renewed, ...
const LEFT: f64 = 0.5;
/// ... give or take this part, so that workloads that began together do not ask together.
const JITTER: f64 = 0.01;
/// The first pause after a failure; each further one is twice as long.
const FIRST: i64 = 100;
/// No pause is longer.
const LONGEST: i64 = 60_000;
/// The same of a socket, whose agent is on this machine.
const LONGEST_OF_SOCKET: i64 = 30_000;
/// A CA that hands out certificates of no life to speak of is asked no more often than this.
const LEAST: i64 = 1000;

/// When a certificate is renewed that is used from `begin` on and ends at `end`.
pub(super) fn renewal(begin: i64, end: i64, chance: f64) -> i64 {
    let life = end.saturating_sub(begin).max(0);
    let left = LEFT + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    begin.saturating_add(part(life, 1.0 - left)).max(begin.saturating_add(LEAST))
}

/// How long to wait after failure number `failures` in a row, from 1. Up to half of it is up to chance: a CA that comes back
/// is not asked by everybody at once. A short life makes for short pauses, else it would pass in one.
pub(super) fn pause(failures: u32, life: Option<i64>, chance: f64) -> i64 {
    let longest = life.map_or(LONGEST, |life| (life / 20).clamp(LEAST, LONGEST));
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(30));
    let pause = doubled.min(longest);
    pause - part(pause / 2, chance.clamp(0.0, 1.0))
}

/// How long to wait before a socket is asked again that has ended so many calls in a row before long, from 1; `left` of the
/// identity that is held. Whether there was an identity in them is all one: it is the same as before, mostly.
pub(super) fn pause_of_socket(ended: u32, left: Option<i64>, chance: f64) -> i64 {
    pause(ended, left, chance).min(LONGEST_OF_SOCKET)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a time in the life of a certificate")]
fn part(span: i64, share: f64) -> i64 {
    (span as f64 * share) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    #[test]
    fn a_certificate_is_renewed_when_half_of_its_life_is_left() {
        assert_eq!(renewal(1000, 1000 + DAY, 0.5), 1000 + DAY / 2);
        assert_eq!(renewal(0, DAY, 0.0), DAY * 51 / 100);
        assert_eq!(renewal(0, DAY, 1.0), DAY * 49 / 100);
    }

    #[test]
    fn a_ca_is_never_asked_without_a_pause() {
        assert_eq!(renewal(5000, 5000, 0.5), 6000);
        assert_eq!(renewal(5000, 5500, 0.5), 6000);
        assert_eq!(renewal(5000, 1000, 0.5), 6000);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<i64> = (1..=12).map(|failures| pause(failures, None, 0.0)).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(pause(11, None, 1.0), 30_000);
        assert_eq!(pause(u32::MAX, Some(DAY), 0.0), 60_000);
    }

    #[test]
    fn a_short_life_makes_for_short_pauses() {
        assert_eq!(pause(20, Some(6000), 0.0), 1000);
        assert_eq!(pause(20, Some(600_000), 0.0), 30_000);
    }

    #[test]
    fn a_socket_that_ends_its_calls_is_asked_less_and_less() {
        let pauses: Vec<i64> = (1..=11).map(|ended| pause_of_socket(ended, None, 0.0)).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(pause_of_socket(11, Some(60_000), 1.0), 1500, "what is held ends before long");
    }

    proptest! {
        #[test]
        fn a_renewal_is_before_the_end_of_any_life_worth_the_name(
            begin in 0..=4_000_000_000_000_i64, life in 2000..=400 * DAY, chance in 0.0..=1.0_f64
        ) {
            let at = renewal(begin, begin + life, chance);
            prop_assert!(begin + 1000 <= at && at < begin + life, "{at}");
        }

        #[test]
        fn a_pause_is_bounded(failures in 0..=u32::MAX, life: Option<i64>, chance in -1.0..=2.0_f64) {
            let pause = pause(failures, life, chance);
            prop_assert!((50..=60_000).contains(&pause), "{pause}");
        }

        #[test]
        fn no_times_overflow(begin: i64, end: i64, chance in 0.0..=1.0_f64) {
            renewal(begin, end, chance);
        }
    }
}
