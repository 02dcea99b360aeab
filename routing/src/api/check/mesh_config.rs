//! Rules for the mesh configuration, and what of it has no effect here, each with its reason.

use serde_json::{Map, Value};

use super::{BAD_VALUE, Finding, Findings, NO_EFFECT, UNKNOWN_FIELD, extension_provider, names, push_key};
use crate::api::decode::{Reading, camel_case, decode};
use crate::api::ending::{self, Ending};
use crate::api::mesh_config::{AccessLogEncoding, InboundMode, OutboundMode};
use crate::api::proxy_config::ProxyTracing;
use crate::api::{MeshConfig, MeshProxyConfig};
use crate::log_format::LogFormat;
use crate::problem::Severity;

use Severity::{Info, Warning};

/// A field that is passed over: its name, how much it matters, and why.
type Row = (&'static str, Severity, &'static str);

const INGRESS: &str = "Ingress objects are not read; write a Gateway and a VirtualService";
const CONTROL_PLANE: &str = "it is a setting of Istio's control plane, which has no part here";
const ENVOY: &str = "it is a setting of Envoy, which does not run here";
const COLLECTOR: &str =
    "a collector of spans is a provider: extensionProviders, and a Telemetry or defaultProviders.tracing names it";
const AT_START: &str = "it is read by whoever makes the pod, and not by the proxy";

const MESH: &[Row] = &[
    ("proxyListenPort", Warning, "the port is said at start: --outbound"),
    ("proxyInboundListenPort", Warning, "the port is said at start: --inbound"),
    ("proxyHttpPort", Warning, "there is no port for clients that ask for a proxy"),
    ("ingressClass", Info, INGRESS),
    ("ingressService", Info, INGRESS),
    ("ingressControllerMode", Info, INGRESS),
    ("ingressSelector", Info, INGRESS),
    ("enableEnvoyAccessLogService", Warning, "access logs go out by a provider of the kind envoyOtelAls"),
    ("disableEnvoyListenerLog", Info, ENVOY),
    ("configSources", Info, CONTROL_PLANE),
    ("certificates", Info, CONTROL_PLANE),
    ("ca", Info, CONTROL_PLANE),
    ("caCertificates", Warning, "the mesh's roots are those in --identity-dir; add the certificates to root-cert.pem"),
    ("inboundClusterStatName", Info, ENVOY),
    ("outboundClusterStatName", Info, ENVOY),
    ("enablePrometheusMerge", Info, AT_START),
    ("verifyCertificateAtClient", Info, "servers are always verified, as the DestinationRule says"),
    (
        "discoverySelectors",
        Warning,
        "objects of all namespaces are read; limit what is seen with exportTo or Sidecar objects",
    ),
    ("serviceScopeConfigs", Info, "ambient mode is not supported"),
    ("thriftConfig", Info, ENVOY),
    (
        "defaultInboundHttpRetryPolicy",
        Warning,
        "requests to the own application are sent again by the proxy's own rule",
    ),
];

const PROXY: &[Row] = &[
    ("configPath", Info, ENVOY),
    ("binaryPath", Info, ENVOY),
    ("serviceCluster", Info, ENVOY),
    ("customConfigFile", Info, ENVOY),
    ("proxyBootstrapTemplatePath", Info, ENVOY),
    ("statNameLength", Info, ENVOY),
    ("statsdUdpAddress", Warning, "metrics are fetched from /stats/prometheus, and sent nowhere"),
    ("envoyAccessLogService", Warning, "access logs go out by a provider of the kind envoyOtelAls"),
    ("envoyMetricsService", Warning, "metrics are fetched from /stats/prometheus, and sent nowhere"),
    ("runtimeValues", Info, ENVOY),
    ("extraStatTags", Warning, "metrics have Istio's labels and no others"),
    ("proxyStatsMatcher", Info, ENVOY),
    ("statsCompression", Info, ENVOY),
    ("fileFlushInterval", Info, "the access log is written ten times a second"),
    ("fileFlushMinSizeKb", Info, "the access log is written ten times a second"),
    ("privateKeyProvider", Warning, "keys are used in software"),
    ("zipkinAddress", Warning, COLLECTOR),
    ("availabilityZone", Info, "the locality is the node's or the workload's"),
    ("discoveryAddress", Info, "the configuration is read from --config or the API server"),
    ("discoveryRefreshDelay", Info, CONTROL_PLANE),
    ("controlPlaneAuthPolicy", Info, CONTROL_PLANE),
    ("parentShutdownDuration", Info, ENVOY),
    ("proxyAdminPort", Info, "the port is said at start: --admin"),
    ("statusPort", Info, "the port is said at start: --status"),
    ("interceptionMode", Info, AT_START),
    ("image", Info, AT_START),
    ("holdApplicationUntilProxyStarts", Info, AT_START),
    ("meshId", Info, "metrics do not name the mesh"),
    ("readinessProbe", Warning, "the application is not probed; give the container a readinessProbe"),
    ("caCertificatesPem", Warning, "the mesh's roots are those in --identity-dir"),
    ("concurrency", Info, "the number of threads is said at start: --workers"),
];

