//! The questions, and what has to come of them.

use super::{Row, Who};

/// To a gateway.
pub(super) const AT_GATEWAY: [Row; 37] = {
    use Who::{Caller, Nobody, Partner};
    const SIDE: &str = "gateway";
    [
        (SIDE, 80, Nobody, "GET shop.example.com /web", "forwarded reviews"),
        (SIDE, 80, Nobody, "GET SHOP.example.com.:80 /web?a=b", "forwarded reviews"),
        (SIDE, 443, Nobody, "GET shop.example.com /web", "forwarded reviews"),
        (SIDE, 80, Nobody, "GET shop.example.com /x/../web", "forwarded reviews"),
        (SIDE, 80, Nobody, "POST shop.example.com /api/x x-user=bob", "forwarded reviews"),
        (SIDE, 80, Nobody, "GET shop.example.com /api/x x-user=bob", "refused 404"),
        (SIDE, 80, Nobody, "GET other.example.org /web", "refused 404"),
        (SIDE, 80, Nobody, "GET shop.example.com /gone", "answered 410"),
        (SIDE, 80, Nobody, "GET shop.example.com /old?q=1", "redirected 308 http://shop.example.com/new?q=1"),
        (SIDE, 80, Nobody, "GET shop.example.com:8080 /secure", "redirected 301 https://shop.example.com:8443/secure"),
        (SIDE, 8081, Nobody, "GET shop.example.com /x", "redirected 301 https://shop.example.com/x"),
        (SIDE, 8081, Nobody, "GET shop.example.com:8081 /x?q", "redirected 301 https://shop.example.com:8443/x?q"),
        // Before the destination.
        (SIDE, 80, Nobody, "GET shop.example.com /teapot", "answered 418"),
        (SIDE, 80, Nobody, "GET shop.example.com /never", "forwarded reviews"),
        (SIDE, 80, Nobody, PREFLIGHT_A, "answered 200"),
        (SIDE, 80, Nobody, PREFLIGHT_B, "answered 200"),
        (SIDE, 80, Nobody, "GET shop.example.com /pages origin=https://b.example", "forwarded reviews"),
        (SIDE, 80, Nobody, "GET shop.example.com /nobody", "refused 503"),
        (SIDE, 80, Nobody, "GET shop.example.com /nowhere", "refused 503"),
        // No request at all.
        (SIDE, 80, Nobody, "GET shop.example.com:0 /web", "refused 400"),
        (SIDE, 80, Nobody, "GET a_b /web", "refused 400"),
        (SIDE, 80, Nobody, "GET - /web", "refused 400"),
        (SIDE, 80, Nobody, "GET shop.example.com /%00", "refused 400"),
        // Policies.
        (SIDE, 80, Nobody, "GET shop.example.com /admin", "refused 403 istio-system/no-admin"),
        (SIDE, 80, Nobody, "GET shop.example.com /web/%2e./admin/x", "refused 403 istio-system/no-admin"),
        (SIDE, 80, Nobody, "GET shop.example.com /web x-forwarded-for=203.0.113.9", "forwarded reviews"),
        // Who proves what, and where.
        (SIDE, 80, Caller, "GET shop.example.com /own", "refused 403 istio-system/own"),
        (SIDE, 443, Caller, "GET shop.example.com /own", "refused 403 istio-system/own"),
        (SIDE, 9444, Caller, "GET mesh.example.com /own", "forwarded reviews"),
        (SIDE, 9444, Nobody, "GET mesh.example.com /own", "closed"),
        (SIDE, 9443, Nobody, "GET partner.example.com /web", "closed"),
        (SIDE, 9443, Partner, "GET partner.example.com /web", "forwarded reviews"),
        (SIDE, 9443, Caller, "GET partner.example.com /web", "closed"),
        (SIDE, 443, Nobody, "GET elsewhere.example.org /web", "closed"),
        // Bytes.
        (SIDE, 3306, Nobody, "GET - /", "forwarded db"),
        (SIDE, 3307, Nobody, "POST - /", "closed"),
        (SIDE, 9445, Nobody, "GET passed.example.com /", "closed"),
    ]
};

const PREFLIGHT_A: &str = "OPTIONS shop.example.com /pages origin=https://a.example access-control-request-method=GET";
const PREFLIGHT_B: &str = "OPTIONS shop.example.com /pages origin=https://b.example access-control-request-method=GET";

/// To a sidecar, and from its application.
pub(super) const AT_SIDECAR: [Row; 21] = {
    use Who::{Caller, Foreign, Nobody};
    const IN: &str = "inbound";
    const OUT: &str = "outbound";
    [
        (IN, 8080, Nobody, "GET reviews /", "forwarded"),
        (IN, 8080, Caller, "GET reviews /", "forwarded"),
        (IN, 8080, Foreign, "GET reviews /", "closed"),
        (IN, 8080, Nobody, "GET reviews /own", "refused 403 shop/own"),
        (IN, 8080, Caller, "GET reviews /own", "forwarded"),
        (IN, 8080, Nobody, "GET reviews:0 /", "refused 400"),
        (IN, 8080, Nobody, "GET reviews / x-forwarded-for=203.0.113.9", "refused 403 shop/outside"),
        (IN, 8080, Nobody, "GET reviews / x-forwarded-for=203.0.113.9,_192.0.2.1", "forwarded"),
        (IN, 8081, Nobody, "GET reviews /", "closed"),
        (IN, 8081, Caller, "GET reviews /", "forwarded"),
        (IN, 8081, Foreign, "GET reviews /", "closed"),
        (IN, 8082, Nobody, "GET reviews /", "forwarded"),
        // Bytes: what is not known of them lets nobody pass.
        (IN, 8083, Nobody, "POST reviews /", "closed"),
        (IN, 8083, Caller, "POST reviews /", "closed"),
        (IN, 8084, Nobody, "GET reviews /own", "forwarded"),
        (OUT, 8080, Nobody, "GET ratings.shop:8080 /", "forwarded ratings"),
        (OUT, 8080, Nobody, "GET ratings:8080 /own", "forwarded ratings"),
        (OUT, 8080, Nobody, "GET ratings.shop.svc.cluster.local:8080 /teapot", "answered 418"),
        (OUT, 8080, Nobody, "GET nobody.test:8080 /", "refused 502"),
        (OUT, 8080, Nobody, "GET ratings:0 /", "refused 400"),
        (OUT, 3306, Nobody, "GET db.test /", "forwarded db"),
    ]
};
