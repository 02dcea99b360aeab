use routing::upstream::{Balance, Endpoint, Limits, UpstreamProtocol};

use super::*;

fn cluster(addresses: &[&str], limits: Limits) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: "outbound|80||a".into(),
        balance: Balance::RoundRobin,
        limits,
        endpoints: addresses.iter().map(|address| Endpoint::new(address.parse().unwrap())).collect(),
        ..Cluster::default()
    })
}

#[test]
fn counts_survive_a_reload_and_end_with_the_request() {
    let endpoints = Endpoints::default();
    let cluster = cluster(&["127.0.0.1:1"], Limits { max_requests: Some(1), ..Limits::default() });
    let before = endpoints.join(&cluster, Dials::default());
    let request = before.breaker.as_ref().unwrap().request().unwrap();
    let after = endpoints.join(&cluster, Dials::default());
    assert!(after.breaker.as_ref().unwrap().request().is_err());
    drop(request);
    assert!(after.breaker.as_ref().unwrap().request().is_ok());
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
    let endpoints = Endpoints::default();
    let upstream = endpoints.join(&cluster(&["127.0.0.1:1", "127.0.0.1:2"], Limits::default()), Dials::default());
    let tried = ["127.0.0.1:1".parse().unwrap()];
    assert!((0..8).all(|_| upstream.pick(&tried, || 0).unwrap().endpoint == 1));
    let both = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
    assert!(upstream.pick(&both, || 0).is_ok());
}

#[test]
fn the_less_loaded_is_so_for_the_whole_process() {
    let endpoints = Arc::new(Endpoints::default());
    let both = Arc::new(Cluster {
        balance: Balance::LeastRequest,
        ..(*cluster(&["127.0.0.1:1", "127.0.0.1:2"], Limits::default())).clone()
    });
    // Another worker, under another configuration, holds requests at the first endpoint.
    let (other, theirs) = (Arc::clone(&endpoints), Arc::clone(&both));
    let worker = std::thread::spawn(move || {
        let upstream = other.join(&theirs, Dials::default());
        let held: Vec<Picked> =
            (0..64).map(|_| upstream.pick(&["127.0.0.1:2".parse().unwrap()], || 0).unwrap()).collect();
        held
    });
    let held = worker.join().unwrap();
    let upstream = endpoints.join(&both, Dials::default());
    assert_eq!((upstream.in_flight(0), upstream.in_flight(1)), (64, 0));
    // One draw of each endpoint: the other worker's requests decide.
    let mut draws = [0, u32::MAX].into_iter().cycle();
    assert!((0..32).all(|_| upstream.pick(&[], || draws.next().unwrap()).unwrap().endpoint == 1));
    drop(held);
    assert_eq!(upstream.in_flight(0), 0);
}

fn ejecting(addresses: &[&str]) -> Arc<Cluster> {
    let outliers = routing::outlier::Outliers {
        server_errors: Some(2),
        gateway_errors: None,
        local_failures: None,
        split: false,
        interval: std::time::Duration::from_millis(10),
        base: std::time::Duration::from_millis(50),
        max_percent: 50,
        min_health_percent: 0,
        codes: Box::default(),
    };
    let plain = cluster(addresses, Limits::default());
    Arc::new(Cluster { outliers: Some(Box::new(outliers)), ..(*plain).clone() })
}

fn picks(upstream: &Upstream) -> Vec<usize> {
    (0..8).map(|_| upstream.pick(&[], || 0).unwrap().endpoint).collect()
}

#[tokio::test]
async fn an_ejected_endpoint_is_out_over_reloads_and_comes_back() {
    let (endpoints, metrics) = (Arc::new(Endpoints::default()), Arc::new(Metrics::new()));
    let both = ejecting(&["127.0.0.1:1", "127.0.0.1:2"]);
    let before = endpoints.join(&both, Dials::default());
    before.record(0, Outcome::Status(500), &metrics);
    assert!(picks(&before).contains(&0));
    let after = endpoints.join(&both, Dials::default());
    after.record(0, Outcome::Status(503), &metrics);
    assert!(picks(&after).iter().all(|index| *index == 1), "what was counted before the reload counts");
    let again = endpoints.join(&ejecting(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]), Dials::default());
    assert!(!picks(&again).contains(&0));
    assert_eq!(again.varying().unwrap().ejected(), Some(1));
    let tended = Arc::clone(&endpoints);
    let stop = tokio::time::sleep(std::time::Duration::from_secs(10));
    let back = async {
        while !picks(&again).contains(&0) {
            tokio::task::yield_now().await
        }
    };
    tokio::select! {
        () = tended.tend() => {}
        () = stop => panic!("it is out for 50 ms"),
        () = back => {}
    }
    assert_eq!(again.varying().unwrap().ejected(), Some(0));
    let ruleless = endpoints.join(&cluster(&["127.0.0.1:1"], Limits::default()), Dials::default());
    assert!(ruleless.varying().is_none());
}

fn keyed(cluster: &Arc<Cluster>) -> Arc<Cluster> {
    use routing::balance::{ConsistentHash, HashKey, HashTable};
    let hash = ConsistentHash { key: HashKey::Source, table: HashTable::Maglev { size: 65_537 } };
    Arc::new(Cluster { balance: Balance::Hash(Box::new(hash)), ..(**cluster).clone() })
}

