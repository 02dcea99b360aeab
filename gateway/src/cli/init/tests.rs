use super::*;

fn flags(line: &[&str]) -> InitFlags {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: InitFlags,
    }
    <Line as clap::Parser>::try_parse_from(["init"].iter().chain(line)).unwrap().flags
}

fn orders(line: &[&str], variables: &[(&str, &str)]) -> Result<Orders, String> {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    flags(line).orders(&find)
}

#[test]
fn without_a_word_everything_is_captured_but_the_proxys_own_ports() {
    let Orders { capture, dry_run, clean, means, remarks } = orders(&[], &[]).unwrap();
    assert_eq!((capture.outbound_port, capture.inbound_port, capture.tunnel_port), (15001, 15006, 15008));
    assert_eq!((&capture.uids, &capture.gids), (&vec![1337], &vec![1337]));
    assert_eq!((capture.inbound, capture.ranges), (Selection::All, Selection::All));
    assert_eq!(capture.not_inbound, [15090, 15021, 15020]);
    assert_eq!((dry_run, clean, means, remarks), (false, false, Means::Auto, Vec::new()));
}

#[test]
fn the_arguments_of_istios_template_are_understood() {
    let line = [
        "-p",
        "15001",
        "-z",
        "15006",
        "-u",
        "1337",
        "-m",
        "REDIRECT",
        "-i",
        "*",
        "-x",
        "",
        "-b",
        "*",
        "-d",
        "15090,15021,15020,9999",
        "-q",
        "",
        "-o",
        "3306",
        "-k",
        "",
        "-c",
        "",
    ];
    let capture = orders(&line, &[]).unwrap().capture;
    assert_eq!(capture.not_inbound, [15090, 15021, 15020, 9999]);
    assert_eq!(capture.not_outbound, [3306]);
    assert_eq!((capture.not_ranges.len(), capture.outbound_ports.len()), (0, 0));
}

#[test]
fn variables_stand_for_flags_that_are_not_given() {
    let variables = [
        ("ISTIO_SERVICE_CIDR", "10.0.0.0/8, fd00::/8"),
        ("ISTIO_INBOUND_PORTS", ""),
        ("PROXY_UID", "1000,1001"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "7"),
        ("INVALID_DROP", "true"),
        ("DRY_RUN", "true"),
        ("ENVOY_PORT", "16001"),
    ];
    let orders = orders(&["-p", "17001"], &variables).unwrap();
    let capture = orders.capture;
    assert!(orders.dry_run && capture.drop_invalid);
    assert_eq!(capture.outbound_port, 17001, "a flag counts more");
    assert_eq!((capture.uids.as_slice(), capture.gids.as_slice()), ([1000, 1001].as_slice(), [1000, 1001].as_slice()));
    assert_eq!(capture.inbound, Selection::These(Vec::new()));
    assert_eq!(capture.groups, Groups::AllBut(vec![7]));
    let Selection::These(ranges) = capture.ranges else { panic!("networks were given") };
    assert_eq!(ranges.len(), 2);
}

#[test]
fn what_is_not_done_is_refused_or_said() {
    let refused = |line: &[&str], variables: &[(&str, &str)]| orders(line, variables).unwrap_err();
    assert!(refused(&["-m", "TPROXY"], &[]).starts_with("`-m` cannot be `TPROXY`: connections are redirected"));
    let remarks = orders(&[], &[("ISTIO_META_DNS_CAPTURE", "true")]).unwrap().remarks;
    assert!(remarks[0].contains("DNS"), "{remarks:?}");
    let both = [("ISTIO_OUTBOUND_OWNER_GROUPS", "1"), ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "2")];
    assert!(refused(&[], &both).contains("exclude each other"));
}

#[test]
fn a_wrong_value_is_named_with_where_it_stands() {
    let wrong = |line: &[&str], variables: &[(&str, &str)]| orders(line, variables).unwrap_err();
    assert_eq!(wrong(&["-d", "80,http"], &[]), "`-d` cannot be `http`: write a port, from 1 to 65535");
    assert_eq!(
        wrong(&[], &[("ISTIO_SERVICE_EXCLUDE_CIDR", "10.0.0.0/33")]),
        "`ISTIO_SERVICE_EXCLUDE_CIDR` cannot be `10.0.0.0/33`: `10.0.0.0/33` is no network; write 10.0.0.0/8 or an address, \
         several with commas between"
    );
    assert!(wrong(&["-u", "istio-proxy"], &[]).contains("the number of a user"));
    assert!(wrong(&["-u", ""], &[]).contains("is empty"));
    assert!(wrong(&["-c", "eth0; drop"], &[]).contains("the name of an interface"));
    assert!(wrong(&["-x", "*"], &[]).contains("no network"));
    assert_eq!(wrong(&[], &[("DRY_RUN", "maybe")]), "DRY_RUN cannot be `maybe`; it can be true or false");
}

#[test]
fn all_ports_whatever_their_address_are_all_addresses() {
    let capture = orders(&["-q", "*", "-i", "10.0.0.0/8", "-x", "10.1.0.0/16"], &[]).unwrap().capture;
    assert_eq!((capture.ranges, capture.outbound_ports), (Selection::All, Vec::new()));
    assert_eq!(capture.not_ranges.len(), 1);
}
