//! What people set: values of Istio's own chart, switches, and wrong ones.

use std::fs;

use harness::helm;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BASE, GATEWAY, container, kinds, one, pod, selects};

/// As a user of Istio's gateway chart has it.
const ISTIO_VALUES: &str = r#"
name: istio-ingressgateway
revision: "1-28"
replicaCount: 2
rbac:
  enabled: true
serviceAccount:
  create: true
  annotations:
    eks.amazonaws.com/role-arn: arn:aws:iam::111122223333:role/gateway
podAnnotations:
  cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
service:
  type: LoadBalancer
  annotations:
    service.beta.kubernetes.io/aws-load-balancer-type: external
    external-dns.alpha.kubernetes.io/hostname: "*.cargo.example.com"
  loadBalancerClass: service.k8s.aws/nlb
  loadBalancerSourceRanges: [198.51.100.0/24]
  externalTrafficPolicy: Local
  ipFamilyPolicy: PreferDualStack
  ipFamilies: [IPv4, IPv6]
  ports:
    - {name: status-port, port: 15021, protocol: TCP, targetPort: 15021}
    - {name: http2, port: 80, protocol: TCP, targetPort: 80}
    - {name: https, port: 443, protocol: TCP, targetPort: 443}
resources:
  requests: {cpu: 500m, memory: 256Mi}
  limits: {cpu: "4", memory: 1Gi}
autoscaling:
  enabled: true
  minReplicas: 3
  maxReplicas: 12
  targetCPUUtilizationPercentage: 70
  targetMemoryUtilizationPercentage: 85
  autoscaleBehavior:
    scaleDown: {stabilizationWindowSeconds: 300}
strategy:
  rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  type: RollingUpdate
minReadySeconds: 10
terminationGracePeriodSeconds: 120
labels:
  team: freight
  app.kubernetes.io/part-of: edge
env:
  SLUICE_LOG: info
  WORKERS: 4
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: edge, operator: Exists, effect: NoSchedule}]
affinity:
  nodeAffinity: {}
topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}
networkGateway: ""
imagePullPolicy: IfNotPresent
imagePullSecrets: [{name: pull}]
podDisruptionBudget:
  minAvailable: 50%
  unhealthyPodEvictionPolicy: AlwaysAllow
priorityClassName: system-cluster-critical
volumes: [{name: extra-certs, secret: {secretName: extra}}]
volumeMounts: [{name: extra-certs, mountPath: /etc/istio/extra, readOnly: true}]
"#;

#[test]
fn values_written_for_istios_gateway_chart_mean_the_same() {
    let Some(_) = helm::executable("values_written_for_istios_gateway_chart_mean_the_same") else { return };
    let folder = TempDir::with_prefix("sluice-charts-").expect("a temporary folder can be made");
    let file = folder.path().join("values.yaml");
    fs::write(&file, ISTIO_VALUES).expect("the file can be written");
    let objects = helm::template(GATEWAY, &["--values", &file.display().to_string()]);

    let service = &one(&objects, "Service")["spec"];
    assert_eq!(service["loadBalancerClass"], "service.k8s.aws/nlb");
    assert_eq!(service["loadBalancerSourceRanges"], json!(["198.51.100.0/24"]));
    assert_eq!(service["externalTrafficPolicy"], "Local");
    assert_eq!(service["ipFamilyPolicy"], "PreferDualStack");
    assert_eq!(service["ipFamilies"], json!(["IPv4", "IPv6"]));
    let annotations = &one(&objects, "Service")["metadata"]["annotations"];
    assert_eq!(annotations["external-dns.alpha.kubernetes.io/hostname"], "*.cargo.example.com");

    let spec = &pod(&objects)["spec"];
    assert_eq!(
        spec["securityContext"]["sysctls"],
        json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]),
        "the Service leads to 80 and 443, which the pods must be allowed to bind"
    );
    assert_eq!(spec["terminationGracePeriodSeconds"], 120);
    assert_eq!(spec["priorityClassName"], "system-cluster-critical");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(spec["tolerations"][0]["key"], "edge");
    assert_eq!(spec["topologySpreadConstraints"][0]["whenUnsatisfiable"], "DoNotSchedule");
    assert_eq!(spec["volumes"][2], json!({"name": "extra-certs", "secret": {"secretName": "extra"}}));
    assert_eq!(container(&objects)["volumeMounts"][2]["mountPath"], "/etc/istio/extra");
    assert_eq!(container(&objects)["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container(&objects)["resources"]["limits"], json!({"cpu": "4", "memory": "1Gi"}));
    let environment = container(&objects)["env"].as_array().expect("an environment");
    assert!(environment.contains(&json!({"name": "WORKERS", "value": "4"})));

    let labels = &pod(&objects)["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["istio.io/rev"]), (&json!("freight"), &json!("1-28")));
    assert_eq!(labels["app.kubernetes.io/part-of"], "edge");
    let deployment = &one(&objects, "Deployment")["spec"];
    assert_eq!(
        (&deployment["minReadySeconds"], &deployment["strategy"]["rollingUpdate"]["maxSurge"]),
        (&json!(10), &json!(1))
    );
    let scaler = &one(&objects, "HorizontalPodAutoscaler")["spec"];
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(3), &json!(12)));
    assert_eq!(scaler["metrics"].as_array().map(Vec::len), Some(2));
    assert_eq!(scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 300);
    let budget = &one(&objects, "PodDisruptionBudget")["spec"];
    assert_eq!(
        (&budget["minAvailable"], &budget["unhealthyPodEvictionPolicy"]),
        (&json!("50%"), &json!("AlwaysAllow"))
    );
    let account = &one(&objects, "ServiceAccount")["metadata"]["annotations"];
    assert_eq!(account["eks.amazonaws.com/role-arn"], "arn:aws:iam::111122223333:role/gateway");
}

