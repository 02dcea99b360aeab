use serde_json::json;

use super::list::{needs_attention, text};

#[test]
fn the_list_says_where_each_certificate_comes_from_and_why_one_is_missing() {
    let rows = [
        json!({
            "name": "istio-system/web/https", "hosts": ["a.example", "b.example", "c.example", "d.example"],
            "secret": "istio-system/shop", "issuer": "R11", "serial": "01ab", "notAfter": "2027-02-03T04:05:06Z",
            "kept": null,
            "order": {"issuer": "letsencrypt", "state": "issued", "nextRenewal": "2027-01-04T05:06:07Z", "lastError": null},
        }),
        json!({
            "name": "istio-system/web", "hosts": ["e.example"], "secret": "istio-system/new",
            "order": {
                "issuer": "letsencrypt", "state": "waiting", "failures": 2, "lastError": "the CA refused the order: no",
                "lastErrorAt": "2026-12-01T00:00:00Z", "nextAttempt": "2026-12-01T00:02:00Z",
            },
        }),
        json!({
            "name": "x/y/z", "hosts": [], "secret": "istio-system/own", "issuer": "Corp CA", "serial": "02",
            "notAfter": "2026-01-01T00:00:00Z", "kept": "the key is broken", "order": null,
        }),
    ];
    let mut out = Vec::new();
    text(&mut out, &rows).unwrap();
    let printed = String::from_utf8(out).unwrap();
    assert_eq!(
        printed,
        "\
HOSTS                             SECRET             SOURCE             ISSUED BY  SERIAL  ENDS              RENEWAL           STATE
a.example,b.example,c.example,+1  istio-system/shop  acme: letsencrypt  R11        01ab    2027-02-03 04:05  2027-01-04 05:06  issued
e.example                         istio-system/new   acme: letsencrypt  -          -       -                 -                 waiting
-                                 istio-system/own   secret             Corp CA    02      2026-01-01 00:00  -                 kept

istio-system/new: the last 2 tries failed
  the CA refused the order: no (at 2026-12-01T00:00:00Z); it is tried again at 2026-12-01T00:02:00Z
"
    );
    let now = 1_798_000_000; // December 2026
    assert_eq!(rows.map(|row| needs_attention(&row, now)), [false, true, true]);
}

#[test]
fn an_empty_list_says_so() {
    let mut out = Vec::new();
    text(&mut out, &[]).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "There is no certificate here.\n");
}