#[tokio::test]
async fn who_ejects_lays_no_table_and_nobody_goes_there_meanwhile() {
    let (endpoints, metrics) = (Arc::new(Endpoints::default()), Metrics::new());
    let upstream = endpoints.join(&keyed(&ejecting(&["127.0.0.1:1", "127.0.0.1:2"])), Dials::default());
    let laid = || Arc::as_ptr(&upstream.varying().unwrap().table());
    let by_key =
        || (0..64).map(|key| upstream.pick_by(Some(key << 56), &[], || 0).unwrap().endpoint).collect::<Vec<_>>();
    let (before, led) = (laid(), by_key());
    assert!(led.contains(&0) && led.contains(&1));

    (0..2).for_each(|_| upstream.record(0, Outcome::Status(500), &metrics));

    assert_eq!(laid(), before, "it is not the worker's work");
    assert!(by_key().iter().chain(&picks(&upstream)).all(|index| *index == 1));
    let stop = tokio::time::sleep(std::time::Duration::from_secs(10));
    let follows = async {
        while laid() == before {
            tokio::task::yield_now().await
        }
    };
    tokio::select! {
        () = endpoints.tend() => {}
        () = stop => panic!("nobody lays the table"),
        () = follows => {}
    }
}

#[test]
fn all_that_are_ejected_are_out_before_the_table_is_laid() {
    let (endpoints, metrics) = (Endpoints::default(), Metrics::new());
    let mut cluster = (*ejecting(&["127.0.0.1:1", "127.0.0.1:2"])).clone();
    cluster.outliers.as_mut().unwrap().max_percent = 100;
    for panics in [false, true] {
        cluster.outliers.as_mut().unwrap().min_health_percent = if panics { 50 } else { 0 };
        cluster.name = format!("panics: {panics}").into();
        let upstream = endpoints.join(&Arc::new(cluster.clone()), Dials::default());
        for index in [0, 0, 1, 1] {
            upstream.record(index, Outcome::Status(500), &metrics);
        }
        assert_eq!(upstream.pick(&[], || 0).is_ok(), panics);
    }
}

#[test]
fn a_reload_lays_no_table_when_the_endpoints_are_the_same() {
    let endpoints = Endpoints::default();
    let join = |addresses: &[&str]| endpoints.join(&keyed(&ejecting(addresses)), Dials::default());
    let before = join(&["127.0.0.1:1", "127.0.0.1:2"]);
    let (same, other) = (join(&["127.0.0.1:1", "127.0.0.1:2"]), join(&["127.0.0.1:1", "127.0.0.1:3"]));
    let laid = |upstream: &Upstream| Arc::as_ptr(&upstream.varying().unwrap().table());
    assert_eq!(laid(&before), laid(&same));
    assert_ne!(laid(&before), laid(&other));
}

#[test]
fn an_endpoint_is_out_for_requests_and_for_bytes_of_one_port() {
    let (endpoints, metrics) = (Endpoints::default(), Metrics::new());
    let requests = ejecting(&["127.0.0.1:1", "127.0.0.1:2"]);
    let bytes = Arc::new(Cluster { protocol: UpstreamProtocol::Opaque, ..(*requests).clone() });
    let both = [endpoints.join(&requests, Dials::default()), endpoints.join(&bytes, Dials::default())];
    (0..2).for_each(|_| both[0].record(0, Outcome::Status(500), &metrics));
    for upstream in &both {
        assert!(picks(upstream).iter().all(|index| *index == 1), "{:?}", upstream.cluster.protocol);
    }
}

#[test]
fn connections_are_no_requests_in_flight() {
    let endpoints = Endpoints::default();
    let requests = cluster(&["127.0.0.1:1"], Limits::default());
    let bytes = Arc::new(Cluster { protocol: UpstreamProtocol::Opaque, ..(*requests).clone() });
    let [requests, bytes] = [&requests, &bytes].map(|it| endpoints.join(it, Dials::default()));
    let held = (bytes.pick(&[], || 0).unwrap(), bytes.take(0).unwrap());
    let active = || requests.counters.active.load(Ordering::Relaxed);
    assert_eq!((active(), bytes.in_flight(0)), (0, 2));
    let request = requests.pick(&[], || 0).unwrap();
    assert_eq!((active(), requests.in_flight(0)), (1, 3));
    drop((held, request));
    assert_eq!((active(), requests.in_flight(0)), (0, 0));
}

#[test]
fn tables_of_keys_are_made_once_for_the_same_endpoints() {
    let keyed = |addresses: &[&str]| keyed(&cluster(addresses, Limits::default()));
    let endpoints = Endpoints::default();
    let before = endpoints.join(&keyed(&["127.0.0.1:1", "127.0.0.1:2"]), Dials::default());
    let same = endpoints.join(&keyed(&["127.0.0.1:1", "127.0.0.1:2"]), Dials::default());
    assert!(Arc::ptr_eq(&before.table, &same.table));
    let other = endpoints.join(&keyed(&["127.0.0.1:1", "127.0.0.1:3"]), Dials::default());
    assert!(!Arc::ptr_eq(&before.table, &other.table));
}
