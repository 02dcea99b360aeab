//! What holds for the whole mesh, as it holds for one proxy: the mesh configuration, with the settings of its own pod on top.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    time::Duration,
};

use crate::{
    api::{
        self, MeshConfig, MeshProxyConfig,
        check::{Finding, Findings, mesh_config},
        gateway::TlsVersion as WrittenVersion,
        mesh_config::{AccessLogEncoding, MeshH2Upgrade, MeshTls, OutboundMode, PathNormalization},
        virtual_service::HttpRetry,
    },
    compile::{Proxy, Role},
    log_format::LogFormat,
    path::Form,
    proxy_headers::OwnHeaders,
    resources::{Object, Resources, read_yaml},
    snapshot::{TlsRange, TlsVersion},
    upstream::Cluster,
};

/// The mesh as one proxy sees it. Fields hold what was written, methods what follows from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    /// As written; [`MeshConfig::default_config`] is in [`Self::proxy`].
    pub config: MeshConfig,
    /// Settings of this proxy: those of the mesh, and those of its pod on top.
    pub proxy: MeshProxyConfig,
    /// What of them is about headers; `None` = nothing, and everything is as usual.
    pub headers: Option<Box<OwnHeaders>>,
}

/// No number of it is NaN.
impl Eq for Mesh {}

/// Whatever it is made of is hashed with the objects that say it.
impl Hash for Mesh {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The annotation of pods with settings of their proxy.
pub const ANNOTATION: &str = "proxy.istio.io/config";
/// Label of a pod that says which of several control planes is its own.
const REVISION: &str = "istio.io/rev";

/// What `accessLogFile` and its kind say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessLog {
    /// No line is written.
    Off,
    /// Istio's text, or another one.
    Text,
    /// An object per line.
    Json,
}

impl Mesh {
    /// The mesh of a proxy.
    pub fn of(resources: &Resources, proxy: &Proxy) -> Self {
        let mut config = document(resources, proxy).map(|found| found.spec.mesh.clone()).unwrap_or_default();
        let mut settings = config.default_config.take().unwrap_or_default();
        if let Some((_, text)) = annotation(resources, proxy)
            && let (Some(own), _) = read_annotation(&text)
        {
            settings = settings.under(&own);
        }
        let headers = settings.proxy_headers.as_ref().map(|headers| Box::new(OwnHeaders::from(headers)));
        Self { config, proxy: settings, headers }
    }

    /// What sidecars do with hosts that no service has.
    pub fn outbound(&self) -> OutboundMode {
        self.config.outbound_traffic_policy.as_ref().map_or(OutboundMode::AllowAny, |policy| policy.mode)
    }

    /// The form that paths are brought into.
    pub fn path_form(&self) -> Form {
        let written = self.config.path_normalization.map(|PathNormalization { normalization }| normalization);
        written.map(Form::from).unwrap_or_default()
    }

    /// Whether sidecars are spoken to in mutual TLS without a DestinationRule.
    pub fn auto_mtls(&self) -> bool {
        self.config.enable_auto_mtls.unwrap_or(true)
    }

    /// Whether HTTP/1.1 requests travel as HTTP/2 where a DestinationRule does not say.
    pub fn upgrades_h2(&self) -> bool {
        self.config.h2_upgrade_policy == MeshH2Upgrade::Upgrade
    }

    /// `connectTimeout` where a DestinationRule does not say.
    pub fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout.map_or(Cluster::CONNECT_TIMEOUT, Duration::from)
    }

    /// How long is waited for first bytes that tell what a connection speaks; `None`: the proxy's own limit. Istio's 0 waits
    /// for ever, which keeps connections of servers that speak first.
    pub fn detection_timeout(&self) -> Option<Duration> {
        self.config.protocol_detection_timeout.map(Duration::from).filter(|timeout| !timeout.is_zero())
    }

    /// How often names of endpoints are looked up; `None`: as often as the proxy does by itself.
    pub fn dns_refresh(&self) -> Option<Duration> {
        self.config.dns_refresh_rate.map(Duration::from)
    }

    /// What mutual TLS of the mesh may use, where the proxy is the server.
    pub fn mesh_tls(&self) -> TlsRange {
        self.config.mesh_mtls.as_ref().map(range).unwrap_or_default()
    }

    /// What TLS other than that may use.
    pub fn tls_defaults(&self) -> Option<TlsRange> {
        self.config.tls_defaults.as_ref().map(range)
    }

    /// Retries of routes that say nothing about them.
    pub fn retries(&self) -> Option<&HttpRetry> {
        self.config.default_http_retry_policy.as_ref()
    }

    /// Trust domains whose identities are as good as the proxy's own, which comes first.
    pub fn trust_domains(&self, own: &str) -> Vec<String> {
        let mut domains = vec![own.replace('@', ".")];
        for alias in self.config.trust_domain_aliases.iter().map(|alias| alias.replace('@', ".")) {
            if !domains.contains(&alias) {
                domains.push(alias);
            }
        }
        domains
    }

    /// Where the access log goes and in which form; `None`: the mesh configuration does not say.
    pub fn access_log(&self) -> Option<AccessLog> {
        let file = self.config.access_log_file.as_deref();
        let encoding = self.config.access_log_encoding;
        match (file, encoding) {
            (Some(""), _) => Some(AccessLog::Off),
            (None, None) => None,
            (_, Some(AccessLogEncoding::Json)) => Some(AccessLog::Json),
            (Some(_), _) | (None, Some(AccessLogEncoding::Text)) => Some(AccessLog::Text),
        }
    }
}

