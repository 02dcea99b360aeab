use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn outliers() -> Outliers {
    Outliers {
        server_errors: Some(5),
        gateway_errors: None,
        local_failures: None,
        split: false,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max_percent: 100,
        min_health_percent: 0,
        codes: Box::default(),
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// What the last of these outcomes leads to; nothing before it led to anything.
fn last(outliers: &Outliers, outcomes: &[Outcome]) -> Option<Why> {
    let tally = Tally::default();
    let (last, before) = outcomes.split_last().unwrap();
    assert!(before.iter().all(|outcome| tally.note(outliers, *outcome).is_none()), "{outcomes:?}");
    tally.note(outliers, *last)
}

#[test]
fn errors_in_a_row_eject_and_one_good_answer_begins_anew() {
    use Outcome::{Connected, Failed, Grpc, Status, TimedOut};
    let three = Outliers { server_errors: Some(3), ..outliers() };
    let why = Some(Why::ServerErrors(3));
    assert_eq!(last(&three, &[Status(500), Status(503), Status(599)]), why);
    assert_eq!(last(&three, &[Status(500), Status(503), Status(404), Status(500)]), None);
    assert_eq!(last(&three, &[Failed, TimedOut, Status(500)]), why, "without a split everything counts alike");
    assert_eq!(last(&three, &[Failed, Connected, Failed, Failed]), None);
    assert_eq!(last(&three, &[Grpc(13), Grpc(14), Grpc(2)]), why, "INTERNAL, UNAVAILABLE, UNKNOWN");
    assert_eq!(last(&three, &[Grpc(13), Grpc(14), Grpc(5)]), None, "NOT_FOUND is an answer");
    let off = Outliers { server_errors: None, ..outliers() };
    assert_eq!(last(&off, &[Status(500); 20]), None);
}

#[test]
fn gateway_errors_are_counted_apart() {
    use Outcome::{Failed, Status, TimedOut};
    let two = Outliers { gateway_errors: Some(2), ..outliers() };
    let why = Some(Why::GatewayErrors(2));
    assert_eq!(last(&two, &[Status(502), Status(504)]), why);
    assert_eq!(last(&two, &[Status(503), Status(500), Status(503)]), None, "a 500 is none");
    assert_eq!(last(&two, &[Failed, TimedOut]), why);
}

#[test]
fn failures_to_connect_can_be_split_off() {
    use Outcome::{Connected, Failed, Status, TimedOut};
    let split = Outliers { split: true, local_failures: Some(2), server_errors: Some(2), ..outliers() };
    assert_eq!(last(&split, &[Failed, TimedOut]), Some(Why::LocalFailures(2)));
    assert_eq!(last(&split, &[Failed, Status(500), Failed]), None, "there was a connection between");
    assert_eq!(last(&split, &[Failed, Connected, Failed]), None);
    assert_eq!(last(&split, &[Status(500), Failed, Status(500)]), Some(Why::ServerErrors(2)));
}

#[test]
fn given_statuses_alone_are_errors() {
    use Outcome::Status;
    let codes = Outliers { server_errors: Some(2), codes: [429, 503].into(), ..outliers() };
    assert_eq!(last(&codes, &[Status(429), Status(503)]), Some(Why::ServerErrors(2)));
    assert_eq!(last(&codes, &[Status(500), Status(500), Status(500)]), None);
}

#[test]
fn ejections_grow_and_shrink_again() {
    let (outliers, start, mut ejections) = (outliers(), Instant::now(), Ejections::default());
    let second = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(ejections.eject(&outliers, address(1), 3, start), Verdict::Ejected(Duration::from_secs(30)));
    assert_eq!(ejections.eject(&outliers, address(1), 3, start), Verdict::Already);
    assert!(ejections.look(&outliers, second(29)).is_empty());
    assert_eq!(ejections.look(&outliers, second(30)), [address(1)]);
    assert_eq!(ejections.eject(&outliers, address(1), 3, second(31)), Verdict::Ejected(Duration::from_secs(60)));
    assert_eq!(ejections.look(&outliers, second(91)), [address(1)]);
    // Two intervals of being well.
    assert!(ejections.look(&outliers, second(101)).is_empty() && ejections.look(&outliers, second(111)).is_empty());
    assert!(ejections.is_empty());
    assert_eq!(ejections.eject(&outliers, address(1), 3, second(112)), Verdict::Ejected(Duration::from_secs(30)));
}

#[test]
fn no_ejection_is_longer_than_envoys_bound() {
    let (outliers, mut now, mut ejections) = (outliers(), Instant::now(), Ejections::default());
    let mut lengths = Vec::new();
    for _ in 0..12 {
        let Verdict::Ejected(length) = ejections.eject(&outliers, address(1), 1, now) else { panic!("it was in") };
        lengths.push(length.as_secs());
        now += length;
        assert_eq!(ejections.look(&outliers, now), [address(1)]);
    }
    assert_eq!(lengths, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    let long = Outliers { base: Duration::from_secs(1000), ..outliers };
    assert_eq!(Ejections::default().eject(&long, address(1), 1, now), Verdict::Ejected(Duration::from_secs(1000)));
}

#[test]
fn as_many_as_may_be_are_out() {
    // Percent, endpoints, how many of them can be out at once.
    for (percent, count, most) in
        [(10, 3, 0), (10, 10, 1), (33, 3, 0), (34, 3, 1), (50, 4, 2), (100, 3, 3), (0, 100, 0)]
    {
        let (outliers, mut ejections) = (Outliers { max_percent: percent, ..outliers() }, Ejections::default());
        let eject = |port: u16| ejections.eject(&outliers, address(port), usize::from(count), Instant::now());
        let out = (1..=count).map(eject).filter(|verdict| matches!(verdict, Verdict::Ejected(_))).count();
        assert_eq!(out, most, "{percent} % of {count}");
    }
}

#[test]
fn who_is_no_more_is_not_counted() {
    let (outliers, mut ejections) = (Outliers { max_percent: 50, ..outliers() }, Ejections::default());
    assert!(matches!(ejections.eject(&outliers, address(1), 2, Instant::now()), Verdict::Ejected(_)));
    assert_eq!(ejections.eject(&outliers, address(2), 2, Instant::now()), Verdict::TooMany);
    ejections.retain(|known| known != address(1));
    assert_eq!(ejections.active(), 0);
    assert!(matches!(ejections.eject(&outliers, address(2), 2, Instant::now()), Verdict::Ejected(_)));
}

/// One thing that happens to a cluster.
#[derive(Clone, Debug)]
enum Event {
    Answer(u16, u16),
    Fail(u16),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let status = prop::sample::select(vec![200, 404, 429, 500, 502, 503, 504]);
    prop_oneof![
        6 => (0_u16..5, status).prop_map(|(at, status)| Event::Answer(at, status)),
        1 => (0_u16..5).prop_map(Event::Fail),
        2 => (1_u64..40).prop_map(Event::Pass),
    ]
}

/// The plain reading: everything that happened is kept, and looked through again for every question.
#[derive(Default)]
struct Model {
    /// By endpoint: the statuses since it was last judged.
    history: HashMap<u16, Vec<u16>>,
    /// By endpoint: since when it is out, and how many times in a row it was.
    out: HashMap<u16, (u64, u64)>,
    times: HashMap<u16, u64>,
}

impl Model {
    fn tells(&mut self, outliers: &Outliers, at: u16, status: u16) -> bool {
        let history = self.history.entry(at).or_default();
        history.push(status);
        let tail = |which: &dyn Fn(u16) -> bool| history.iter().rev().take_while(|status| which(**status)).count();
        let gateway = outliers
            .gateway_errors
            .map(|most| tail(&|status| (502..=504).contains(&status)).is_multiple_of(most as usize));
        let server = outliers.server_errors.map(|most| tail(&|status| status >= 500).is_multiple_of(most as usize));
        let gateway = gateway == Some(true) && (502..=504).contains(&status);
        gateway || (server == Some(true) && status >= 500)
    }

    fn eject(&mut self, outliers: &Outliers, at: u16, now: u64) {
        let full = (self.out.len() as u32 + 1) * 100 > outliers.max_percent * 5;
        if self.out.contains_key(&at) || full {
            return;
        }
        let times = self.times.entry(at).or_default();
        if outliers.base.as_secs() * *times < 300 {
            *times += 1;
        }
        self.out.insert(at, (now, (outliers.base.as_secs() * *times).min(300)));
    }

    fn look(&mut self, now: u64) {
        for (at, times) in &mut self.times {
            if !self.out.contains_key(at) {
                *times = times.saturating_sub(1);
            }
        }
        self.out.retain(|_, (since, length)| now - *since < *length);
    }
}

proptest! {
    #[test]
    fn it_is_the_plain_reading(
        events in prop::collection::vec(event(), 1..200),
        server in prop::option::of(1_u32..6),
        gateway in prop::option::of(1_u32..6),
        max_percent in prop::sample::select(vec![0_u32, 20, 50, 100]),
        base in 1_u64..100,
    ) {
        let base = Duration::from_secs(base);
        let outliers = Outliers { server_errors: server, gateway_errors: gateway, max_percent, base, ..outliers() };
        let (start, mut now, mut model) = (Instant::now(), 0, Model::default());
        let (mut ejections, tallies) = (Ejections::default(), [const { Tally { server_errors: AtomicU32::new(0), gateway_errors: AtomicU32::new(0), local_failures: AtomicU32::new(0) } }; 5]);
        let at_second = |second: u64| start + Duration::from_secs(second);
        for event in events {
            match event {
                Event::Answer(at, status) => {
                    if model.tells(&outliers, at, status) {
                        model.eject(&outliers, at, now);
                    }
                    if tallies[usize::from(at)].note(&outliers, Outcome::Status(status)).is_some() {
                        ejections.eject(&outliers, address(at), 5, at_second(now));
                    }
                }
                Event::Fail(at) => {
                    if model.tells(&outliers, at, 503) {
                        model.eject(&outliers, at, now);
                    }
                    if tallies[usize::from(at)].note(&outliers, Outcome::Failed).is_some() {
                        ejections.eject(&outliers, address(at), 5, at_second(now));
                    }
                }
                Event::Pass(seconds) => {
                    now += seconds;
                    model.look(now);
                    ejections.look(&outliers, at_second(now));
                }
            }
            for at in 0..5 {
                prop_assert_eq!(ejections.is_out(address(at)), model.out.contains_key(&at), "endpoint {}", at);
            }
            prop_assert_eq!(ejections.active(), model.out.len());
        }
    }
}
