use super::*;

/// A gateway with these ports.
pub(crate) fn gateway(ports: &[u16]) -> GatewayPlan {
    GatewayPlan {
        name: "edge".to_owned(),
        namespace: "istio-system".to_owned(),
        labels: INSTALLED[0].labels(),
        service_account: INSTALLED[0].name.to_owned(),
        ports: ports.iter().copied().collect(),
        credentials: Vec::new(),
        client_credentials: BTreeSet::new(),
        services: BTreeMap::new(),
    }
}

/// A pod with one port.
pub(crate) fn pod(name: &str, port: u16) -> PodPlan {
    PodPlan {
        namespace: "cargo".to_owned(),
        name: format!("{name}-0"),
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        annotations: BTreeMap::new(),
        service_account: name.to_owned(),
        ports: vec![("http".to_owned(), port)],
        service: name.to_owned(),
        sidecar: true,
        application: Application::default(),
    }
}

fn plan(yaml: &str) -> Plan {
    let (resources, problems) = Resources::read([("test.yaml", yaml)]);
    assert_eq!(problems, [], "the test's own YAML must be right");
    Plan::of(&resources).unwrap()
}

const EDGE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com, 'shop/*.shop.example.com']
    tls: {mode: SIMPLE, credentialName: shop-certs}
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*']
";

const WEB: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web, version: v1}}
    spec:
      serviceAccountName: web-account
      containers:
      - name: web
        ports:
        - {name: http, containerPort: 8080}
        - {name: dns, containerPort: 53, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: web-service, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

const GATEWAY_DEPLOYMENT: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress, namespace: edge-team}
spec:
  template:
    metadata: {labels: {istio: ingressgateway, app: ingress}}
    spec: {serviceAccountName: ingress-account}
";

const SECRET: &str = "
---
apiVersion: v1
kind: Secret
metadata: {name: shop-certs, namespace: shop}
stringData: {tls.crt: a, tls.key: b}
";

#[test]
fn a_gateway_without_deployment_runs_in_its_own_namespace() {
    let plan = plan(EDGE);
    let gateway = &plan.gateways[0];
    assert_eq!((gateway.name.as_str(), gateway.namespace.as_str()), ("istio-ingressgateway", "shop"));
    assert_eq!(gateway.labels, INSTALLED[0].labels());
    assert_eq!(gateway.ports, BTreeSet::from([80, 443]));
}

#[test]
fn a_missing_secret_is_planned_for_the_hosts_of_its_servers() {
    let hosts = BTreeSet::from(["shop.example.com".to_owned(), "*.shop.example.com".to_owned()]);
    assert_eq!(plan(EDGE).gateways[0].credentials, [Credential { name: "shop-certs".to_owned(), hosts }]);
}

#[test]
fn a_secret_of_the_folder_is_left_alone() {
    assert_eq!(plan(&format!("{EDGE}{SECRET}")).gateways[0].credentials, []);
}

#[test]
fn the_deployment_of_a_gateway_names_it_and_is_no_workload() {
    let plan = plan(&format!("{EDGE}{GATEWAY_DEPLOYMENT}"));
    let gateway = &plan.gateways[0];
    assert_eq!((gateway.namespace.as_str(), gateway.service_account.as_str()), ("edge-team", "ingress-account"));
    assert_eq!(gateway.labels["app"], "ingress");
    assert_eq!(plan.pods, []);
}

#[test]
fn gateways_with_the_same_selector_share_a_process() {
    let other = EDGE.replace("name: edge, namespace: shop", "name: second, namespace: other").replace("443", "8443");
    let plan = plan(&format!("{EDGE}---{other}"));
    assert_eq!(plan.gateways.len(), 1);
    assert_eq!(plan.gateways[0].ports, BTreeSet::from([80, 443, 8443]));
}

#[test]
fn gateways_that_select_the_same_pods_by_other_labels_share_a_process() {
    let selecting = |name: &str, selector: &str| {
        let own = EDGE.replace("name: edge", &format!("name: {name}"));
        format!("{}\n---\n", own.replace("{istio: ingressgateway}", selector))
    };
    let usual = ["{istio: ingressgateway}", "{app: istio-ingressgateway}", "{}"];
    let own = ["{tier: public}", "{tier: public, app: edge}", "{istio: egressgateway}"];
    let all = usual.iter().chain(&own).enumerate().map(|(index, selector)| selecting(&format!("g{index}"), selector));
    let plan = plan(&all.collect::<String>());
    let labels: Vec<String> = plan.gateways.iter().map(|gateway| format!("{:?}", gateway.labels)).collect();
    assert_eq!(
        labels,
        [
            r#"{"app": "edge", "tier": "public"}"#,
            r#"{"app": "istio-ingressgateway", "istio": "ingressgateway"}"#,
            r#"{"app": "istio-egressgateway", "istio": "egressgateway"}"#
        ]
    );
}