/// What a document of mesh configuration says, which stands at `root`; on failure `findings` say why.
pub fn read(value: &Value, root: &str, findings: &mut Findings) -> Option<MeshConfig> {
    let mut value = value.clone();
    let fields = value.as_object_mut()?;
    let mut proxy_root = root.to_owned();
    push_key(&mut proxy_root, "defaultConfig");
    let proxy = fields.iter_mut().find(|(name, _)| camel_case(name) == "defaultConfig");
    if let Some(proxy) = proxy.and_then(|(_, proxy)| proxy.as_object_mut()) {
        pass_over(proxy, PROXY, &proxy_root, findings);
    }
    pass_over(fields, MESH, root, findings);
    let mesh: MeshConfig = leniently(&value, root, findings)?;
    findings.at_path(root, |findings| mesh.check(findings));
    Some(mesh)
}

/// As [`read`], of a document that has errors: without the fields in which they are, and without those in which errors come
/// to light then. Also gives what is left of it.
pub fn read_what_is_sound(value: &Value, root: &str, findings: &mut Findings) -> Option<(MeshConfig, Value)> {
    let mut rest = value.clone();
    loop {
        let mut again = Findings::default();
        let mesh = read(&rest, root, &mut again);
        let (before, sound) = (size(&rest), !again.has_errors());
        for finding in again.into_vec() {
            if finding.severity == Severity::Error {
                take_out(rest.as_object_mut()?, root, &finding.field);
            }
            findings.add_once(finding);
        }
        if sound {
            return mesh.map(|mesh| (mesh, rest));
        }
        if size(&rest) == before {
            return None;
        }
    }
}

/// Takes a field out that holds a path; of the settings of proxies no more than the one that is meant.
fn take_out(fields: &mut Map<String, Value>, root: &str, path: &str) {
    let names: Vec<String> = fields.keys().cloned().collect();
    for name in names {
        let mut field = root.to_owned();
        push_key(&mut field, &name);
        let Some(below) = path.strip_prefix(&field).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        else {
            continue;
        };
        match fields.get_mut(&name).and_then(Value::as_object_mut) {
            Some(proxy) if camel_case(&name) == "defaultConfig" && !below.is_empty() => take_out(proxy, &field, path),
            _ => drop(fields.remove(&name)),
        }
    }
}

/// How many fields there are, those of proxies with them.
fn size(value: &Value) -> usize {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, field)| if camel_case(name) == "defaultConfig" { 1 + size(field) } else { 1 }).sum()
}

/// What the annotation `proxy.istio.io/config` of a pod says; findings name the fields inside of it.
pub fn read_annotation(value: &Value, findings: &mut Findings) -> Option<MeshProxyConfig> {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        pass_over(fields, PROXY, "", findings);
    }
    let proxy: MeshProxyConfig = leniently(&value, "", findings)?;
    proxy.check(findings);
    Some(proxy)
}

/// Whether a mapping without kind and metadata is a mesh configuration: most of its fields are.
pub fn is_one(fields: &Map<String, Value>) -> bool {
    let names: Vec<String> = fields.keys().map(|name| camel_case(name).to_string()).collect();
    // Words that any file may have tell nothing.
    let telling = || names.iter().map(String::as_str).filter(|name| !matches!(*name, "ca" | "certificates"));
    let ours = |name: &&str| FIELDS.contains(name) || MESH.iter().any(|(row, ..)| row == name);
    telling().filter(ours).count() * 2 > telling().count()
}

