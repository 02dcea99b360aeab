use std::time::Duration;

use super::*;

fn replica(name: &str, content: &str) -> Told {
    Told {
        namespace: "istio-system".to_owned(),
        workload: "edge".to_owned(),
        replica: name.to_owned(),
        version: "0.1.0".to_owned(),
        content: content.to_owned(),
        snapshot: "abc".to_owned(),
        certificates: 2,
        next_end: Some("2030-01-02T03:04:05Z".to_owned()),
        errors: 1,
        told_at: Some(1_000),
        lives: Some(Duration::from_secs(30)),
        ..Told::default()
    }
}

#[test]
fn what_the_leader_has_is_right_and_else_what_most_have() {
    let told = [replica("a", "1"), replica("b", "1"), Told { leader: true, ..replica("c", "2") }];
    assert_eq!(healths(&told, 1_005), [Health::OutOfSync, Health::OutOfSync, Health::InSync]);
    let told = [replica("a", "1"), replica("b", "1"), replica("c", "2")];
    assert_eq!(healths(&told, 1_005), [Health::InSync, Health::InSync, Health::OutOfSync]);
    let other = Told { workload: "egress".to_owned(), ..replica("d", "3") };
    assert_eq!(healths(&[replica("a", "1"), other], 1_005), [Health::InSync, Health::InSync]);
}

#[test]
fn who_told_nothing_for_too_long_is_silent_and_decides_nothing() {
    let told = [replica("a", "1"), Told { leader: true, told_at: Some(960), ..replica("b", "2") }];
    assert_eq!(healths(&told, 1_000), [Health::InSync, Health::Silent]);
    // The clock of the other one is ahead.
    assert_eq!(healths(&[replica("a", "1")], 900), [Health::InSync]);
    assert_eq!(healths(&[Told { lives: None, ..replica("a", "1") }], 9_000), [Health::InSync]);
    assert_eq!(healths(&[Told { told_at: None, ..replica("a", "1") }], 9_000), [Health::Silent]);
}

#[test]
fn the_table_is_aligned() {
    let told = [Told { leader: true, ..replica("a", "1") }, Told { kept: 1, ..replica("longer", "2") }];
    let mut out = Vec::new();
    text(&mut out, &told, &healths(&told, 1_007), 1_007).unwrap();
    let lines = [
        [
            "PROXY                   ",
            "VERSION",
            "SNAPSHOT",
            "STATE      ",
            "LEADER",
            "CERTIFICATES                    ",
        ],
        [
            "istio-system/edge/a     ",
            "0.1.0  ",
            "abc     ",
            "in sync    ",
            "yes   ",
            "2, first ends 2030-01-02        ",
        ],
        [
            "istio-system/edge/longer",
            "0.1.0  ",
            "abc     ",
            "OUT OF SYNC",
            "      ",
            "2, 1 kept, first ends 2030-01-02",
        ],
    ];
    let ends = ["PROBLEMS             TOLD", "1 error, 0 warnings  7 s ago", "1 error, 0 warnings  7 s ago"];
    let line = |(cells, end): (&[&str; 6], &str)| format!("{}  {end}\n", cells.join("  "));
    let expected: String = lines.iter().zip(ends).map(line).collect();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
