use routing::{
    compile::{Proxy, compile},
    resources::{Store, parse_file},
};

use super::*;

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system, generation: 3, creationTimestamp: '2026-01-01T00:00:00Z', uid: u1}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}]
";

fn routes(gateways: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: routes, namespace: shop, generation: 2}}\n\
         spec: {{hosts: [shop.example.com], gateways: {gateways}, http: {http}}}\n"
    )
}

/// What holds after these texts came one after the other, as they are read and compiled by a gateway.
fn index(texts: &[&str]) -> Index {
    let mut store = Store::default();
    let mut read = Default::default();
    for text in texts {
        read = store.replace(vec![("a.yaml".to_owned(), parse_file("a.yaml", text))]);
    }
    let (resources, mut problems) = read;
    let proxy = Proxy::default();
    problems.extend(compile(&resources, &proxy).problems);
    let (content, certificates) = (proxy.configuration(&resources), Vec::new());
    Index::new(Arc::new(Applied { content, snapshot: 0, proxy, resources, problems, certificates }))
}

fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    (kind, namespace.to_owned(), name.to_owned())
}

/// `Accepted=True Accepted` and so on.
fn said(wanted: &Wanted) -> Vec<String> {
    wanted.conditions.iter().map(|it| format!("{}={} {}", it.kind, it.status, it.reason)).collect()
}

const DIRECT: &str = "[{directResponse: {status: 200}}]";

#[test]
fn what_is_right_is_accepted_and_speaks_of_its_generation() {
    let index = index(&[&format!("{GATEWAY}---\n{}", routes("[istio-system/edge]", DIRECT))]);
    let gateway = index.wanted(&key(Kind::Gateway, "istio-system", "edge")).unwrap();
    assert_eq!(
        said(&gateway),
        ["Accepted=true Accepted", "ResolvedRefs=true ResolvedRefs", "Conflicted=false NoConflicts"]
    );
    assert_eq!((gateway.generation, gateway.uid.as_deref(), gateway.programmed), (3, Some("u1"), true));
    let service = index.wanted(&key(Kind::VirtualService, "shop", "routes")).unwrap();
    assert_eq!(said(&service), ["Accepted=true Accepted", "ResolvedRefs=true ResolvedRefs"]);
    assert_eq!((service.generation, service.programmed), (2, true));
    let told = programmed(&service, 1, 2);
    assert_eq!((told.status, &*told.reason, &*told.message), (false, "Pending", "1 of 2 replicas at generation 2"));
    assert!(programmed(&service, 2, 2).status);
    assert!(!programmed(&service, 0, 0).status);
}

#[test]
fn only_what_concerns_this_proxy_is_told() {
    let other = GATEWAY.replace("ingressgateway", "egressgateway").replace("name: edge", "name: egress");
    let text = format!("{GATEWAY}---\n{other}---\n{}", routes("[istio-system/egress]", DIRECT));
    let elsewhere = index(&[&text]);
    assert_eq!(elsewhere.keys(), [key(Kind::Gateway, "istio-system", "edge")]);
    assert_eq!(elsewhere.wanted(&key(Kind::Gateway, "istio-system", "egress")), None);
    let mesh = index(&[&format!("{GATEWAY}---\n{}", routes("[mesh]", DIRECT))]);
    assert!(!mesh.wanted(&key(Kind::VirtualService, "shop", "routes")).unwrap().programmed);
}

#[test]
fn a_delegate_is_in_force_where_its_root_is() {
    let leaf = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: leaf, namespace: team}\n\
                spec: {http: [{directResponse: {status: 200}}]}\n";
    let root = |gateways, leaf| routes(gateways, &format!("[{{delegate: {{name: {leaf}, namespace: team}}}}]"));
    let told = |root: String| {
        let index = index(&[&format!("{GATEWAY}---\n{root}{leaf}")]);
        let wanted = |namespace, name| index.wanted(&key(Kind::VirtualService, namespace, name)).unwrap();
        (said(&wanted("shop", "routes")), wanted("team", "leaf").programmed)
    };
    let right = ["Accepted=true Accepted", "ResolvedRefs=true ResolvedRefs"].map(str::to_owned).to_vec();
    assert_eq!(told(root("[istio-system/edge]", "leaf")), (right.clone(), true));
    assert_eq!(told(root("[mesh]", "leaf")), (right, false));
    let missing = ["Accepted=true Accepted", "ResolvedRefs=false UnknownDelegate"].map(str::to_owned).to_vec();
    assert_eq!(told(root("[istio-system/edge]", "nobody")), (missing, false));
}

