//! Istio `AuthorizationPolicy` (security.istio.io).

use schemars::JsonSchema;
use serde::Deserialize;

use super::destination_rule::LabelSelector;
use super::target_reference::TargetReference;

/// Istio `AuthorizationPolicy`: who may do what at workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthorizationPolicy {
    /// The workloads; all of the namespace when unset, all of the mesh in the root namespace.
    pub selector: Option<LabelSelector>,
    /// One of them has to match. Without any, nothing matches: an ALLOW policy then allows nothing.
    pub rules: Vec<Rule>,
    /// What becomes of a request that matches.
    pub action: Action,
    /// Who is asked; with CUSTOM only.
    pub provider: Option<ExtensionProvider>,
    /// What it is attached to, instead of a selector; `targetRefs` replaces it.
    pub target_ref: Option<TargetReference>,
    /// What it is attached to, instead of a selector.
    pub target_refs: Vec<TargetReference>,
}

impl AuthorizationPolicy {
    /// What it is attached to, in either spelling.
    pub fn targets(&self) -> impl Iterator<Item = &TargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

/// Istio `AuthorizationPolicy.Action`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// It is allowed, and what no such policy allows is denied.
    #[default]
    Allow,
    /// It is denied.
    Deny,
    /// It is counted and told in the log, and nothing else.
    Audit,
    /// Somebody else is asked.
    Custom,
}

impl Action {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom => "CUSTOM",
        }
    }
}

/// Istio `AuthorizationPolicy.ExtensionProvider`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtensionProvider {
    /// One of the mesh configuration's `extensionProviders`.
    pub name: String,
}

/// Istio `Rule`: it matches when one of `from`, one of `to` and all of `when` do. What is unset matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// Who asks; one of them.
    pub from: Option<Vec<From>>,
    /// What for; one of them.
    pub to: Option<Vec<To>>,
    /// Under which conditions; all of them.
    pub when: Vec<Condition>,
}

/// Istio `Rule.From`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct From {
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub source: Option<Source>,
}

/// Istio `Rule.To`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct To {
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub operation: Option<Operation>,
}

/// Istio `Source`: all fields that are set have to match, by one of their values; `not...` by none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Source {
    /// Identities, as `cluster.local/ns/NAMESPACE/sa/ACCOUNT`.
    pub principals: Vec<String>,
    /// None of these identities.
    pub not_principals: Vec<String>,
    /// Subjects of tokens, as `ISSUER/SUBJECT`.
    pub request_principals: Vec<String>,
    /// None of these subjects of tokens.
    pub not_request_principals: Vec<String>,
    /// Namespaces of identities.
    pub namespaces: Vec<String>,
    /// None of these namespaces.
    pub not_namespaces: Vec<String>,
    /// Addresses or CIDR blocks that packets come from.
    pub ip_blocks: Vec<String>,
    /// None of these.
    pub not_ip_blocks: Vec<String>,
    /// Addresses or CIDR blocks of the client behind trusted proxies.
    pub remote_ip_blocks: Vec<String>,
    /// None of these.
    pub not_remote_ip_blocks: Vec<String>,
    /// Service accounts of identities, as `NAMESPACE/ACCOUNT`, or `ACCOUNT` in the policy's own namespace.
    pub service_accounts: Vec<String>,
    /// None of these service accounts.
    pub not_service_accounts: Vec<String>,
    /// Trust domains of identities.
    pub trust_domains: Vec<String>,
    /// None of these trust domains.
    pub not_trust_domains: Vec<String>,
}

/// Istio `Operation`: all fields that are set have to match, by one of their values; `not...` by none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Operation {
    /// Hosts in any case, with the port where the client writes one.
    pub hosts: Vec<String>,
    /// None of these hosts.
    pub not_hosts: Vec<String>,
    /// Ports of the workload, as text.
    pub ports: Vec<String>,
    /// None of these ports.
    pub not_ports: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// None of these methods.
    pub not_methods: Vec<String>,
    /// Paths without query, perhaps with `{*}` and `{**}` as segments.
    pub paths: Vec<String>,
    /// None of these paths.
    pub not_paths: Vec<String>,
}

/// Istio `Condition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// What is looked at, as `request.headers[x-version]`. Required.
    #[schemars(extend("x-required" = true))]
    pub key: String,
    /// One of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}

/// One field of a source or an operation: its key, as conditions write it, its name, and its values.
pub type Field<'a> = (Key<'static>, &'static str, &'a [String]);

impl Source {
    /// Fields and their opposites.
    pub fn fields(&self) -> [(Field<'_>, Field<'_>); 7] {
        [
            pair(Key::SourcePrincipal, "principals", &self.principals, "notPrincipals", &self.not_principals),
            pair(
                Key::RequestPrincipal,
                "requestPrincipals",
                &self.request_principals,
                "notRequestPrincipals",
                &self.not_request_principals,
            ),
            pair(Key::SourceNamespace, "namespaces", &self.namespaces, "notNamespaces", &self.not_namespaces),
            pair(Key::SourceIp, "ipBlocks", &self.ip_blocks, "notIpBlocks", &self.not_ip_blocks),
            pair(
                Key::RemoteIp,
                "remoteIpBlocks",
                &self.remote_ip_blocks,
                "notRemoteIpBlocks",
                &self.not_remote_ip_blocks,
            ),
            pair(
                Key::SourceServiceAccount,
                "serviceAccounts",
                &self.service_accounts,
                "notServiceAccounts",
                &self.not_service_accounts,
            ),
            pair(
                Key::SourceTrustDomain,
                "trustDomains",
                &self.trust_domains,
                "notTrustDomains",
                &self.not_trust_domains,
            ),
        ]
    }
}

