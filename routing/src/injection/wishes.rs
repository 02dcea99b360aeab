//! What a pod wishes, by its annotations: read once, checked, with the settings of the mesh below.

mod values;

use serde_json::{Map, Value};

use super::decision::INJECT;
use super::json::{items, name, text, texts};
use super::settings::{Readiness, Settings, Traffic};
use super::values::PodConfig;
use super::{Context, Refusal, Texts, proxy_config, status, template};
use crate::resources::read_yaml;

/// Everything that pods may say about their own sidecar, with defaults applied.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    pub(super) templates: Vec<String>,
    pub(super) traffic: Traffic,
    pub(super) exclude_interfaces: String,
    pub(super) virtual_interfaces: String,
    /// Whether traffic is captured at all.
    pub(super) captures: bool,
    pub(super) image: String,
    pub(super) resources: Value,
    pub(super) log_level: Option<String>,
    pub(super) holds: bool,
    pub(super) native: bool,
    pub(super) rewrites_probes: bool,
    pub(super) merges_metrics: bool,
    /// 0: there is no such server.
    pub(super) status_port: u16,
    pub(super) readiness: Readiness,
    pub(super) volumes: Vec<Value>,
    pub(super) mounts: Vec<Value>,
    pub(super) environment: Texts,
    pub(super) workers: Option<u16>,
    /// Volumes and secrets that the pod has already.
    pub(super) own_volumes: Vec<String>,
    pub(super) own_secrets: Vec<String>,
    /// Whether the pod says itself from which port on processes may bind.
    pub(super) binds_low_ports: bool,
}

/// Most data threads that the proxy starts.
const WORKERS: u16 = 1024;
/// Ports that the proxy has besides that of probes.
const OWN_PORTS: [u16; 5] = [15000, 15001, 15006, 15021, 15090];

/// Annotations of Istio that are honoured, here or by the proxy.
const HONOURED: [&str; 37] = [
    INJECT,
    "inject.istio.io/templates",
    "proxy.istio.io/config",
    "proxy.istio.io/overrides",
    "sidecar.istio.io/status",
    "sidecar.istio.io/proxyImage",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/nativeSidecar",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "status.sidecar.istio.io/port",
    "readiness.status.sidecar.istio.io/initialDelaySeconds",
    "readiness.status.sidecar.istio.io/periodSeconds",
    "readiness.status.sidecar.istio.io/failureThreshold",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "istio.io/reroute-virtual-interfaces",
    "prometheus.istio.io/merge-metrics",
    "prometheus.istio.io/scrape-targets",
    "istio.io/rev",
    "istio.io/dry-run",
    "networking.istio.io/exportTo",
    "networking.istio.io/service-type",
    "topology.istio.io/network",
    "topology.istio.io/subzone",
];

/// Annotations of Istio that have no effect here, each with the reason.
const WITHOUT_EFFECT: [(&str, &str); 15] = [
    ("sidecar.istio.io/proxyImageType", "there is one image, which is as small as `distroless`"),
    ("sidecar.istio.io/discoveryAddress", "sidecars read the API server themselves"),
    ("sidecar.istio.io/capNetBindService", "the sidecar binds no port below 1024"),
    ("sidecar.istio.io/componentLogLevel", "use sidecar.istio.io/logLevel"),
    ("sidecar.istio.io/agentLogLevel", "there is no agent beside the proxy; use sidecar.istio.io/logLevel"),
    ("sidecar.istio.io/bootstrapOverride", "there is no Envoy whose bootstrap could be replaced"),
    ("sidecar.istio.io/extraStatTags", "labels of metrics are Istio's standard ones"),
    ("sidecar.istio.io/statsInclusionPrefixes", "all metrics are always there"),
    ("sidecar.istio.io/statsInclusionSuffixes", "all metrics are always there"),
    ("sidecar.istio.io/statsInclusionRegexps", "all metrics are always there"),
    ("sidecar.istio.io/statsHistogramBuckets", "buckets are Istio's standard ones"),
    ("sidecar.istio.io/statsCompression", "metrics are not compressed"),
    ("sidecar.istio.io/statsFlushInterval", "metrics are counted when asked for"),
    ("sidecar.istio.io/statsEvictionInterval", "metrics are kept while they are true"),
    (
        "readiness.status.sidecar.istio.io/applicationPorts",
        "the application's own readiness probe says whether its ports are open",
    ),
];

