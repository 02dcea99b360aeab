use std::sync::Arc;

use routing::acme::{Current, Issuer, KeyType, Reach};

use super::*;

const DAY: i64 = 24 * 3600;

fn wanted(hosts: &[&str]) -> Ordered {
    Ordered {
        secret: "shop".to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        issuer: Arc::new(Issuer {
            name: "ca".to_owned(),
            server: "https://ca/dir".to_owned(),
            email: None,
            ca_bundle: None,
            external_account: None,
            profile: None,
            challenges: Vec::new(),
            dns01: None,
            key_type: KeyType::default(),
        }),
        gateways: Vec::new(),
        reach: Reach::default(),
        placeholder: false,
        current: Current::Nothing,
    }
}

fn facts(from: i64, to: i64) -> Facts {
    Facts {
        serial: "01".to_owned(),
        issuer: "CA".to_owned(),
        not_before: from,
        not_after: to,
        dns_names: vec!["a.example".to_owned(), "b.example".to_owned()],
    }
}

fn held() -> Held {
    Held {
        facts: facts(0, 90 * DAY),
        fits: true,
        server: "https://ca/dir".to_owned(),
        key_type: "ECDSA-P256".to_owned(),
    }
}

fn planned(at: i64) -> Record {
    let plan = Renewal { serial: "01".to_owned(), at, why: "it is time".to_owned(), ..Renewal::default() };
    Record { renewal: Some(plan), ..Record::default() }
}

fn why(need: &Need) -> &str {
    match need {
        Need::Order { why } => why,
        Need::Nothing { .. } => "nothing",
    }
}

#[test]
fn a_certificate_is_ordered_when_what_is_there_is_not_what_is_wanted() {
    let record = planned(60 * DAY);
    let ask = |held: Option<Held>| need(&wanted(&["a.example"]), held.as_ref(), &record, DAY);
    assert_eq!(ask(Some(held())), Need::Nothing { until: 60 * DAY });
    assert_eq!(why(&ask(None)), "there is none yet");
    assert!(why(&ask(Some(Held { fits: false, ..held() }))).contains("does not belong"));
    assert!(why(&ask(Some(Held { server: "https://old".to_owned(), ..held() }))).contains("https://old"));
    assert!(why(&ask(Some(Held { key_type: "RSA-2048".to_owned(), ..held() }))).contains("RSA-2048"));
    assert!(why(&ask(Some(Held { facts: facts(0, DAY), ..held() }))).contains("has ended"));
    let more = need(&wanted(&["a.example", "c.example"]), Some(&held()), &record, DAY);
    assert_eq!(why(&more), "the one that is there lacks c.example");
    let asked = Record { reissue: Some("it was revoked".to_owned()), ..planned(60 * DAY) };
    assert_eq!(why(&need(&wanted(&["a.example"]), Some(&held()), &asked, DAY)), "it was revoked");
}

#[test]
fn a_certificate_is_renewed_when_the_plan_for_exactly_it_says_so() {
    let ask = |record: &Record, now: i64| need(&wanted(&["a.example"]), Some(&held()), record, now);
    assert_eq!(why(&ask(&planned(60 * DAY), 60 * DAY)), "it is time");
    assert_eq!(ask(&planned(60 * DAY), 60 * DAY - 1), Need::Nothing { until: 60 * DAY });
    let mut other = planned(DAY);
    other.renewal.as_mut().unwrap().serial = "02".to_owned();
    assert_eq!(ask(&other, 2 * DAY), Need::Nothing { until: 2 * DAY }, "a plan has to be made first");
    let mut asking = planned(60 * DAY);
    asking.renewal.as_mut().unwrap().ask_again = Some(3 * DAY);
    assert_eq!(ask(&asking, DAY), Need::Nothing { until: 3 * DAY });
    assert_eq!(ask(&asking, 4 * DAY), Need::Nothing { until: 4 * DAY });
}

#[test]
fn without_advice_two_thirds_of_the_lifetime_pass_and_never_more() {
    assert_eq!(by_lifetime(&facts(0, 90 * DAY), 0, 0.0).at, 60 * DAY);
    assert_eq!(by_lifetime(&facts(0, 90 * DAY), 0, 1.0).at, 57 * DAY);
    assert_eq!(by_lifetime(&facts(1000, 1060), 0, 0.0).at, 1040);
    assert_eq!(by_lifetime(&facts(0, 6 * DAY), 0, 0.5).at, 4 * DAY - DAY / 10);
}