impl Operation {
    /// Fields and their opposites.
    pub fn fields(&self) -> [(Field<'_>, Field<'_>); 4] {
        [
            pair(Key::Host, "hosts", &self.hosts, "notHosts", &self.not_hosts),
            pair(Key::DestinationPort, "ports", &self.ports, "notPorts", &self.not_ports),
            pair(Key::Method, "methods", &self.methods, "notMethods", &self.not_methods),
            pair(Key::Path, "paths", &self.paths, "notPaths", &self.not_paths),
        ]
    }
}

fn pair<'a>(
    key: Key<'static>,
    field: &'static str,
    values: &'a [String],
    not_field: &'static str,
    not_values: &'a [String],
) -> (Field<'a>, Field<'a>) {
    ((key, field, values), (key, not_field, not_values))
}

/// What a condition, or a field of a source or an operation, looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key<'k> {
    /// `source.principal`, `principals`.
    SourcePrincipal,
    /// `source.namespace`, `namespaces`.
    SourceNamespace,
    /// `source.serviceAccount`, `serviceAccounts`.
    SourceServiceAccount,
    /// `source.trustDomain`, `trustDomains`.
    SourceTrustDomain,
    /// `source.ip`, `ipBlocks`.
    SourceIp,
    /// `remote.ip`, `remoteIpBlocks`.
    RemoteIp,
    /// `request.auth.principal`, `requestPrincipals`.
    RequestPrincipal,
    /// `request.auth.audiences`.
    Audiences,
    /// `request.auth.presenter`.
    Presenter,
    /// `request.auth.claims[a][b]`: what stands behind `claims`.
    Claims(&'k str),
    /// `request.headers[x]`: what stands in the brackets.
    Header(&'k str),
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`, `ports`.
    DestinationPort,
    /// `connection.sni`.
    Sni,
    /// `hosts`.
    Host,
    /// `methods`.
    Method,
    /// `paths`.
    Path,
    /// `experimental.envoy.filters...`: what Envoy's filters say, which nobody here does.
    EnvoyMetadata,
}

impl<'k> Key<'k> {
    /// Of a condition.
    ///
    /// # Errors
    /// What is wrong with the key, and what would be right.
    pub fn of_condition(key: &'k str) -> Result<Self, String> {
        const KNOWN: [(&str, Key<'static>); 12] = [
            ("source.ip", Key::SourceIp),
            ("source.namespace", Key::SourceNamespace),
            ("source.principal", Key::SourcePrincipal),
            ("source.serviceAccount", Key::SourceServiceAccount),
            ("source.trustDomain", Key::SourceTrustDomain),
            ("remote.ip", Key::RemoteIp),
            ("request.auth.principal", Key::RequestPrincipal),
            ("request.auth.audiences", Key::Audiences),
            ("request.auth.presenter", Key::Presenter),
            ("destination.ip", Key::DestinationIp),
            ("destination.port", Key::DestinationPort),
            ("connection.sni", Key::Sni),
        ];
        if let Some((_, known)) = KNOWN.iter().find(|(name, _)| *name == key) {
            return Ok(*known);
        }
        if let Some(rest) = key.strip_prefix("request.headers") {
            return bracketed(rest).filter(|name| !name.contains(['[', ']'])).map(Key::Header).ok_or_else(|| {
                format!("`{key}` names no header; write it in brackets, as `request.headers[x-version]`")
            });
        }
        if let Some(rest) = key.strip_prefix("request.auth.claims") {
            let good = bracketed(rest).is_some_and(|inner| inner.split("][").all(|name| !name.is_empty()));
            return good.then_some(Key::Claims(rest)).ok_or_else(|| {
                format!("`{key}` names no claim; write it in brackets, as `request.auth.claims[groups]`")
            });
        }
        if key.starts_with("experimental.envoy.filters.") {
            return Ok(Key::EnvoyMetadata);
        }
        Err(match key {
            "" => "the key is empty; write what is looked at, as `request.headers[x-version]`".to_owned(),
            "destination.namespace" => {
                "`destination.namespace` is not looked at; a policy holds in its own `metadata.namespace`".to_owned()
            }
            "destination.name" | "destination.user" => format!("`{key}` is no longer looked at; use `selector`"),
            _ if key.starts_with("destination.labels") => {
                format!("`{key}` is not looked at; write the labels into `selector.matchLabels`")
            }
            _ => {
                let names: Vec<&'static str> = KNOWN
                    .iter()
                    .map(|(name, _)| *name)
                    .chain(["request.headers[NAME]", "request.auth.claims[NAME]"])
                    .collect();
                format!("there is no attribute `{key}`; the keys are {}", names.join(", "))
            }
        })
    }

    /// Whether bytes that nobody looks into have it not.
    pub fn is_http_only(self) -> bool {
        matches!(
            self,
            Self::RequestPrincipal
                | Self::Audiences
                | Self::Presenter
                | Self::Claims(_)
                | Self::Header(_)
                | Self::Host
                | Self::Method
                | Self::Path
        )
    }

    /// Whether it is only known after identities and tokens were looked at, which is too late for CUSTOM.
    pub fn is_of_identity(self) -> bool {
        matches!(
            self,
            Self::SourcePrincipal
                | Self::SourceNamespace
                | Self::SourceServiceAccount
                | Self::SourceTrustDomain
                | Self::RequestPrincipal
                | Self::Audiences
                | Self::Presenter
                | Self::Claims(_)
        )
    }
}

/// What stands in one pair of brackets, or in several: `a`, `a][b`.
fn bracketed(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']').filter(|inner| !inner.is_empty())
}