/// The fields of [`MeshConfig`] by which a file of it is known.
const FIELDS: [&str; 23] = [
    "trustDomain",
    "trustDomainAliases",
    "rootNamespace",
    "outboundTrafficPolicy",
    "inboundTrafficPolicy",
    "pathNormalization",
    "defaultHttpRetryPolicy",
    "defaultConfig",
    "accessLogFile",
    "accessLogFormat",
    "accessLogEncoding",
    "localityLbSetting",
    "enableAutoMtls",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo",
    "h2UpgradePolicy",
    "protocolDetectionTimeout",
    "tlsDefaults",
    "meshMTLS",
    "dnsRefreshRate",
    "serviceSettings",
    "extensionProviders",
];

/// Takes the fields of a table out, and tells of them.
fn pass_over(fields: &mut Map<String, Value>, table: &[Row], root: &str, findings: &mut Findings) {
    let passed: Vec<(String, &Row)> = fields
        .keys()
        .filter_map(|name| Some((name.clone(), table.iter().find(|(row, ..)| *row == camel_case(name))?)))
        .collect();
    for (name, (_, severity, why)) in passed {
        let empty = fields.remove(&name).is_none_or(|value| value.is_null());
        let mut field = root.to_owned();
        push_key(&mut field, &name);
        if !empty {
            let message = format!("`{name}` has no effect: {why}");
            findings.add(Finding { field, code: NO_EFFECT, severity: *severity, message });
        }
    }
}

/// A field that nobody knows may be a newer Istio's; without the others nothing would be as the mesh is meant to be.
fn leniently<T: serde::de::DeserializeOwned>(value: &Value, root: &str, findings: &mut Findings) -> Option<T> {
    let mut found = Findings::default();
    let decoded = decode(value, root, Reading { strict: true, quote_values: true }, &mut found);
    for mut finding in found.into_vec() {
        if finding.code == UNKNOWN_FIELD {
            finding.severity = Warning;
            finding.message.push_str("; it is passed over");
        }
        findings.add(finding);
    }
    decoded
}

impl MeshConfig {
    /// Says what is wrong by itself.
    fn check(&self, findings: &mut Findings) {
        if let Some(fault) = self.trust_domain.as_deref().and_then(trust_domain_fault) {
            findings.error_at("trustDomain", BAD_VALUE, fault);
        }
        findings.each("trustDomainAliases", &self.trust_domain_aliases, |findings, _, alias| {
            if let Some(fault) = trust_domain_fault(alias) {
                findings.error(BAD_VALUE, fault);
            }
        });
        if let Some(namespace) = self.root_namespace.as_deref().filter(|name| !names::is_dns_label(name)) {
            findings.error_at("rootNamespace", BAD_VALUE, format!("`{namespace}` is not the name of a namespace"));
        }
        let exports = [
            ("defaultServiceExportTo", &self.default_service_export_to, true),
            ("defaultVirtualServiceExportTo", &self.default_virtual_service_export_to, false),
            ("defaultDestinationRuleExportTo", &self.default_destination_rule_export_to, false),
        ];
        for (field, list, none) in exports {
            names::export_list(findings, field, (list, ""), none);
        }
        findings.positive("connectTimeout", self.connect_timeout, "leave it out for the default of 10s");
        findings.positive("dnsRefreshRate", self.dns_refresh_rate, "leave it out for the default");
        if let Some(retries) = &self.default_http_retry_policy {
            findings.within("defaultHttpRetryPolicy", |findings| retries.check(findings));
        }
        if let Some(locality) = &self.locality_lb_setting {
            findings.within("localityLbSetting", |findings| locality.check(findings));
        }
        if let Some(proxy) = &self.default_config {
            findings.within("defaultConfig", |findings| proxy.check(findings));
        }
        if let Some(format) = &self.access_log_format {
            let json = self.access_log_encoding == Some(AccessLogEncoding::Json);
            match LogFormat::parse(format, json) {
                Ok((_, passed)) => passed.iter().for_each(|fault| {
                    findings.warn_at("accessLogFormat", NO_EFFECT, format!("{fault}; lines have `-` or null there"));
                }),
                Err(wrong) => findings.error_at("accessLogFormat", BAD_VALUE, wrong.to_string()),
            }
        }
        extension_provider::check_all(findings, &self.extension_providers);
        self.warn_of_what_is_not_there(findings);
    }