/// Families of annotations that are Istio's, so that a misspelt one is told of.
const FAMILIES: [&str; 6] = [
    "sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "inject.istio.io/",
    "proxy.istio.io/",
];

impl Wishes {
    /// Reads them.
    pub(super) fn read(pod: &Value, context: Context<'_>, warnings: &mut Vec<String>) -> Result<Self, Refusal> {
        let settings = context.settings;
        let annotations = texts(pod, "/metadata/annotations");
        let said = Said { annotations: &annotations };
        tell(pod, &annotations, warnings);
        let labels = texts(pod, "/metadata/labels");
        let levels = proxy_config::levels(settings, context.namespace, &labels, warnings);
        let config = said.config(levels.below)?.under(levels.above);
        let status_port = said.number("status.sidecar.istio.io/port")?;
        let status_port = status_port.or(config.status_port.map(u32::from)).unwrap_or(settings.status_port.into());
        let status_port = u16::try_from(status_port)
            .map_err(|_| Refusal(format!("annotation status.sidecar.istio.io/port: {status_port} is not a port")))?;
        if OWN_PORTS.contains(&status_port) {
            return Err(Refusal(format!(
                "annotation status.sidecar.istio.io/port: {status_port} is a port that the proxy has for something else; write another"
            )));
        }
        let rewrites = said.truth("sidecar.istio.io/rewriteAppHTTPProbers")?.unwrap_or(settings.rewrite_probes);
        let merges = said.truth("prometheus.istio.io/merge-metrics")?.unwrap_or(settings.merge_metrics);
        let level = said.text("sidecar.istio.io/logLevel").or(settings.log_level.as_deref());
        let native = said.truth("sidecar.istio.io/nativeSidecar")?.unwrap_or_else(|| settings.is_native());
        let listed = |pointer: &str| items(pod, pointer).iter().map(|it| name(it).to_owned()).collect::<Vec<_>>();
        Ok(Self {
            templates: said.templates(settings)?,
            traffic: said.traffic(&settings.traffic)?,
            exclude_interfaces: said.interfaces(&["traffic.sidecar.istio.io/excludeInterfaces"])?,
            virtual_interfaces: said
                .interfaces(&["istio.io/reroute-virtual-interfaces", "traffic.sidecar.istio.io/kubevirtInterfaces"])?,
            captures: said.captures(config.interception_mode.as_deref())?,
            image: said.text("sidecar.istio.io/proxyImage").unwrap_or(&settings.image).to_owned(),
            resources: said.resources(settings)?,
            log_level: level.map(values::log_level).transpose()?,
            holds: config.hold_application_until_proxy_starts.unwrap_or(false),
            native,
            rewrites_probes: rewrites && status_port != 0,
            merges_metrics: merges && status_port != 0,
            status_port,
            readiness: said.readiness(settings.readiness)?,
            volumes: said.named("sidecar.istio.io/userVolume")?,
            mounts: said.named("sidecar.istio.io/userVolumeMount")?,
            environment: config.proxy_metadata,
            workers: config.concurrency.filter(|it| *it > 0).map(|it| it.min(WORKERS)),
            own_volumes: listed("/spec/volumes"),
            own_secrets: listed("/spec/imagePullSecrets"),
            binds_low_ports: listed("/spec/securityContext/sysctls").iter().any(|it| it == status::LOW_PORTS),
        })
    }
}

/// The annotations.
#[derive(Clone, Copy)]
struct Said<'a> {
    annotations: &'a Texts,
}

