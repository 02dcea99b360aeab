//! What `sluice status` can do but list.

use clap::Subcommand;

use crate::settings;

/// What `sluice status` can do but list.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub(crate) enum StatusAction {
    /// Take a gateway's conditions off all objects, because it goes for good: the chart does it before `helm uninstall`
    Withdraw {
        /// The gateway's Deployment or DaemonSet [$WORKLOAD_NAME, istio-ingressgateway]; its namespace is --namespace
        /// [that of the pod, istio-system]
        #[arg(long, value_name = "NAME", value_parser = settings::parse_name)]
        name: Option<String>,
    },
    /// Wait until a proxy of this machine is ready; runs in its container, so that the application starts after it
    Wait {
        /// Longest wait; then the exit code is 1
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = settings::parse_duration)]
        limit: std::time::Duration,
        /// Its admin pages [127.0.0.1:15000]
        #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
        admin: Option<settings::Address>,
    },
    /// Tell a proxy of this machine that its pod ends: not ready any more, answers end their connections
    Drain {
        /// Its admin pages [127.0.0.1:15000]
        #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
        admin: Option<settings::Address>,
    },
}
