//! The flags of `sluice dashboard`.

use std::path::PathBuf;

use clap::Args;

use super::given;
use crate::settings::{self, KubernetesSettings};

/// `sluice dashboard`.
#[derive(Args, Debug)]
pub(crate) struct DashboardFlags {
    /// Admin pages of these running proxies; may be given several times [those of the demos that run here, else
    /// 127.0.0.1:15000]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address, conflicts_with_all = ["demo", "kubernetes"])]
    pub(crate) admin: Vec<settings::Address>,
    /// The state folder of a running demo
    #[arg(long, value_name = "DIR", conflicts_with = "kubernetes")]
    pub(crate) demo: Option<PathBuf>,
    /// The proxies in the pods of a cluster, reached through its API server: that of the pod, of $KUBECONFIG or of ~/.kube/config
    #[arg(long)]
    pub(crate) kubernetes: bool,
    /// With --kubernetes: kubeconfig file to use
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// With --kubernetes: context of the kubeconfig [its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// With --kubernetes: only pods of this namespace [all]
    #[arg(long, value_name = "NS", value_parser = settings::parse_name)]
    pub(crate) namespace: Option<String>,
    /// Port of 127.0.0.1 where the page is [the first free one from 15100 on]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

impl DashboardFlags {
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(super) fn check(self) -> Result<Self, String> {
        self.demo.as_deref().map_or(Ok(()), |folder| given::existing_folder("--demo", folder))?;
        given::existing("--kubeconfig", self.kubeconfig.as_slice())?;
        if !self.kubernetes {
            given::only_with_kubernetes("--kubeconfig", self.kubeconfig.is_some())?;
            given::only_with_kubernetes("--context", self.context.is_some())?;
            given::only_with_kubernetes("--namespace", self.namespace.is_some())?;
        }
        Ok(self)
    }

    /// The API server to ask.
    pub(crate) fn cluster(&self) -> KubernetesSettings {
        let (kubeconfig, context) = (self.kubeconfig.clone(), self.context.clone());
        KubernetesSettings { kubeconfig, context, ..KubernetesSettings::default() }
    }
}