fn range(written: &MeshTls) -> TlsRange {
    TlsRange {
        min_version: match written.min_protocol_version {
            WrittenVersion::V1_3 => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        },
        cipher_suites: written.cipher_suites.clone(),
        curves: written.ecdh_curves.clone(),
    }
}

impl Mesh {
    /// Whether lines of the access log are objects, wherever they go.
    pub fn logs_json(&self) -> bool {
        self.config.access_log_encoding == Some(AccessLogEncoding::Json)
    }

    /// What lines of the access log hold; `None`: what Istio's own do.
    pub fn log_format(&self) -> Option<LogFormat> {
        let json = self.logs_json();
        // One that cannot be read is told of where the configuration is checked.
        LogFormat::parse(self.config.access_log_format.as_deref()?, json).ok().map(|(format, _)| format)
    }
}

/// The ConfigMaps that may hold the mesh configuration of a pod with these labels, the first that is there counts:
/// `istio-REVISION`, and `istio`.
pub fn document_names(labels: &BTreeMap<String, String>) -> Vec<String> {
    let revision = labels.get(REVISION).filter(|revision| !matches!(revision.as_str(), "" | "default"));
    revision.map(|revision| format!("istio-{revision}")).into_iter().chain(["istio".to_owned()]).collect()
}

/// The mesh configuration of a proxy: that of the revision that its pod names, else `istio`; else a file of its own.
/// A ConfigMap of another namespace never counts: who may write there does not rule the mesh.
pub fn document<'a>(resources: &'a Resources, proxy: &Proxy) -> Option<&'a Object<api::MeshDocument>> {
    let meshes = &resources.meshes;
    let find = |name: &str| meshes.get(&proxy.mesh_namespace, name);
    let file = || meshes.iter().find(|found| found.spec.is_file());
    document_names(&proxy.labels).iter().find_map(|name| find(name)).or_else(file).map(|found| &**found)
}

/// An object that has the annotation [`ANNOTATION`] for a proxy, and its text.
pub(crate) fn annotation(resources: &Resources, proxy: &Proxy) -> Option<(Annotated, String)> {
    let has = |meta: &api::ObjectMeta| meta.annotations.get(ANNOTATION).cloned();
    match &proxy.role {
        Role::Sidecar { namespace, workload } => {
            if let Some(pod) = resources.pods.get(namespace, workload) {
                return Some((Annotated::Pod(pod.clone()), has(&pod.meta)?));
            }
            let deployment = resources.deployments.get(namespace, workload)?;
            Some((Annotated::Template(deployment.clone()), has(&deployment.spec.spec.template.metadata)?))
        }
        // A gateway's pod is known by its labels alone.
        Role::Gateway => {
            let own = |labels: &BTreeMap<String, String>| {
                !proxy.labels.is_empty() && super::compile::selects(&proxy.labels, labels)
            };
            let pods = resources.pods.in_namespace(&proxy.namespace).iter();
            let pod = pods.filter(|pod| own(&pod.meta.labels)).find_map(|pod| Some((pod, has(&pod.meta)?)));
            if let Some((pod, text)) = pod {
                return Some((Annotated::Pod(pod.clone()), text));
            }
            let deployments = resources.deployments.in_namespace(&proxy.namespace).iter();
            let template = |it: &&std::sync::Arc<Object<api::Deployment>>| own(&it.spec.spec.template.metadata.labels);
            let found = deployments.filter(template).find_map(|it| Some((it, has(&it.spec.spec.template.metadata)?)));
            found.map(|(deployment, text)| (Annotated::Template(deployment.clone()), text))
        }
    }
}

/// What carries settings of a proxy.
pub(crate) enum Annotated {
    /// Its pod.
    Pod(std::sync::Arc<Object<api::Pod>>),
    /// What its pod is made from.
    Template(std::sync::Arc<Object<api::Deployment>>),
}

/// The settings in an annotation, as far as they can be read, and what is wrong with them. Fields are named from the
/// settings' own root.
pub(crate) fn read_annotation(text: &str) -> (Option<MeshProxyConfig>, Vec<Finding>) {
    let mut findings = Findings::default();
    let value = match read_yaml(text) {
        Ok(value) => value,
        Err(why) => return (None, vec![Finding::error("", api::check::BAD_VALUE, format!("it is not YAML: {why}"))]),
    };
    if value.is_null() {
        return (Some(MeshProxyConfig::default()), Vec::new());
    }
    let read = mesh_config::read_annotation(&value, &mut findings).filter(|_| !findings.has_errors());
    (read, findings.into_vec())
}

#[cfg(test)]
mod tests;