    fn warn_of_what_is_not_there(&self, findings: &mut Findings) {
        let dynamic =
            |policy: &crate::api::mesh_config::OutboundTrafficPolicy| policy.mode == OutboundMode::AllowAnyDynamicDns;
        if self.outbound_traffic_policy.as_ref().is_some_and(dynamic) {
            let message = "names are not looked up here for hosts that no service has, so this is ALLOW_ANY: requests go to the \
                           address that the application connected to";
            findings.warn_at("outboundTrafficPolicy", NO_EFFECT, message);
        }
        if let Some(path) = self.access_log_file.as_deref().filter(|path| !path.is_empty() && !path.starts_with('/')) {
            let message = format!("`{path}` is no path from the root; one as `/dev/stdout` is wanted");
            findings.error_at("accessLogFile", BAD_VALUE, message);
        }
        if self.inbound_traffic_policy.as_ref().is_some_and(|policy| policy.mode == InboundMode::Localhost) {
            let message =
                "ports without a service are reached at the address that was connected to; --app-address sets another";
            findings.warn_at("inboundTrafficPolicy", NO_EFFECT, message);
        }
        let local = |entry: &crate::api::mesh_config::ServiceSettings| {
            entry.settings.as_ref().is_some_and(|settings| settings.cluster_local)
        };
        if self.service_settings.iter().any(local) {
            let message = "endpoints of one cluster are known only, so every service is local to it";
            findings.warn_at("serviceSettings", NO_EFFECT, message);
        }
    }
}

impl MeshProxyConfig {
    fn check(&self, findings: &mut Findings) {
        findings.positive("drainDuration", self.drain_duration, "leave it out for the default of 45s");
        findings.each_key("proxyMetadata", &self.proxy_metadata, |findings, name, value| {
            if !ending::VARIABLES.contains(&name.as_str()) {
                let (message, field) = (format!("`{name}` has no effect: {AT_START}"), findings.here());
                findings.add(Finding { field, code: NO_EFFECT, severity: Info, message });
            } else if let Err(why) = Ending::read(|wanted| (wanted == name).then(|| value.clone())) {
                findings.error(BAD_VALUE, why);
            }
        });
        let server = self.proxy_headers.as_ref().and_then(|headers| headers.server.as_ref()?.value.as_deref());
        if let Some(value) = server.filter(|value| http::HeaderValue::from_str(value).is_err()) {
            let message = format!("`{}` cannot be the value of a header", value.escape_debug());
            findings.error_at("proxyHeaders.server.value", BAD_VALUE, message);
        }
        if let Some(tracing) = &self.tracing {
            findings.within("tracing", |findings| tracing.check(findings));
        }
    }
}

impl ProxyTracing {
    fn check(&self, findings: &mut Findings) {
        if let Some(share) = self.sampling.filter(|share| !(0.0..=100.0).contains(share)) {
            findings.error_at("sampling", BAD_VALUE, format!("{share} is no percentage; 0 to 100 is wanted"));
        }
        for field in self.collectors() {
            findings.warn_at(field, NO_EFFECT, format!("`{field}` has no effect: {COLLECTOR}"));
        }
    }
}