#[test]
fn a_younger_gateway_with_the_same_host_names_the_winner() {
    let younger = GATEWAY
        .replace("2026-01-01", "2026-01-02")
        .replace("name: edge", "name: late")
        .replace("protocol: HTTP}", "protocol: HTTPS}");
    let index = index(&[&format!(
        "{GATEWAY}---\n{}",
        younger.replace("hosts:", "tls: {mode: SIMPLE, credentialName: gone}, hosts:")
    )]);
    let late = index.wanted(&key(Kind::Gateway, "istio-system", "late")).unwrap();
    let conflicted = late.conditions.iter().find(|it| it.kind == "Conflicted").unwrap();
    assert_eq!((conflicted.status, &*conflicted.reason), (true, "PortConflict"));
    assert!(conflicted.message.contains("istio-system/edge"), "{}", conflicted.message);
    assert!(said(&late).contains(&"ResolvedRefs=false MissingSecret".to_owned()), "{:?}", said(&late));
    assert!(said(&late).contains(&"Accepted=true Accepted".to_owned()), "{:?}", said(&late));
}

#[test]
fn a_certificate_on_order_is_a_reference_that_is_not_there_yet() {
    let ordering = |issuer: &str, more: &str| {
        let names = format!("generation: 3, annotations: {{acme.sluice.dev/issuer: {issuer}{more}}}");
        let server = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [www.example.com], tls: {mode: SIMPLE, \
                      credentialName: ordered}}";
        let gateway = GATEWAY.replace("generation: 3", &names).replace("servers: [", &format!("servers: [{server}, "));
        said(&index(&[&gateway]).wanted(&key(Kind::Gateway, "istio-system", "edge")).unwrap())
    };
    let agreed = ", acme.sluice.dev/terms-of-service-agreed: 'true'";
    for (issuer, more, reason) in [
        ("letsencrypt", agreed, "CertificatePending"),
        ("letsencrypt", "", "TermsNotAgreed"),
        ("nobody", agreed, "UnknownIssuer"),
    ] {
        let reason = format!("ResolvedRefs=false {reason}");
        assert_eq!(ordering(issuer, more), ["Accepted=true Accepted", &reason, "Conflicted=false NoConflicts"]);
    }
}

#[test]
fn an_order_that_failed_is_the_reason_before_the_certificate_that_is_waited_for() {
    let problem = |severity, code| Problem {
        severity,
        code,
        object: ObjectRef::new("Gateway", "istio-system", "edge"),
        field: String::new(),
        message: code.to_owned(),
        place: None,
    };
    let pending = problem(Severity::Info, "certificate-pending");
    let failed = problem(Severity::Error, ORDER_FAILED);
    let said = conditions(Kind::Gateway, &[&pending, &failed], false);
    assert_eq!((said[1].kind, &*said[1].reason), ("ResolvedRefs", "CertificateOrderFailed"));
    assert_eq!(said[1].message, "certificate-order-failed; certificate-pending");
}

#[test]
fn every_reference_that_leads_nowhere_is_one() {
    let to = |destination: &str| format!("[{{route: [{{destination: {destination}}}]}}]");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {a: b}, ports: [{port: 8080, name: http}, {port: 8081, name: http-b}]}\n";
    for (http, gateways, reason) in [
        (to("{host: nowhere}"), "[istio-system/edge]", "UnknownHost"),
        (to("{host: web, subset: v9, port: {number: 8080}}"), "[istio-system/edge]", "UnknownSubset"),
        (to("{host: web, port: {number: 99}}"), "[istio-system/edge]", "UnknownPort"),
        (to("{host: web}"), "[istio-system/edge]", "PortRequired"),
        (DIRECT.to_owned(), "[istio-system/edge, istio-system/none]", "UnknownGateway"),
    ] {
        let index = index(&[&format!("{GATEWAY}---\n{}{service}", routes(gateways, &http))]);
        let wanted = index.wanted(&key(Kind::VirtualService, "shop", "routes")).unwrap();
        let said = said(&wanted);
        assert_eq!(said, ["Accepted=true Accepted".to_owned(), format!("ResolvedRefs=false {reason}")]);
    }
}

#[test]
fn a_rejected_version_is_not_accepted_whether_or_not_an_older_one_serves() {
    let (good, bad) =
        (routes("[istio-system/edge]", DIRECT), routes("[istio-system/edge]", "[{retries: {attempts: some}}]"));
    let [good, bad] = [good, bad].map(|it| format!("{GATEWAY}---\n{it}"));
    for texts in [vec![good.as_str(), bad.as_str()], vec![bad.as_str()]] {
        let index = index(&texts);
        let key = key(Kind::VirtualService, "shop", "routes");
        assert!(index.keys().contains(&key));
        let wanted = index.wanted(&key).unwrap();
        assert!(wanted.rejected);
        assert!(said(&wanted)[0].starts_with("Accepted=false "), "{:?}", said(&wanted));
        assert_eq!(wanted.conditions[0].message.contains("the last good version keeps serving"), texts.len() == 2);
        assert_eq!(&*programmed(&wanted, 2, 2).reason, "NotAccepted");
    }
}