impl<'a> Said<'a> {
    fn text(self, key: &str) -> Option<&'a str> {
        self.annotations.get(key).map(|text| text.trim())
    }

    /// The first of these annotations that is there.
    fn interfaces(self, keys: &[&str]) -> Result<String, Refusal> {
        let Some((key, text)) = keys.iter().find_map(|key| Some((key, self.text(key)?))) else {
            return Ok(String::new());
        };
        values::interfaces(text).map_err(|why| Refusal(format!("annotation {key}: {why}")))?;
        Ok(text.to_owned())
    }

    fn truth(self, key: &str) -> Result<Option<bool>, Refusal> {
        self.text(key)
            .map(|text| values::truth(text).ok_or_else(|| wrong(key, text, "write \"true\" or \"false\"")))
            .transpose()
    }

    fn number(self, key: &str) -> Result<Option<u32>, Refusal> {
        self.text(key).map(|text| text.parse().map_err(|_| wrong(key, text, "write a number"))).transpose()
    }

    /// Settings of the proxy that are about its pod.
    fn config(self, below: PodConfig) -> Result<PodConfig, Refusal> {
        const KEY: &str = "proxy.istio.io/config";
        let Some(written) = self.text(KEY) else { return Ok(below) };
        let value = read_yaml(written).map_err(|why| Refusal(format!("annotation {KEY} cannot be read: {why}")))?;
        if value.is_null() {
            return Ok(below);
        }
        let own: PodConfig = serde_json::from_value(value)
            .map_err(|why| Refusal(format!("annotation {KEY} cannot be understood: {why}")))?;
        Ok(below.under(own))
    }

    fn templates(self, settings: &Settings) -> Result<Vec<String>, Refusal> {
        let Some(written) = self.text("inject.istio.io/templates") else { return template::known(&settings.templates) };
        let names: Vec<String> =
            written.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect();
        template::known(&names)
    }

    fn traffic(self, mesh: &Traffic) -> Result<Traffic, Refusal> {
        let list = |name: &str, mesh: &str, check: fn(&str) -> Result<(), String>| {
            let key = format!("traffic.sidecar.istio.io/{name}");
            let text = self.text(&key).unwrap_or(mesh);
            check(text).map_err(|why| Refusal(format!("annotation {key}: {why}")))?;
            Ok(text.to_owned())
        };
        Ok(Traffic {
            include_ranges: list("includeOutboundIPRanges", &mesh.include_ranges, values::ranges)?,
            exclude_ranges: list("excludeOutboundIPRanges", &mesh.exclude_ranges, values::excluded_ranges)?,
            include_outbound: list("includeOutboundPorts", &mesh.include_outbound, values::ports)?,
            exclude_outbound: list("excludeOutboundPorts", &mesh.exclude_outbound, values::excluded_ports)?,
            include_inbound: list("includeInboundPorts", &mesh.include_inbound, values::ports)?,
            exclude_inbound: list("excludeInboundPorts", &mesh.exclude_inbound, values::excluded_ports)?,
        })
    }

    fn captures(self, config: Option<&str>) -> Result<bool, Refusal> {
        const KEY: &str = "sidecar.istio.io/interceptionMode";
        match self.text(KEY).or(config).unwrap_or("REDIRECT") {
            "REDIRECT" | "" => Ok(true),
            "NONE" => Ok(false),
            other => Err(wrong(KEY, other, "traffic is captured by REDIRECT, or not at all by NONE")),
        }
    }

    /// Any of the four replaces all of the mesh's.
    fn resources(self, settings: &Settings) -> Result<Value, Refusal> {
        let amount = |key: &str| {
            let key = format!("sidecar.istio.io/{key}");
            let text = self.text(&key);
            if let Some(wrongly) = text.filter(|text| !values::is_quantity(text)) {
                return Err(wrong(&key, wrongly, "write an amount as Kubernetes does, as in 100m or 128Mi"));
            }
            Ok(text)
        };
        let pair = |cpu: Option<&str>, memory: Option<&str>| {
            let mut amounts = Map::new();
            for (name, amount) in [("cpu", cpu), ("memory", memory)] {
                if let Some(amount) = amount {
                    amounts.insert(name.to_owned(), amount.into());
                }
            }
            amounts
        };
        let requests = pair(amount("proxyCPU")?, amount("proxyMemory")?);
        let limits = pair(amount("proxyCPULimit")?, amount("proxyMemoryLimit")?);
        if requests.is_empty() && limits.is_empty() {
            return Ok(settings.resources.clone());
        }
        let mut resources = Map::new();
        for (name, amounts) in [("requests", requests), ("limits", limits)] {
            if !amounts.is_empty() {
                resources.insert(name.to_owned(), amounts.into());
            }
        }
        Ok(resources.into())
    }

    fn readiness(self, mesh: Readiness) -> Result<Readiness, Refusal> {
        let number = |name: &str| self.number(&format!("readiness.status.sidecar.istio.io/{name}"));
        Ok(Readiness {
            initial_delay: number("initialDelaySeconds")?.unwrap_or(mesh.initial_delay),
            period: number("periodSeconds")?.unwrap_or(mesh.period),
            failures: number("failureThreshold")?.unwrap_or(mesh.failures),
        })
    }

    /// JSON: a list of things with a name, or a mapping from names to things.
    fn named(self, key: &str) -> Result<Vec<Value>, Refusal> {
        let Some(written) = self.text(key) else { return Ok(Vec::new()) };
        let form = "write JSON: a list of objects with a name, or a mapping from names to objects";
        let things = match serde_json::from_str::<Value>(written) {
            Ok(Value::Array(list)) => list,
            Ok(Value::Object(map)) => {
                let named = |(name, mut thing): (String, Value)| {
                    if let Value::Object(thing) = &mut thing {
                        thing.insert("name".to_owned(), name.into());
                    }
                    thing
                };
                map.into_iter().map(named).collect()
            }
            _ => return Err(wrong(key, written, form)),
        };
        if things.iter().any(|it| name(it).is_empty()) {
            return Err(wrong(key, written, form));
        }
        Ok(things)
    }
}

