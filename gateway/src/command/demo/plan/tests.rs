use super::*;

/// A gateway with these ports.
pub(crate) fn gateway(ports: &[u16]) -> GatewayPlan {
    GatewayPlan {
        name: "edge".to_owned(),
        namespace: "istio-system".to_owned(),
        labels: default_labels(),
        service_account: DEFAULT_NAME.to_owned(),
        ports: ports.iter().copied().collect(),
        credentials: Vec::new(),
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
    }
}

fn plan(yaml: &str) -> Plan {
    let (resources, problems) = Resources::read([("test.yaml", yaml)]);
    assert_eq!(problems, [], "the test's own YAML must be right");
    Plan::of(&resources)
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
    assert_eq!(gateway.labels, default_labels());
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
            r#"{"istio": "egressgateway"}"#
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
