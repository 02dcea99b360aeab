//! Which API server, and how long it may be silent.

use std::time::Duration;

use anyhow::{Context as _, Result};
pub(crate) use kube::Client;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::settings::KubernetesSettings;

/// Longest wait for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one watch lasts; then it is asked for again from where it ended. A connection that died in silence is noticed
/// 15 s later.
pub(super) const WATCH_SECONDS: u32 = 120;
/// Longest silence of the API server, in an answer or before it. Longer than a watch, which may have nothing to tell.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 15);

/// A client for the API server that the settings name. Does not talk to it yet.
///
/// # Errors
/// No API server can be found, or the kubeconfig is wrong.
pub(crate) async fn connect(settings: &KubernetesSettings) -> Result<Client> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match (&settings.kubeconfig, &settings.context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .with_context(|| format!("using the kubeconfig {}", path.display()))?
        }
        (None, Some(name)) => Config::from_kubeconfig(&options)
            .await
            .with_context(|| format!("using context `{name}` of the kubeconfig"))?,
        (None, None) => Config::infer()
            .await
            .context("finding the API server; run in a pod, set KUBECONFIG, or name a file with --kubeconfig")?,
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).context("preparing the connection to the API server")
}