/// SPIFFE section 2.1; Istio also takes `@`, which it turns into `.`.
fn trust_domain_fault(domain: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._@".contains(&byte);
    let good = !domain.is_empty() && domain.len() <= 255 && domain.bytes().all(allowed);
    (!good).then(|| {
        format!("`{domain}` is not a trust domain; a-z, 0-9, `.`, `-` and `_` are wanted, as in cluster.local")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings(value: &Value) -> (Option<MeshConfig>, Vec<(String, Severity)>) {
        let mut findings = Findings::default();
        let mesh = read(value, "data.mesh", &mut findings);
        (mesh, findings.into_vec().into_iter().map(|it| (it.field, it.severity)).collect())
    }

    #[test]
    fn of_the_variables_those_of_the_end_count() {
        let variables =
            json!({"ISTIO_META_X": "1", "MINIMUM_DRAIN_DURATION": "soon", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"});
        let (_, found) = findings(&json!({"trustDomain": "td", "defaultConfig": {"proxyMetadata": variables}}));
        let at = |name: &str| format!("data.mesh.defaultConfig.proxyMetadata.{name}");
        assert_eq!(found, [(at("ISTIO_META_X"), Info), (at("MINIMUM_DRAIN_DURATION"), Severity::Error)]);
    }

    #[test]
    fn what_has_no_effect_is_told_and_hides_nothing() {
        let (mesh, found) = findings(&json!({
            "trustDomain": "td",
            "enableTracing": true,
            "defaultConfig": {"discoveryAddress": "istiod:15012", "tracing": {"zipkin": {"address": "a:1"}}, "gatewayTopology": {"numTrustedProxies": 2}},
            "somethingNew": 1,
        }));
        let mesh = mesh.unwrap();
        assert_eq!(mesh.trust_domain.as_deref(), Some("td"));
        assert_eq!(mesh.default_config.unwrap().gateway_topology.unwrap().num_trusted_proxies, 2);
        let field = |name: &str| format!("data.mesh.{name}");
        let mut wanted = vec![
            (field("defaultConfig.discoveryAddress"), Info),
            (field("defaultConfig.tracing.zipkin"), Warning),
            (field("somethingNew"), Warning),
        ];
        let mut found = found;
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn an_attribute_of_a_log_that_is_no_text_is_told() {
        let log = |labels: Value| {
            let als = json!({"service": "otel.shop.svc.cluster.local", "port": 4317, "logFormat": {"labels": labels}});
            findings(&json!({"extensionProviders": [{"name": "otel", "envoyOtelAls": als}]})).1
        };
        assert_eq!(log(json!({"code": "%RESPONSE_CODE%"})), []);
        let field = "data.mesh.extensionProviders[0].envoyOtelAls.logFormat.labels".to_owned();
        assert_eq!(log(json!({"code": "%RESPONSE_CODE%", "one": 1})), [(field, Warning)]);
    }

    #[test]
    fn wrong_values_are_errors_at_their_fields() {
        for (value, field) in [
            (json!({"trustDomain": "Not A Domain"}), "data.mesh.trustDomain"),
            (json!({"trustDomainAliases": ["ok", "b!"]}), "data.mesh.trustDomainAliases[1]"),
            (json!({"outboundTrafficPolicy": {"mode": "ALLOW"}}), "data.mesh.outboundTrafficPolicy.mode"),
            (
                json!({"defaultHttpRetryPolicy": {"retryOn": "6xx", "attempts": 1}}),
                "data.mesh.defaultHttpRetryPolicy.retryOn",
            ),
            (json!({"connectTimeout": "fast"}), "data.mesh.connectTimeout"),
            (json!({"defaultServiceExportTo": ["*", "a"]}), "data.mesh.defaultServiceExportTo"),
        ] {
            let (_, found) = findings(&value);
            assert_eq!(found, [(field.to_owned(), Severity::Error)], "{value}");
        }
    }

    #[test]
    fn what_is_sound_is_read_without_the_rest_and_every_error_is_told() {
        let value = json!({
            "trustDomain": "td", "connectTimeout": "fast", "rootNamespace": 7, "enableAutoMtls": false,
            "defaultConfig": {"drainDuration": "soon", "terminationDrainDuration": "7s"},
        });
        let mut findings = Findings::default();
        assert!(read(&value, "data.mesh", &mut findings).is_none_or(|_| findings.has_errors()));
        let (mesh, rest) = read_what_is_sound(&value, "data.mesh", &mut findings).unwrap();
        assert_eq!(
            rest,
            json!({
                "trustDomain": "td", "enableAutoMtls": false, "defaultConfig": {"terminationDrainDuration": "7s"},
            })
        );
        assert_eq!((mesh.trust_domain.as_deref(), mesh.enable_auto_mtls), (Some("td"), Some(false)));
        let mut told: Vec<String> = findings.into_vec().into_iter().map(|finding| finding.field).collect();
        told.sort();
        let field = |name: &str| format!("data.mesh.{name}");
        assert_eq!(told, ["connectTimeout", "defaultConfig.drainDuration", "rootNamespace"].map(field));
    }

    #[test]
    fn a_file_of_it_is_known_by_its_fields() {
        let one = |value: Value| is_one(value.as_object().unwrap());
        assert!(one(json!({"trustDomain": "x", "rootNamespace": "y", "typo": 1})));
        assert!(!one(json!({"replicas": 2, "image": "x"})));
        assert!(one(json!({"trustDomain": "x", "ca": {}, "certificates": []})));
        for stray in
            [json!({"ca": 1, "foo": 2, "bar": 3}), json!({"ca": 1, "certificates": 2}), json!({"ca": 1, "foo": 2})]
        {
            assert!(!one(stray.clone()), "{stray}");
        }
        assert!(!one(json!({"accessLogFile": "x", "port": 1})), "half is not most");
    }
}
