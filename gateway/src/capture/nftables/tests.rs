use super::*;
use crate::capture::{
    Capture,
    plan::{plan, tests::usual},
};

#[test]
fn the_usual_rules_are_istios() {
    let text = declare(&plan(&usual(), Family::V6), Family::V6, Table::Nat).unwrap();
    let expected = "\
table ip6 istio-proxy-nat {
	chain istio-inbound {
		tcp dport 15008 return
		tcp dport 15090 return
		tcp dport 15021 return
		tcp dport 15020 return
		meta l4proto tcp jump istio-in-redirect
	}
	chain istio-redirect {
		meta l4proto tcp redirect to :15001
	}
	chain istio-in-redirect {
		meta l4proto tcp redirect to :15006
	}
	chain istio-output {
		oifname \"lo\" ip6 saddr ::6 return
		oifname \"lo\" ip6 daddr != ::1 tcp dport != 15008 meta skuid 1337 jump istio-in-redirect
		oifname \"lo\" meta skuid != 1337 return
		meta skuid 1337 return
		oifname \"lo\" ip6 daddr != ::1 tcp dport != 15008 meta skgid 1337 jump istio-in-redirect
		oifname \"lo\" meta skgid != 1337 return
		meta skgid 1337 return
		ip6 daddr ::1 return
		jump istio-redirect
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto tcp jump istio-inbound
	}
	chain output {
		type nat hook output priority -100; policy accept;
		jump istio-output
	}
}
";
    assert_eq!(text, expected);
    assert_eq!(declare(&plan(&usual(), Family::V6), Family::V6, Table::Mangle), None);
}

#[test]
fn networks_and_interfaces_are_written_as_nft_prints_them() {
    let capture = Capture {
        not_ranges: vec!["10.1.2.3/8".parse().unwrap(), "10.0.0.7/32".parse().unwrap()],
        not_interfaces: vec!["veth+".to_owned()],
        drop_invalid: true,
        ..usual()
    };
    let rules = plan(&capture, Family::V4);
    let text = declare(&rules, Family::V4, Table::Nat).unwrap();
    assert!(text.contains("\t\tip daddr 10.0.0.0/8 return\n\t\tip daddr 10.0.0.7 return\n"), "{text}");
    assert!(text.contains("iifname \"veth*\" return") && text.contains("oifname \"veth*\" return"), "{text}");
    let mangle = declare(&rules, Family::V4, Table::Mangle).unwrap();
    assert!(mangle.contains("ct state invalid jump istio-drop"), "{mangle}");
}

#[test]
fn space_is_no_difference() {
    assert!(same("table ip x {\n\tchain y {\n\t}\n\n}\n", "table ip x {\nchain y { }\n}"));
    assert!(!same("table ip x { a b }", "table ip x { b a }"));
}
