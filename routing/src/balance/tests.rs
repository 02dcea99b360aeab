use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{
    levels::{Health, divide},
    *,
};
use crate::upstream::{Endpoint, Group};

fn address(at: usize) -> SocketAddr {
    let [.., high, low] = (at as u32 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 80))
}

fn cluster(balance: Balance, weights: &[u32]) -> Cluster {
    let endpoint = |(at, weight): (usize, &u32)| Endpoint { weight: *weight, ..Endpoint::new(address(at)) };
    Cluster { balance, endpoints: weights.iter().enumerate().map(endpoint).collect(), ..Cluster::default() }
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

fn full(cluster: &Cluster) -> Table {
    Table::new(cluster, |_| Standing::FULL)
}

/// How often each endpoint is picked in 10,000 picks.
fn counts(cluster: &Cluster, table: &Table, load: impl Fn(usize) -> u32, usable: impl Fn(usize) -> bool) -> Vec<usize> {
    let (cursor, mut random) = (AtomicUsize::new(0), seeded());
    let mut counts = vec![0; cluster.endpoints.len()];
    for _ in 0..10_000 {
        let asked = Asked { key: None, random: &mut random, load: &load, usable: &usable, cursor: &cursor };
        counts[table.pick(cluster, asked).unwrap()] += 1;
    }
    counts
}

fn all(balance: Balance, weights: &[u32]) -> Vec<usize> {
    let cluster = cluster(balance, weights);
    counts(&cluster, &full(&cluster), |_| 0, |_| true)
}

fn near(counts: &[usize], expected: &[usize]) {
    assert_eq!(counts.len(), expected.len());
    for (count, expected) in counts.iter().zip(expected) {
        assert!(count.abs_diff(*expected) < 200, "{counts:?} and not {expected:?}");
    }
}

fn pick(cluster: &Cluster, table: &Table, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let asked = Asked { key: None, random: || 7, load: |_| 0, usable, cursor: &AtomicUsize::new(0) };
    table.pick(cluster, asked)
}

#[test]
fn random_honours_weights() {
    near(&all(Balance::Random, &[1, 1]), &[5000, 5000]);
    near(&all(Balance::Random, &[1, 3]), &[2500, 7500]);
}

#[test]
fn round_robin_is_exact_and_interleaved() {
    assert_eq!(all(Balance::RoundRobin, &[1, 1]), [5000, 5000]);
    assert_eq!(all(Balance::RoundRobin, &[1, 3]), [2500, 7500]);
    let (cluster, cursor) = (cluster(Balance::RoundRobin, &[2, 2, 4]), AtomicUsize::new(0));
    let table = full(&cluster);
    let turn = |_| {
        let asked = Asked { key: None, random: || 0, load: |_| 0, usable: |_| true, cursor: &cursor };
        table.pick(&cluster, asked).unwrap()
    };
    let turns: Vec<usize> = (0..8).map(turn).collect();
    assert!(turns.windows(3).all(|three| three != [2, 2, 2]), "{turns:?}");
}

#[test]
fn least_request_prefers_the_less_loaded_of_two() {
    let cluster = cluster(Balance::LeastRequest, &[1, 1]);
    let counts = counts(&cluster, &full(&cluster), |index| if index == 0 { 10 } else { 0 }, |_| true);
    assert_eq!(counts, [0, 10_000]);
}

#[test]
fn least_request_gives_the_same_to_those_that_are_equal() {
    for endpoints in [2, 3, 7] {
        let counts = all(Balance::LeastRequest, &vec![1; endpoints]);
        assert!(counts.iter().all(|count| count.abs_diff(10_000 / endpoints) <= 1), "{counts:?}");
    }
}

#[test]
fn least_request_avoids_one_of_many_that_is_loaded() {
    let cluster = cluster(Balance::LeastRequest, &[1; 5]);
    let counts = counts(&cluster, &full(&cluster), |index| u32::from(index == 2), |_| true);
    assert_eq!(counts[2], 0);
    assert!(counts.iter().enumerate().all(|(index, count)| index == 2 || count.abs_diff(2500) < 150), "{counts:?}");
}

#[test]
fn least_request_honours_weights_when_idle() {
    let counts = all(Balance::LeastRequest, &[1, 3]);
    assert!(counts[1] > 7300, "{counts:?}");
}

const SIMPLE: [Balance; 3] = [Balance::LeastRequest, Balance::RoundRobin, Balance::Random];

#[test]
fn an_unusable_endpoint_is_never_picked() {
    for balance in SIMPLE {
        let cluster = cluster(balance, &[1, 5, 1]);
        let counts = counts(&cluster, &full(&cluster), |_| 0, |index| index != 1);
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 0 && counts[2] > 0);
    }
}