fn window(start: i64, end: i64, check_again: u64) -> tls::acme::Renewal {
    tls::acme::Renewal { start, end, explanation: None, check_again: Duration::from_secs(check_again) }
}

#[test]
fn advice_is_followed_within_reason() {
    let facts = facts(0, 90 * DAY);
    let plan = |start, end, before: Option<&Renewal>, chance| {
        by_window(&facts, &window(start, end, 6 * 3600), (before, 0), (DAY, chance))
    };
    let first = plan(30 * DAY, 32 * DAY, None, 0.5);
    assert_eq!((first.at, first.ask_again), (31 * DAY, Some(DAY + 6 * 3600)));
    assert_eq!(plan(30 * DAY, 32 * DAY, Some(&first), 0.9).at, 31 * DAY, "one time is chosen per window");
    assert_eq!(plan(0, 1, Some(&first), 0.9).at, YOUNG, "at once, but not over and over");
    assert_eq!(plan(95 * DAY, 99 * DAY, None, 0.0).at, 81 * DAY, "never after the end");
    let seldom = by_window(&facts, &window(0, 1, u64::MAX), (None, 0), (0, 0.0));
    assert_eq!(seldom.ask_again, Some(ASK_MOST));
    let often = by_window(&facts, &window(0, 1, 0), (None, 0), (0, 0.0));
    assert_eq!(often.ask_again, Some(ASK_LEAST));
}

#[test]
fn a_certificate_that_is_dated_back_or_read_by_a_wrong_clock_is_not_due_at_once() {
    let hour = 3600;
    let dated_back = by_lifetime(&facts(0, 2 * hour), hour, 0.0);
    assert_eq!(dated_back.at, hour + 2400);
    let by_clock = by_lifetime(&facts(0, 90 * DAY), 70 * DAY, 0.0);
    assert!(by_clock.at > 70 * DAY);
    let pressed = by_window(&facts(0, 90 * DAY), &window(0, 1, 60), (None, hour), (hour, 0.0));
    assert_eq!(pressed.at, 2 * hour, "an hour after it was stored, not after the date on it");
}

#[test]
fn no_reason_makes_more_than_a_few_orders_an_hour() {
    let begun: Vec<i64> = (0..8).map(|index| 10_000 + index * 10).collect();
    assert_eq!(too_often(&begun[..7], None, 10_100), None);
    assert_eq!(too_often(&begun, None, 10_100), Some(13_601));
    assert_eq!(too_often(&begun, None, 13_601), None);
    assert_eq!(too_often(&begun, Some(60), 10_100), None, "a minute's certificate is renewed every minute");
    assert_eq!(too_often(&begun, None, 5_000), None, "times of a clock that was ahead do not count");
}

#[test]
fn pauses_grow_and_never_undercut_what_the_ca_asks_for() {
    let seconds =
        |failed, failures, asked: Option<u64>| pause(failed, failures, asked.map(Duration::from_secs), 0.0).as_secs();
    let transient: Vec<u64> = (1..=9).map(|n| seconds(Failed::Transient, n, None)).collect();
    assert_eq!(transient, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    let refused: Vec<u64> = (1..=6).map(|n| seconds(Failed::Refused, n, None)).collect();
    assert_eq!(refused, [30, 120, 480, 1920, 7680, 21600]);
    assert_eq!(seconds(Failed::RateLimited, 1, Some(10)), 10, "the CA knows best");
    assert_eq!(seconds(Failed::RateLimited, 1, Some(0)), 5, "but not that it wants no pause");
    assert_eq!(seconds(Failed::RateLimited, 4, Some(0)), 40);
    assert_eq!(seconds(Failed::RateLimited, 1, None), 3600);
    assert_eq!(seconds(Failed::Refused, 1, Some(7200)), 7200);
    assert_eq!(seconds(Failed::Transient, u32::MAX, None), 600);
    assert_eq!(seconds(Failed::RateLimited, 1, Some(u64::from(u32::MAX))), 7 * 24 * 3600);
    assert!(pause(Failed::Refused, 1, Some(Duration::from_secs(100)), 1.0) > Duration::from_secs(100));
}