#[test]
fn every_replica_is_a_pod_with_the_template_of_its_deployment() {
    let plan = plan(WEB);
    let names: Vec<&str> = plan.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["web-0", "web-1"]);
    let pod = &plan.pods[0];
    assert_eq!(pod.ports, [("http".to_owned(), 8080)]);
    assert_eq!(pod.labels["security.istio.io/tlsMode"], "istio");
    assert_eq!((pod.service.as_str(), pod.service_account.as_str()), ("web-service", "web-account"));
}

#[test]
fn a_certificate_for_every_host_is_for_those_that_are_routed() {
    let any = EDGE.replace("hosts: [shop.example.com, 'shop/*.shop.example.com']", "hosts: ['*']");
    let service = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [www.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: web}}]}]
";
    let plan = plan(&format!("{any}{service}"));
    let wanted = BTreeSet::from(["localhost".to_owned(), "www.example.com".to_owned()]);
    assert_eq!(plan.gateways[0].credentials[0].hosts, wanted);
}

const OUTSIDE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-system}
spec:
  selector: {app: istio-egressgateway, istio: egressgateway}
  ports: [{name: https, port: 443, targetPort: 8443}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [bank.test], tls: {mode: ISTIO_MUTUAL}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: outside}
spec:
  hosts: [bank.test]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS, targetPort: 8443}]
  location: MESH_EXTERNAL
  resolution: STATIC
  workloadSelector: {labels: {app: bank}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: istio-system}
spec: {host: bank.test, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: bank-client}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: real, namespace: istio-system}
spec: {host: www.example.com, trafficPolicy: {tls: {mode: SIMPLE, credentialName: real-ca}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: bank, namespace: outside}
spec:
  template:
    metadata:
      labels: {app: bank, sidecar.istio.io/inject: 'false'}
      annotations: {demo.sluice.dev/tls: MUTUAL}
    spec: {containers: [{name: bank, ports: [{containerPort: 8443}]}]}
";

#[test]
fn who_plays_the_outside_has_no_sidecar_and_a_certificate_of_its_hosts() {
    let plan = plan(OUTSIDE);
    let bank = &plan.pods[0];
    assert!(!bank.sidecar && !bank.labels.contains_key("security.istio.io/tlsMode"), "{bank:?}");
    let hosts = BTreeSet::from(["bank.test".to_owned()]);
    assert_eq!(bank.application.tls, Some(OwnTls { mutual: true, hosts }));
}

#[test]
fn an_egress_gateway_is_as_istio_installs_it_and_its_services_are_known() {
    let gateway = &plan(OUTSIDE).gateways[0];
    assert_eq!(
        (gateway.name.as_str(), gateway.service_account.as_str()),
        ("istio-egressgateway", "istio-egressgateway")
    );
    let ports = vec![("https".to_owned(), 443)];
    assert_eq!(gateway.services, BTreeMap::from([("istio-egressgateway".to_owned(), ports)]));
}

#[test]
fn a_client_certificate_is_made_for_what_the_demo_plays_and_for_nobody_else() {
    let wanted = ClientCredential { name: "bank-client".to_owned(), mutual: true };
    assert_eq!(plan(OUTSIDE).gateways[0].client_credentials, BTreeSet::from([wanted]));
}

#[test]
fn a_word_that_is_meant_for_the_demo_and_unknown_is_refused() {
    let (resources, _) = Resources::read([("test.yaml", OUTSIDE.replace("tls: MUTUAL}", "tls: STRICT}").as_str())]);
    let refused = Plan::of(&resources).unwrap_err().to_string();
    assert_eq!(
        refused,
        "Deployment outside/bank: annotation demo.sluice.dev/tls is `STRICT`; SIMPLE or MUTUAL is wanted"
    );
}

#[test]
fn a_port_that_only_bytes_lead_to_speaks_no_http() {
    let bytes = |name: &str| {
        let yaml = WEB.replace("ports: [{name: http, port: 80", &format!("ports: [{{name: {name}, port: 80"));
        plan(&yaml).pods[0].application.bytes.clone()
    };
    assert_eq!(bytes("tcp-broker"), BTreeSet::from([8080]));
    assert_eq!(bytes("mysql"), BTreeSet::from([8080]));
    for http in ["http", "grpc", "https", "tls-x", "unnamed"] {
        assert_eq!(bytes(http), BTreeSet::new(), "{http}");
    }
}