#[test]
fn one_usable_among_many_is_found() {
    for balance in SIMPLE {
        let cluster = cluster(balance, &[1; 50]);
        assert_eq!(counts(&cluster, &full(&cluster), |_| 0, |index| index == 33)[33], 10_000);
    }
}

#[test]
fn nothing_usable_is_nothing() {
    for balance in SIMPLE {
        let (two, none) = (cluster(balance.clone(), &[1, 2]), cluster(balance, &[]));
        assert_eq!(pick(&two, &full(&two), |_| false), None);
        assert_eq!(pick(&none, &full(&none), |_| true), None);
    }
}

#[test]
fn who_is_out_gets_nothing_and_the_others_share() {
    for balance in SIMPLE.into_iter().chain([ring(1024), maglev(65_537)]) {
        let cluster = cluster(balance, &[1; 4]);
        let table = Table::new(&cluster, |index| Standing { out: index == 2, ..Standing::FULL });
        let counts = counts(&cluster, &table, |_| 0, |_| true);
        assert_eq!(counts[2], 0);
        assert!(counts.iter().enumerate().all(|(index, count)| index == 2 || count.abs_diff(3333) < 500), "{counts:?}");
    }
}

#[test]
fn all_out_is_nobody_unless_panic_is_allowed() {
    let mut cluster = cluster(Balance::LeastRequest, &[1; 4]);
    let table = |cluster: &Cluster| Table::new(cluster, |_| Standing { out: true, ..Standing::FULL });
    assert_eq!(pick(&cluster, &table(&cluster), |_| true), None);
    cluster.outliers = Some(Box::new(crate::outlier::Outliers {
        server_errors: Some(5),
        gateway_errors: None,
        local_failures: None,
        split: false,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max_percent: 100,
        min_health_percent: 50,
        codes: Box::default(),
    }));
    near(&counts(&cluster, &table(&cluster), |_| 0, |_| true), &[2500; 4]);
}

#[test]
fn new_endpoints_take_less_until_they_are_warm() {
    for balance in [Balance::RoundRobin, Balance::Random] {
        let cluster = cluster(balance, &[1, 1]);
        let table = Table::new(&cluster, |index| Standing { out: false, warmth: if index == 0 { 0.1 } else { 1.0 } });
        near(&counts(&cluster, &table, |_| 0, |_| true), &[909, 9091]);
        let table = Table::new(&cluster, |_| Standing { out: false, warmth: 0.1 });
        near(&counts(&cluster, &table, |_| 0, |_| true), &[5000, 5000]);
    }
}

#[test]
fn warmth_grows_as_envoys() {
    let warmup = |aggression| Warmup { duration: Duration::from_secs(100), minimum: 0.1, aggression };
    // Aggression, age in seconds, share in thousandths.
    for (aggression, age, share) in [
        (1.0, 0, 100),
        (1.0, 5, 100),
        (1.0, 25, 250),
        (1.0, 100, 1000),
        (2.0, 25, 500),
        (0.5, 50, 250),
        (1.0, 200, 1000),
    ] {
        let found = warmup(aggression).warmth(Duration::from_secs(age));
        assert!((found - f64::from(share) / 1000.0).abs() < 1e-9, "{aggression} {age}: {found}");
    }
    assert!(Warmup { minimum: 0.0, ..warmup(1.0) }.warmth(Duration::ZERO) > 0.0);
}

fn ring(minimum: u64) -> Balance {
    hashed(HashTable::Ring { minimum })
}

fn maglev(size: u64) -> Balance {
    hashed(HashTable::Maglev { size })
}

fn hashed(table: HashTable) -> Balance {
    Balance::Hash(Box::new(ConsistentHash { key: HashKey::Source, table }))
}

fn of_key(cluster: &Cluster, table: &Table, key: u64) -> SocketAddr {
    let asked = Asked {
        key: Some(key),
        random: || panic!("the key decides"),
        load: |_| 0,
        usable: |_| true,
        cursor: &AtomicUsize::new(0),
    };
    cluster.endpoints[table.pick(cluster, asked).unwrap()].address
}

