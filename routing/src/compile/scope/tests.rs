//! Which hosts an entry lets through, against a plain reading of Istio's words.

use proptest::prelude::*;

use super::*;

fn hold(written: &[&str], host: &str, namespace: &str) -> bool {
    let written: Vec<String> = written.iter().map(|text| (*text).to_owned()).collect();
    Hosts::new(&written, "own").hold(&host.parse().unwrap(), namespace)
}

#[test]
fn a_namespace_and_a_host_have_to_fit() {
    let cases: &[(&[&str], &str, &str, bool)] = &[
        (&["*/*"], "a.x.svc", "x", true),
        (&["./*"], "a.own.svc", "own", true),
        (&["./*"], "a.x.svc", "x", false),
        (&["x/*"], "a.x.svc", "x", true),
        (&["*/a.x.svc"], "a.x.svc", "x", true),
        (&["*/a.x.svc"], "b.x.svc", "x", false),
        (&["*/*.x.svc"], "a.x.svc", "x", true),
        (&["*/api.example.com"], "*.example.com", "x", true),
        (&["~/*"], "a.own.svc", "own", false),
        (&["*/*", "~x/*"], "a.x.svc", "x", false),
        (&["*/*", "~x/*"], "a.y.svc", "y", true),
        (&["*/*", "~*/*.example.com"], "api.example.com", "x", false),
        (&["~x/*"], "a.y.svc", "y", true),
        (&["~x/*"], "a.x.svc", "x", false),
        (&["~./a.own.svc", "./*"], "b.own.svc", "own", true),
    ];
    for &(written, host, namespace, known) in cases {
        assert_eq!(hold(written, host, namespace), known, "{written:?} {host} {namespace}");
    }
}

/// Istio's words, entry by entry: the namespace is the same or any, the host the same or below.
fn plainly(written: &[String], host: &str, namespace: &str) -> bool {
    let fits = |entry: &str| {
        let (space, name) = entry.split_once('/').unwrap();
        let of = match space {
            "*" => true,
            "." => namespace == "own",
            other => other == namespace,
        };
        let below = match name {
            "*" => true,
            _ => name
                .strip_prefix('*')
                .map_or(name == host, |suffix| host.ends_with(suffix) && host.len() > suffix.len()),
        };
        of && below
    };
    let (out, known): (Vec<&String>, Vec<&String>) =
        written.iter().filter(|entry| !entry.starts_with("~/")).partition(|entry| entry.starts_with('~'));
    let any = known.is_empty() && !out.is_empty();
    (any || known.iter().any(|entry| fits(entry))) && !out.iter().any(|entry| fits(&entry[1..]))
}

proptest! {
    #[test]
    fn what_is_known_is_what_is_written(
        written in prop::collection::vec(
            ("~?", r"(\*|\.|x|own)", r"(\*|\*\.com|\*\.a\.com|a\.com|b\.a\.com)").prop_map(|(out, space, host)| format!("{out}{space}/{host}")),
            1..5,
        ),
        host in r"(a\.com|b\.a\.com|com|c\.b\.a\.com)",
        namespace in "(x|own|y)",
    ) {
        let found = Hosts::new(&written, "own").hold(&host.parse().unwrap(), &namespace);
        prop_assert_eq!(found, plainly(&written, &host, &namespace), "{:?}", written);
    }
}
