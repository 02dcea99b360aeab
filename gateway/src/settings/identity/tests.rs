use super::*;

fn pod(ca: Option<&str>) -> Downward {
    Downward { ca_address: ca.map(str::to_owned), ..Downward::default() }
}

fn chosen(flags: &IdentityFlags, ca: Option<&str>, mounted: &[&str]) -> IdentitySettings {
    let exists = |path: &Path| mounted.iter().any(|it| Path::new(it) == path);
    IdentitySettings::choose(flags.clone(), &pod(ca), &exists).unwrap()
}

fn to(address: &str) -> IdentityFlags {
    IdentityFlags { ca_address: Some(parse_host_port(address).unwrap()), ..IdentityFlags::default() }
}

fn ca(settings: IdentitySettings) -> CaSettings {
    let IdentitySettings::Ca(ca) = settings else { panic!("{settings:?}") };
    ca
}

#[test]
fn what_is_mounted_comes_before_the_pods_ca() {
    let none = IdentityFlags::default();
    assert_eq!(chosen(&none, None, &[]), IdentitySettings::Nowhere);
    assert_eq!(chosen(&none, Some("a:1"), &[SOCKET, CREDENTIALS]), IdentitySettings::WorkloadApi(SOCKET.into()));
    assert_eq!(chosen(&none, Some("a:1"), &[CREDENTIALS]), IdentitySettings::Files(CREDENTIALS.into()));
    assert_eq!(ca(chosen(&none, Some("a:1"), &[])).address.to_string(), "a:1");
}

#[test]
fn a_flag_comes_before_everything() {
    let folder = IdentityFlags { identity_dir: Some("x".into()), ..IdentityFlags::default() };
    assert_eq!(chosen(&folder, Some("a:1"), &[SOCKET]), IdentitySettings::Files("x".into()));
    let socket = IdentityFlags { workload_api: Some("y".into()), ..IdentityFlags::default() };
    assert_eq!(chosen(&socket, Some("a:1"), &[CREDENTIALS]), IdentitySettings::WorkloadApi("y".into()));
    assert_eq!(ca(chosen(&to("b:2"), Some("a:1"), &[SOCKET])).address.to_string(), "b:2");
    // Whoever says how a CA is asked wants it to be asked.
    let root = IdentityFlags { ca_root: Some("z".into()), ..IdentityFlags::default() };
    assert_eq!(ca(chosen(&root, Some("a:1"), &[SOCKET])).root, Path::new("z"));
}

#[test]
fn the_defaults_are_istios() {
    let settings = ca(chosen(&to("istiod.istio-system.svc:15012"), None, &[]));
    assert_eq!(settings.name, "istiod.istio-system.svc");
    assert_eq!((settings.root.as_path(), settings.token.as_path()), (Path::new(ROOT), Path::new(TOKEN)));
    assert_eq!((settings.lifetime, settings.key), (LIFETIME, KeyKind::EcdsaP256));
    assert_eq!(settings.cluster, "Kubernetes");
    let pod = Downward {
        ca_address: Some("istiod:15012".into()),
        secret_ttl: Some("12h0m0s".into()),
        cluster: Some("east".into()),
        ..Downward::default()
    };
    let settings = ca(IdentitySettings::choose(IdentityFlags::default(), &pod, &|_| false).unwrap());
    assert_eq!((settings.lifetime.as_secs(), settings.cluster.as_str()), (12 * 3600, "east"));
}

#[test]
fn what_makes_no_sense_is_told() {
    let of = |flags: IdentityFlags, pod: &Downward| IdentitySettings::choose(flags, pod, &|_| false).unwrap_err();
    let lost = IdentityFlags { ca_token: Some("t".into()), ..IdentityFlags::default() };
    let text = "--ca-token is about a CA; give --ca-address and no other source of the identity";
    assert_eq!(of(lost.clone(), &pod(None)), text);
    assert_eq!(of(IdentityFlags { identity_dir: Some("x".into()), ..lost }, &pod(Some("a:1"))), text);
    assert!(of(IdentityFlags::default(), &pod(Some("nonsense"))).starts_with("CA_ADDR is no address of a CA: write"));
    let pod = Downward { secret_ttl: Some("never".into()), ..pod(Some("a:1")) };
    assert!(of(IdentityFlags::default(), &pod).starts_with("SECRET_TTL is no lifetime of a certificate: write"));
}

#[test]
fn values_are_read_as_they_are_written() {
    assert_eq!(parse_host_port("[::1]:15012").unwrap().to_string(), "[::1]:15012");
    assert_eq!(parse_host_port("CA.example:1").unwrap().host, "ca.example");
    for wrong in ["", "ca", "ca:", ":1", "ca:0", "ca:99999", "https://ca:1", "::1:15012", "[ca]:1", "a/b:1"] {
        assert!(parse_host_port(wrong).is_err(), "{wrong}");
    }
    assert_eq!(parse_lifetime("24h0m0s").unwrap(), LIFETIME);
    assert_eq!(parse_lifetime("6").unwrap().as_secs(), 6);
    for wrong in ["", "0", "500ms", "2161h", "x", "-1h"] {
        assert!(parse_lifetime(wrong).is_err(), "{wrong}");
    }
    assert_eq!(parse_key_kind("rsa-2048").unwrap(), KeyKind::Rsa2048);
    assert!(parse_key_kind("RSA-1024").is_err());
}

#[test]
fn the_pod_says_which_name_the_ca_has() {
    let pod = Downward { ca_name: Some("istiod.mesh".into()), ..pod(Some("10.0.0.7:15012")) };
    let name = |flags: IdentityFlags| ca(IdentitySettings::choose(flags, &pod, &|_| false).unwrap()).name;
    assert_eq!(name(IdentityFlags::default()), "istiod.mesh");
    assert_eq!(name(IdentityFlags { ca_name: Some("other".into()), ..IdentityFlags::default() }), "other");
}