/// Shares of the keys by endpoint, of a hash with so many endpoints.
fn spread(balance: Balance, weights: &[u32]) -> Vec<f64> {
    let cluster = cluster(balance, weights);
    let (table, mut counts) = (full(&cluster), HashMap::new());
    for key in 0..20_000_u64 {
        *counts.entry(of_key(&cluster, &table, of_bytes(&key.to_le_bytes()))).or_insert(0_u32) += 1;
    }
    (0..weights.len()).map(|at| f64::from(*counts.get(&address(at)).unwrap_or(&0)) / 20_000.0).collect()
}

#[test]
fn keys_spread_by_weight() {
    let even = spread(maglev(65_537), &[1; 10]);
    assert!(even.iter().all(|share| (0.09..0.11).contains(share)), "{even:?}");
    let heavy = spread(maglev(65_537), &[1, 2, 7]);
    assert!((heavy[0] - 0.1).abs() < 0.02 && (heavy[2] - 0.7).abs() < 0.02, "{heavy:?}");
    let even = spread(ring(1024), &[1; 10]);
    assert!(even.iter().all(|share| (0.08..0.12).contains(share)), "{even:?}");
    let heavy = spread(ring(8192), &[1, 2, 7]);
    assert!((heavy[0] - 0.1).abs() < 0.03 && (heavy[2] - 0.7).abs() < 0.05, "{heavy:?}");
}

