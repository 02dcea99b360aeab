use super::*;

#[test]
fn an_address_without_ip_takes_the_default_ip() {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(parse_address(":15021").unwrap().or(loopback).to_string(), "127.0.0.1:15021");
    assert_eq!(parse_address("10.0.0.1:1").unwrap().or(loopback).to_string(), "10.0.0.1:1");
    assert_eq!(parse_address("[::1]:1").unwrap().or(loopback).to_string(), "[::1]:1");
}

#[test]
fn addresses_need_a_port_and_numbers() {
    for wrong in ["localhost:80", "127.0.0.1", ":http", ":70000", "", "::1:80:"] {
        parse_address(wrong).unwrap_err();
    }
}

#[test]
fn labels_are_pairs() {
    let labels = parse_labels("istio=ingressgateway, app=gw,empty=").unwrap().0;
    assert_eq!(labels["istio"], "ingressgateway");
    assert_eq!(labels["app"], "gw");
    assert_eq!(labels["empty"], "");
    assert!(parse_labels("").unwrap().0.is_empty());
    assert!(parse_labels("istio").unwrap_err().contains("key=value"));
    assert!(parse_labels("=x").unwrap_err().contains("key=value"));
    assert!(parse_labels("a=1,a=2").unwrap_err().contains("twice"));
}

#[test]
fn ports_map_to_ports() {
    assert_eq!(parse_port_map("443=8443,80=8080").unwrap().0, BTreeMap::from([(443, 8443), (80, 8080)]));
    assert!(parse_port_map("443:8443").unwrap_err().contains("443=8443"));
    assert!(parse_port_map("0=8443").unwrap_err().contains("pair of ports"));
    assert!(parse_port_map("443=1,443=2").unwrap_err().contains("twice"));
}

#[test]
fn a_workload_has_a_namespace_and_a_name() {
    let workload = parse_workload("default/reviews-v1").unwrap();
    assert_eq!((workload.namespace.as_str(), workload.name.as_str()), ("default", "reviews-v1"));
    for wrong in ["reviews", "/reviews", "default/", "a/b/c", "Default/x"] {
        parse_workload(wrong).unwrap_err();
    }
}

#[test]
fn names_are_kubernetes_names() {
    parse_name("istio-system").unwrap();
    for wrong in ["", "-a", "a-", "A", "a_b", "a b"] {
        parse_name(wrong).unwrap_err();
    }
}

#[test]
fn a_trust_domain_is_no_url() {
    parse_trust_domain("cluster.local").unwrap();
    assert!(parse_trust_domain("spiffe://cluster.local").unwrap_err().contains("leave out"));
    parse_trust_domain("").unwrap_err();
}

#[test]
fn durations_have_units_and_an_end() {
    assert_eq!(parse_duration("45s"), Ok(Duration::from_secs(45)));
    assert_eq!(parse_duration("45"), Ok(Duration::from_secs(45)));
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
    for wrong in ["", "s", "1.5s", "-1s", "10 s", "25h", "99999999999999999999s", "18446744073709551615h", "1d"] {
        parse_duration(wrong).unwrap_err();
    }
}

#[test]
fn there_is_at_least_one_worker() {
    assert_eq!(parse_workers("2"), Ok(2));
    parse_workers("0").unwrap_err();
    parse_workers("many").unwrap_err();
}