#[test]
fn policies_are_told_of_where_they_hold() {
    let object = |kind: &str, namespace: &str, spec: &str| {
        let group = match kind {
            "RateLimit" => "policy.sluice.dev/v1alpha1",
            "Telemetry" => "telemetry.istio.io/v1",
            _ => "security.istio.io/v1",
        };
        format!(
            "---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: a, namespace: {namespace}, generation: 4}}\nspec: \
             {{{spec}}}\n"
        )
    };
    let limit = "rules: [{limit: {requests: 1}}]";
    let text = [
        GATEWAY.to_owned(),
        object("AuthorizationPolicy", "istio-system", "rules: [{}]"),
        object("AuthorizationPolicy", "shop", "action: CUSTOM, provider: {name: nobody}, rules: [{}]"),
        object("RequestAuthentication", "istio-system", "jwtRules: [{issuer: a}]"),
        object("PeerAuthentication", "shop", "mtls: {mode: STRICT}"),
        object("RateLimit", "istio-system", limit),
        object("RateLimit", "shop", &format!("targetRefs: [{{kind: Service, name: gone}}], {limit}")),
        object("Telemetry", "istio-system", "metrics: [{providers: [{name: nobody}]}]"),
        object("Telemetry", "shop", "accessLogging: [{disabled: true}]"),
        object("RateLimit", "bad", "rules: [{limit: {requests: 0}}]"),
    ];
    let index = index(&[&text.concat()]);
    let told = |kind, namespace| {
        let wanted = index.wanted(&key(kind, namespace, "a")).unwrap();
        assert!(index.keys().contains(&key(kind, namespace, "a")));
        (said(&wanted).join(", "), wanted.generation, wanted.programmed)
    };
    let good = |generation, programmed| {
        ("Accepted=true Accepted, ResolvedRefs=true ResolvedRefs".to_owned(), generation, programmed)
    };
    assert_eq!(told(Kind::AuthorizationPolicy, "istio-system"), good(4, true));
    assert_eq!(told(Kind::AuthorizationPolicy, "shop"), good(4, false));
    let refused = ("Accepted=false BadValue, ResolvedRefs=true ResolvedRefs".to_owned(), 4, true);
    assert_eq!(told(Kind::RequestAuthentication, "istio-system"), refused);
    assert_eq!(told(Kind::PeerAuthentication, "shop"), good(4, true));
    assert_eq!(told(Kind::RateLimit, "istio-system"), good(4, true));
    let nowhere = ("Accepted=true Accepted, ResolvedRefs=false UnknownTarget".to_owned(), 4, false);
    assert_eq!(told(Kind::RateLimit, "shop"), nowhere);
    let unknown = ("Accepted=true Accepted, ResolvedRefs=false UnknownProvider".to_owned(), 4, true);
    assert_eq!(told(Kind::Telemetry, "istio-system"), unknown);
    assert_eq!(told(Kind::Telemetry, "shop"), good(4, false));
    let (said, generation, _) = told(Kind::RateLimit, "bad");
    assert!(said.starts_with("Accepted=false ") && generation == 0, "{said}");
}

fn condition(status: bool, message: &str) -> Condition {
    Condition { kind: "Accepted", status, reason: "R".into(), message: message.to_owned().into() }
}

#[test]
fn conditions_of_others_stay_and_times_change_with_the_status_only() {
    let before = json!({
        "observedGeneration": "1",
        "conditions": [
            {"type": "Reconciled", "status": "True", "extra": 1},
            {"type": "Accepted", "status": "True", "reason": "R", "message": "old", "lastTransitionTime": "t1"},
        ],
    });
    let same = [condition(true, "old")];
    assert_eq!(merge(&before, &same, 1, "t2"), None);
    let patch = merge(&before, &[condition(true, "new")], 2, "t2").unwrap();
    assert_eq!(patch["conditions"][0], before["conditions"][0]);
    assert_eq!(patch["conditions"][1]["lastTransitionTime"], "t1");
    assert_eq!(
        (patch["observedGeneration"].as_i64(), patch["conditions"][1]["observedGeneration"].as_i64()),
        (Some(2), Some(2))
    );
    let patch = merge(&before, &[condition(false, "new")], 2, "t2").unwrap();
    assert_eq!(patch["conditions"][1]["lastTransitionTime"], "t2");
    // Nothing is to be told any more.
    let patch = merge(&before, &[], 0, "t2").unwrap();
    assert_eq!(patch, json!({"conditions": [before["conditions"][0]]}));
    assert_eq!(merge(&Value::Null, &[], 0, "t2"), None);
}

#[test]
fn what_was_written_is_recognised_by_the_next_leader() {
    let index = index(&[&format!("{GATEWAY}---\n{}", routes("[istio-system/edge]", DIRECT))]);
    let wanted = index.wanted(&key(Kind::VirtualService, "shop", "routes")).unwrap();
    let with = |ready, all| [wanted.conditions.clone(), vec![programmed(&wanted, ready, all)]].concat();
    let status = merge(&Value::Null, &with(2, 2), 2, "t").unwrap();
    let (written, generation) = read(&status);
    assert_eq!((programmed_at(&written, generation), &written), (Some(2), &with(2, 2)));
    assert_eq!(digest(&written, generation), digest(&with(1, 1), 2), "the number of replicas is no news");
    assert_ne!(digest(&written, generation), digest(&with(1, 2), 2));
    assert_ne!(digest(&with(0, 2), 2), digest(&with(1, 2), 2));
    assert_ne!(digest(&written, generation), digest(&with(2, 2), 3));
}