#[test]
fn pods_without_a_service_bind_low_ports_unless_that_is_forbidden() {
    let Some(_) = helm::executable("pods_without_a_service_bind_low_ports_unless_that_is_forbidden") else { return };
    let sysctls = |args: &[&str]| {
        let objects = helm::template(GATEWAY, args);
        pod(&objects)["spec"]["securityContext"].get("sysctls").is_some()
    };
    assert!(sysctls(&["--set", "service.type=None"]));
    assert!(!kinds(&helm::template(GATEWAY, &["--set", "service.type=None"])).contains(&"Service"));
    assert!(!sysctls(&["--set", "service.type=None,unprivilegedPort=false"]));
    assert!(sysctls(&["--set", "unprivilegedPort=true"]));
    assert!(!sysctls(&[]));
}

#[test]
fn switches_add_a_network_policy_and_a_monitor() {
    let Some(_) = helm::executable("switches_add_a_network_policy_and_a_monitor") else { return };
    let metrics_from = r#"networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"name":"monitoring"}}}]"#;
    let objects = helm::template(
        GATEWAY,
        &[
            "--set=networkPolicy.enabled=true,serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus",
            "--set-json",
            metrics_from,
        ],
    );
    let labels = &pod(&objects)["metadata"]["labels"];

    let policy = &one(&objects, "NetworkPolicy")["spec"];
    assert!(selects(&policy["podSelector"]["matchLabels"], labels));
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    let port = |number: u16| json!({"port": number, "protocol": "TCP"});
    let monitoring = json!([{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]);
    assert_eq!(
        policy["ingress"],
        json!([{"ports": [port(15021), port(8080), port(8443)]}, {"ports": [port(15090)], "from": monitoring}])
    );

    let monitor = one(&objects, "ServiceMonitor");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let services: Vec<&Value> = objects.iter().filter(|it| it["kind"] == "Service").collect();
    let selected: Vec<_> = services
        .iter()
        .filter(|it| selects(&monitor["spec"]["selector"]["matchLabels"], &it["metadata"]["labels"]))
        .collect();
    assert_eq!(selected.len(), 1, "not the load balancer");
    assert!(selects(&selected[0]["spec"]["selector"], labels));
    assert_eq!(selected[0]["spec"]["ports"][0]["name"], monitor["spec"]["endpoints"][0]["port"]);
    assert_eq!(selected[0]["spec"]["ports"][0]["targetPort"], 15090);
}

#[test]
fn a_wrong_value_is_refused_by_its_name() {
    let Some(_) = helm::executable("a_wrong_value_is_refused_by_its_name") else { return };
    let wrong = [
        ("replicas=2", "'replicas'"),
        ("service.type=External", "/service/type"),
        ("service.loadbalancerIP=192.0.2.1", "'loadbalancerIP'"),
        ("service.ports[0].name=http,service.ports[0].port=0", "/service/ports/0/port"),
        ("autoscaling.maxReplicas=many", "/autoscaling/maxReplicas"),
        ("autoscaling.minReplicas=6", "autoscaling.maxReplicas is less than autoscaling.minReplicas"),
        ("autoscaling.targetCPUUtilizationPercentage=0", "/autoscaling"),
        ("networkGateway=network2", "/networkGateway"),
        ("accessLog=jsn", "/accessLog"),
        ("kind=StatefulSet", "/kind"),
        ("podDisruptionBudget.minAvailable=1,podDisruptionBudget.maxUnavailable=1", "/podDisruptionBudget"),
        ("terminationGracePeriodSeconds=0", "/terminationGracePeriodSeconds"),
        ("identity.secret=mesh", "'secret'"),
        ("acme.enabled=maybe", "/acme/enabled"),
        ("acme.issuer=letsencrypt", "'issuer'"),
    ];
    for (value, named) in wrong {
        let refusal = helm::try_template(GATEWAY, &["--set", value]).expect_err(value);
        assert!(refusal.contains(named), "{value}: {refusal}");
    }
    let refusal = helm::try_template(BASE, &["--set", "enabled=true"]).expect_err("there is nothing to set");
    assert!(refusal.contains("'enabled'"), "{refusal}");
}
