use super::*;
use crate::capture::{
    Capture, Family, Selection,
    plan::{plan, tests::usual},
};

/// Of a fresh namespace.
const FRESH: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp -j ACCEPT\nCOMMIT\n";

const USUAL: &str = "\
*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_REDIRECT - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
";

#[test]
fn the_usual_rules_are_istios() {
    let rules = plan(&usual(), Family::V4);
    assert_eq!(restore(&Found::read(FRESH), &rules, Table::Nat), USUAL);
    assert!(!rules.iter().any(|rule| Table::Mangle.chains().contains(&rule.chain)));
}

#[test]
fn what_is_there_already_is_left_and_told_from_what_others_have() {
    let rules = plan(&usual(), Family::V4);
    let saved = FRESH.replace("COMMIT\n", &USUAL.replace("*nat\n", ""));
    let found = Found::read(&saved);
    assert!(found.is(&rules, Table::Nat), "{found:?}");
    // The order of chains is iptables-save's; the order in a chain is ours.
    let moved = saved
        .replace("-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n", "")
        .replace("COMMIT", "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT");
    assert!(Found::read(&moved).is(&rules, Table::Nat));
    let swapped = saved.replace("--dport 15090", "--dport 1").replace("--dport 15021", "--dport 15090");
    assert!(!Found::read(&swapped).is(&rules, Table::Nat));
    let twice = saved.replace("-A OUTPUT -j ISTIO_OUTPUT\n", "-A OUTPUT -j ISTIO_OUTPUT\n-A OUTPUT -j ISTIO_OUTPUT\n");
    assert!(!Found::read(&twice).is(&rules, Table::Nat));
    assert!(Found::read(FRESH).is_empty());
}

#[test]
fn other_rules_take_the_place_of_what_was_there() {
    let saved = FRESH.replace("COMMIT\n", &USUAL.replace("*nat\n", ""));
    let other = Capture { inbound: Selection::These(vec![8080]), ..usual() };
    let text = restore(&Found::read(&saved), &plan(&other, Family::V4), Table::Nat);
    assert!(text.contains("-D PREROUTING -p tcp -j ISTIO_INBOUND\n-D OUTPUT -j ISTIO_OUTPUT\n"), "{text}");
    assert!(text.contains("-A ISTIO_INBOUND -p tcp -m tcp --dport 8080 -j ISTIO_IN_REDIRECT\n"), "{text}");
    assert!(!text.contains("-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT\n"), "{text}");
    assert!(!text.contains("-X "), "every chain is needed again: {text}");
}

#[test]
fn taken_away_is_what_is_ours_and_no_more() {
    let saved = FRESH.replace("COMMIT\n", &USUAL.replace("*nat\n", ""));
    let text = restore(&Found::read(&saved), &[], Table::Nat);
    assert_eq!(
        text,
        "*nat\n-D PREROUTING -p tcp -j ISTIO_INBOUND\n-D OUTPUT -j ISTIO_OUTPUT\n-F ISTIO_INBOUND\n-F ISTIO_IN_REDIRECT\n\
         -F ISTIO_OUTPUT\n-F ISTIO_REDIRECT\n-X ISTIO_INBOUND\n-X ISTIO_IN_REDIRECT\n-X ISTIO_OUTPUT\n-X ISTIO_REDIRECT\nCOMMIT\n"
    );
}

#[test]
fn what_holds_for_every_address_is_written_as_it_is_saved() {
    for (family, range) in [(Family::V4, "0.0.0.0/0"), (Family::V6, "::/0")] {
        let all = Capture { ranges: Selection::All, ..usual() };
        let ranges = Capture { ranges: Selection::These(vec![range.parse().unwrap()]), ..usual() };
        let text = restore(&Found::read(FRESH), &plan(&ranges, family), Table::Nat);
        assert_eq!(text, restore(&Found::read(FRESH), &plan(&all, family), Table::Nat));
    }
}