#[test]
fn places_are_envoys() {
    // xxHash64's own vectors.
    assert_eq!(of_bytes(b""), 0xef46_db37_51d8_e999);
    assert_eq!(of_bytes(b"abc"), 0x44bc_2cf5_ad77_0999);
    // A ring of one endpoint holds as many points as it has to, and names them `address_number`.
    let points = Ring::new(&[1.0], |_| "10.0.0.1:80".into(), 4);
    for number in 0..4 {
        assert_eq!(points.at(of_bytes(format!("10.0.0.1:80_{number}").as_bytes())), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// When one of n endpoints goes, only its keys move; when one comes, keys move to it alone. (Maglev moves a few more.)
    #[test]
    fn few_keys_move(count in 2_usize..40, gone in 0_usize..40, is_maglev: bool, seed: u64) {
        let gone = gone % count;
        let balance = if is_maglev { maglev(65_537) } else { ring(1024) };
        let before = cluster(balance, &vec![1; count]);
        let mut after = Cluster { balance: before.balance.clone(), ..Cluster::default() };
        after.endpoints = before.endpoints.iter().filter(|endpoint| endpoint.address != address(gone)).cloned().collect();
        let (table, smaller) = (full(&before), full(&after));
        let ejected = Table::new(&before, |index| Standing { out: index == gone, ..Standing::FULL });
        let (mut moved, mut needless) = (0, 0);
        const KEYS: u64 = 4000;
        for number in 0..KEYS {
            let key = of_bytes(&(number ^ seed).to_le_bytes());
            let (old, new) = (of_key(&before, &table, key), of_key(&after, &smaller, key));
            prop_assert_eq!(new, of_key(&before, &ejected, key), "out is as good as gone");
            moved += u64::from(old != new);
            needless += u64::from(old != new && old != address(gone));
        }
        // What one endpoint has is about its share.
        let fair = KEYS as f64 / count as f64;
        prop_assert!(moved as f64 <= fair * 1.2 + 4.0 * fair.sqrt(), "{} of {} moved, {} were to", moved, KEYS, fair);
        let most = if is_maglev { KEYS / 40 } else { 0 };
        prop_assert!(needless <= most, "{} moved without need", needless);
    }

    /// Any weights and any health: whoever is picked exists, may be used, and somebody is picked when somebody is well.
    #[test]
    fn a_pick_is_well(
        endpoints in prop::collection::vec((1_u32..1000, 0_u8..4, 0_u16..3, any::<bool>(), 0.01_f64..1.0), 1..30),
        kind in 0_usize..5,
        key: Option<u64>,
        seed: u32,
    ) {
        let balance = [Balance::LeastRequest, Balance::RoundRobin, Balance::Random, ring(64), maglev(251)][kind].clone();
        let mut cluster = cluster(balance, &endpoints.iter().map(|it| it.0).collect::<Vec<_>>());
        for (endpoint, told) in cluster.endpoints.iter_mut().zip(&endpoints) {
            (endpoint.priority, endpoint.group) = (told.1, told.2);
        }
        cluster.groups = ["a", "b", "c"].map(|name| Group { locality: name.into(), share: None }).to_vec();
        let standing = |index: usize| Standing { out: endpoints[index].3, warmth: endpoints[index].4 };
        let table = Table::new(&cluster, standing);
        let mut state = seed;
        let random = || { state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); state };
        let cursor = AtomicUsize::new(seed as usize);
        let picked = table.pick(&cluster, Asked { key, random, load: |_| 0, usable: |_| true, cursor: &cursor });
        prop_assert_eq!(picked.is_some(), endpoints.iter().any(|it| !it.3));
        if let Some(index) = picked {
            prop_assert!(!endpoints[index].3);
        }
        let well = endpoints.iter().any(|it| !it.3);
        prop_assert_eq!(table.shares().iter().sum::<u32>(), if well || table.shares().len() == 1 { 100 } else { 0 });
    }
}

#[test]
fn priorities_spill_over_as_envoys_documentation_says() {
    let health = |levels: &[(u64, u64)]| -> Vec<Health> {
        levels.iter().map(|(well, total)| Health { well: *well, total: *total }).collect()
    };
    // Healthy of total by priority, panic threshold, percent by priority.
    #[expect(clippy::type_complexity, reason = "a table")]
    let cases: [(&[(u64, u64)], u64, &[u32]); 10] = [
        (&[(100, 100), (100, 100)], 50, &[100, 0]),
        (&[(72, 100), (72, 100)], 50, &[100, 0]),
        (&[(71, 100), (71, 100)], 50, &[99, 1]),
        (&[(50, 100), (50, 100)], 50, &[70, 30]),
        (&[(25, 100), (100, 100)], 50, &[35, 65]),
        (&[(25, 100), (25, 100)], 0, &[50, 50]),
        (&[(0, 100), (100, 100), (100, 100)], 50, &[0, 100, 0]),
        (&[(0, 4), (0, 2)], 0, &[0, 0]),
        (&[(0, 4), (0, 4)], 50, &[50, 50]),
        (&[(0, 0), (3, 3)], 0, &[0, 100]),
    ];
    for (levels, threshold, expected) in cases {
        assert_eq!(divide(&health(levels), threshold).0, expected, "{levels:?} {threshold}");
    }
}

#[test]
fn a_failing_priority_hands_over_what_it_cannot_take() {
    let mut cluster = cluster(Balance::RoundRobin, &[1; 8]);
    cluster.endpoints[4..].iter_mut().for_each(|endpoint| endpoint.priority = 1);
    let table = |out: usize| Table::new(&cluster, |index| Standing { out: index < out, ..Standing::FULL });
    let local = |out: usize| counts(&cluster, &table(out), |_| 0, |_| true)[..4].iter().sum::<usize>();
    assert_eq!(local(0), 10_000);
    assert_eq!(local(1), 10_000, "three of four are above 72 %");
    near(&[local(2)], &[7000]);
    near(&[local(3)], &[3500]);
    assert_eq!(local(4), 0);
}

#[test]
fn a_retry_leaves_priorities_as_long_as_there_are_others() {
    let mut cluster = cluster(Balance::LeastRequest, &[1; 6]);
    cluster.endpoints[2..4].iter_mut().for_each(|endpoint| endpoint.priority = 1);
    cluster.endpoints[4..].iter_mut().for_each(|endpoint| endpoint.priority = 2);
    let table = full(&cluster);
    let (cursor, mut random) = (AtomicUsize::new(0), seeded());
    let mut pick = |left: &[usize], tried: &[usize]| {
        let usable = |index: usize| !tried.contains(&index);
        let asked = Asked { key: None, random: &mut random, load: |_| 0, usable, cursor: &cursor };
        table.pick_beyond(&cluster, asked, |priority| left.contains(&priority))
    };
    for _ in 0..20 {
        assert!(pick(&[], &[]).is_some_and(|index| index < 2));
        assert!(pick(&[0], &[]).is_some_and(|index| (2..4).contains(&index)));
        assert!(pick(&[0, 1], &[]).is_some_and(|index| index >= 4));
        assert!(pick(&[0], &[2, 3]).is_some_and(|index| index >= 4), "all of the next one were tried");
    }
    assert_eq!(pick(&[0, 1, 2], &[]), None);
}

#[test]
fn localities_share_by_their_weights() {
    let mut cluster = cluster(Balance::Random, &[1, 1, 1, 1, 1]);
    cluster.endpoints[3..].iter_mut().for_each(|endpoint| endpoint.group = 1);
    cluster.groups =
        [("a", 80), ("b", 20)].map(|(name, share)| Group { locality: name.into(), share: Some(share) }).to_vec();
    near(&counts(&cluster, &full(&cluster), |_| 0, |_| true), &[2666, 2666, 2666, 1000, 1000]);
    // One of `b` is out: `b` counts 1.4 * 1/2 of its weight.
    let table = Table::new(&cluster, |index| Standing { out: index == 4, ..Standing::FULL });
    near(&counts(&cluster, &table, |_| 0, |_| true), &[2837, 2837, 2837, 1489, 0]);
}

#[test]
fn ten_thousand_endpoints_cost_no_more_per_pick() {
    for balance in SIMPLE.into_iter().chain([ring(1024), maglev(65_537)]) {
        let weights: Vec<u32> = (0..10_000).map(|at| 1 + at % 7).collect();
        let mut cluster = cluster(balance, &weights);
        cluster.endpoints[5000..].iter_mut().for_each(|endpoint| endpoint.priority = 1);
        let began = Instant::now();
        let table = full(&cluster);
        let built = began.elapsed();
        let took = {
            let began = Instant::now();
            counts(&cluster, &table, |_| 0, |_| true);
            began.elapsed() / 10_000
        };
        // A walk over all would take 10 us; debug builds are slow, and so are busy machines.
        assert!(took < Duration::from_micros(8), "{:?}: {took:?} per pick", cluster.balance);
        assert!(built < Duration::from_secs(5), "{:?}: built in {built:?}", cluster.balance);
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn cookie(ttl: Option<u64>) -> HashCookie {
    HashCookie { name: "sid".into(), path: "".into(), ttl: ttl.map(Duration::from_secs), attributes: Box::default() }
}

#[test]
fn keys_are_read_as_envoy_reads_them() {
    let map = headers(&[
        ("x-user", "ann"),
        ("x-two", "b"),
        ("x-two", "a"),
        ("cookie", "a=1; sid=\"one\";b=2"),
        ("cookie", "sid=two"),
    ]);
    let of = |key: HashKey| key.of(&map, "a=1&user=ann&user=bob&empty", "192.0.2.1");
    let text = |text: &str| Some(of_bytes(text.as_bytes()));
    assert_eq!(of(HashKey::Header(HeaderName::from_static("x-user"))), text("ann"));
    assert_eq!(of(HashKey::Header(HeaderName::from_static("x-none"))), None);
    assert_eq!(of(HashKey::Source), text("192.0.2.1"));
    assert_eq!(of(HashKey::Query("user".into())), text("ann"));
    assert_eq!(of(HashKey::Query("empty".into())), text(""));
    assert_eq!(of(HashKey::Query("use".into())), None);
    assert_eq!(of(HashKey::Cookie(cookie(None))), text("one"));
    let two = of(HashKey::Header(HeaderName::from_static("x-two")));
    let other = headers(&[("x-two", "a"), ("x-two", "b")]);
    assert_eq!(two, HashKey::Header(HeaderName::from_static("x-two")).of(&other, "", ""), "whatever their order");
    assert!(two.is_some() && two != text("a"));
}

#[test]
fn cookies_are_made_as_envoy_makes_them() {
    let (remote, local) = ("192.0.2.1:1234".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
    assert_eq!(cookie(None).fresh(remote, local), None, "without a lifetime none is made");
    let value = cookie(Some(0)).fresh(remote, local).unwrap();
    assert_eq!(value, format!("{:016x}", of_bytes(b"192.0.2.1:1234192.0.2.2:80")));
    assert_eq!(cookie(Some(0)).set("v"), "sid=\"v\"; HttpOnly");
    let rich = HashCookie {
        path: "/shop".into(),
        attributes: [("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())].into(),
        ..cookie(Some(60))
    };
    assert_eq!(rich.set("v"), "sid=\"v\"; Max-Age=60; Path=/shop; SameSite=Lax; Secure; HttpOnly");
}

#[test]
fn who_has_no_key_goes_past_what_was_tried() {
    let cluster = cluster(maglev(1009), &[1, 1, 1]);
    let table = full(&cluster);
    let (cursor, mut draws) = (AtomicUsize::new(0), seeded());
    for _ in 0..100 {
        let asked = Asked { key: None, random: &mut draws, load: |_| 0, usable: |index| index == 1, cursor: &cursor };
        assert_eq!(table.pick(&cluster, asked), Some(1));
    }
}