fn wrong(key: &str, text: &str, right: &str) -> Refusal {
    Refusal(format!("annotation {key} cannot be `{text}`: {right}"))
}

/// What of a pod is as nobody means it, or has no effect.
fn tell(pod: &Value, annotations: &Texts, warnings: &mut Vec<String>) {
    for key in annotations.keys() {
        if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(name, _)| name == key) {
            warnings.push(format!("annotation {key} has no effect: {why}"));
        } else if FAMILIES.iter().any(|family| key.starts_with(family)) && !HONOURED.contains(&key.as_str()) {
            warnings.push(format!("annotation {key} is not known and has no effect"));
        }
    }
    for (what, said) in [
        ("label", text(pod, "/metadata/labels/sidecar.istio.io~1inject")),
        ("annotation", text(pod, "/metadata/annotations/sidecar.istio.io~1inject")),
    ] {
        if !said.is_empty() && values::truth(said).is_none() {
            warnings.push(format!("{what} {INJECT} is `{said}` and does not count; write \"true\" or \"false\""));
        }
    }
    let policy = text(pod, "/spec/dnsPolicy");
    if !matches!(policy, "" | "ClusterFirst") {
        warnings.push(format!(
            "spec.dnsPolicy is {policy}: names of the cluster, such as that of the CA, may not be found; ClusterFirst finds them"
        ));
    }
    let as_proxy = |value: &Value| {
        let both = [("runAsUser", "user"), ("runAsGroup", "group")].into_iter();
        both.filter(|(field, _)| value["securityContext"][*field] == 1337).collect::<Vec<_>>()
    };
    let containers = items(pod, "/spec/containers").iter().filter(|it| name(it) != super::PROXY);
    for container in containers {
        for (_, what) in as_proxy(container) {
            warnings.push(format!(
                "container {} runs as {what} 1337, which is the sidecar's: what it sends is not captured",
                name(container)
            ));
        }
    }
    for (field, _) in as_proxy(&pod["spec"]) {
        warnings.push(format!(
            "spec.securityContext.{field} is 1337, which is the sidecar's: what the pod sends is not captured"
        ));
    }
}
