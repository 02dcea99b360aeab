//! From flags to settings, with every default applied.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use routing::api::ending::Ending;

use super::{
    CommonFlags, GatewayFlags, SidecarFlags, SourceFlags,
    given::{existing, existing_folder, only_with_kubernetes},
};
use crate::net::everywhere::any;
use crate::settings::{
    GATEWAY, IdentitySettings, KubernetesSettings, RoleSettings, Settings, SourceSettings, WorkloadName,
    downward::Downward, parse_share, parse_trust_domain, state,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl SourceSettings {
    /// From flags.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(crate) fn new(flags: SourceFlags) -> Result<Self, String> {
        if flags.kubernetes {
            existing("--kubeconfig", flags.kubeconfig.as_slice())?;
            let (kubeconfig, context) = (flags.kubeconfig, flags.context);
            return Ok(Self::Kubernetes(KubernetesSettings {
                kubeconfig,
                context,
                write_status: false,
                leases: false,
            }));
        }
        only_with_kubernetes("--kubeconfig", flags.kubeconfig.is_some())?;
        only_with_kubernetes("--context", flags.context.is_some())?;
        existing("--config", &flags.config)?;
        Ok(Self::Files(flags.config))
    }
}

impl Settings {
    /// Of `sluice gateway`.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(crate) fn gateway(flags: GatewayFlags) -> Result<Self, String> {
        let defaults = Defaults {
            role: RoleSettings::Gateway,
            name: GATEWAY[0].to_owned(),
            namespace: GATEWAY[1].to_owned(),
            service_account: "istio-ingressgateway".to_owned(),
        };
        if let Some(hooks) = &flags.acme_hooks {
            existing_folder("--acme-hooks", hooks)?;
        }
        let mut settings = Self { acme_hooks: flags.acme_hooks, ..Self::new(flags.common, defaults)? };
        if let Some(ranges) = flags.proxy_protocol_from {
            settings.balancers = ranges.0;
        }
        match &mut settings.source {
            SourceSettings::Kubernetes(kubernetes) => {
                kubernetes.leases = flags.leases.unwrap_or(true);
                if flags.write_status == Some(true) && !kubernetes.leases {
                    return Err(
                        "--write-status true is the work of an elected replica; leave --leases false out".to_owned()
                    );
                }
                kubernetes.write_status = flags.write_status.unwrap_or(kubernetes.leases);
            }
            SourceSettings::Files(paths) => {
                only_with_kubernetes("--write-status", flags.write_status.is_some())?;
                only_with_kubernetes("--leases", flags.leases.is_some())?;
                settings.state_dir =
                    flags.state_dir.or_else(|| state::default_folder(&settings.namespace, &settings.name, paths));
            }
        }
        Ok(settings)
    }

    /// Of `sluice sidecar`.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(crate) fn sidecar(flags: SidecarFlags) -> Result<Self, String> {
        let bind = flags.common.bind;
        let WorkloadName { namespace, name } = flags.workload;
        let defaults = Defaults {
            name: name.clone(),
            namespace: namespace.clone(),
            service_account: String::new(),
            role: RoleSettings::Sidecar {
                namespace,
                workload: name,
                app_address: flags.app_address,
                inbound: flags.inbound.map(|it| it.or(bind)),
                outbound: flags.outbound.map(|it| it.or(LOOPBACK)),
            },
        };
        let probes = flags.probes.map(|it| it.or(any()));
        Ok(Self { probes, ..Self::new(flags.common, defaults)? })
    }

    fn new(flags: CommonFlags, defaults: Defaults) -> Result<Self, String> {
        let source = SourceSettings::new(flags.source)?;
        let pod = match &source {
            SourceSettings::Files(_) => Downward::default(),
            SourceSettings::Kubernetes(_) => Downward::read()?,
        };
        let ending = Ending::read(|name| std::env::var(name).ok())?;
        if let Some(dir) = &flags.identity.identity_dir {
            existing_folder("--identity-dir", dir)?;
        }
        existing("--jwks-ca", flags.jwks_ca.as_slice())?;
        let identity = IdentitySettings::new(flags.identity, &pod)?;
        let of_pod = pod.trust_domain.as_deref().map(parse_trust_domain).transpose();
        let of_pod = of_pod.map_err(|sentence| format!("TRUST_DOMAIN is none: {sentence}"))?;
        Ok(Self {
            role: defaults.role,
            source,
            name: flags.name.or(pod.workload).unwrap_or(defaults.name),
            namespace: flags.namespace.or(pod.namespace).unwrap_or(defaults.namespace),
            labels: flags.labels.map(|it| it.0).or(pod.labels),
            service_account: flags.service_account.or(pod.service_account).unwrap_or(defaults.service_account),
            locality: flags.locality,
            network: flags.network,
            cluster: pod.cluster.unwrap_or_default().into(),
            jwks_ca: flags.jwks_ca,
            trust_domain: flags.trust_domain.or(of_pod),
            identity,
            bind: flags.bind,
            port_map: flags.port_map.map(|it| it.0).unwrap_or_default(),
            admin: flags.admin.map_or(SocketAddr::new(LOOPBACK, 15000), |it| it.or(LOOPBACK)),
            admin_peers: flags.admin_peers,
            status: flags.status.map_or(SocketAddr::new(any(), 15021), |it| it.or(any())),
            stats: flags.stats.map_or(SocketAddr::new(any(), 15090), |it| it.or(any())),
            probes: None,
            workers: flags.workers.unwrap_or_else(cores),
            access_log: flags.access_log,
            trace_share: flags.trace_sampling.or(trace_share()?),
            drain_time: flags.drain_time,
            drain_delay: flags.drain_delay.or(ending.delay),
            ending,
            memory_limit: flags.memory_limit.or_else(crate::overload::granted),
            connections: flags.connections,
            listener_connections: flags.listener_connections,
            connection_age: flags.connection_age,
            state_dir: None,
            acme_hooks: None,
            balancers: crate::settings::private_ranges(),
            pod_uid: pod.uid.filter(|_| pod.name.is_some()),
            replica: pod.name.unwrap_or_else(|| format!("sluice-{:016x}", fastrand::u64(..))),
        })
    }
}

/// Istio's variable for the share of requests that are traced.
fn trace_share() -> Result<Option<u32>, String> {
    const VARIABLE: &str = "PILOT_TRACE_SAMPLING";
    let given = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let read = |text: String| {
        parse_share(text.trim()).map_err(|sentence| format!("{VARIABLE} cannot be `{text}`: {sentence}"))
    };
    given.map(read).transpose()
}

/// What differs between the roles when a flag is not given.
struct Defaults {
    role: RoleSettings,
    name: String,
    namespace: String,
    service_account: String,
}

/// Cores this process may use, which a container's CPU limit lowers.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
