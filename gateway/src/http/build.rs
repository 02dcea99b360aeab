//! Obtains pingora's request engine with our connector inside, and without its server around it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use pingora::{
    apps::HttpServerOptions,
    connectors::ConnectorOptions,
    proxy::{HttpProxy, ProxyServiceBuilder},
    server::configuration::ServerConf,
    services::Service as _,
};
use tokio::{
    net::UnixStream,
    sync::{oneshot, watch},
};

use super::proxy::SluiceProxy;
use crate::upstream::connector::Connector;

/// pingora's engine, driven by our hooks, connecting through our connector.
pub(crate) type Engine = HttpProxy<SluiceProxy, Connector>;

/// Connections kept per worker, over all endpoints.
const KEPT: usize = 4096;
/// Bound on pingora's own loop over tries; how many there really are is decided per route.
const TRIES: usize = 64;

/// Builds the engine of one worker.
///
/// pingora hands out an engine with a connector of ours only to the callback of a running service, so one is started
/// on a private Unix socket, asked once, and stopped again.
///
/// # Errors
/// When the temporary folder cannot be written.
pub(crate) async fn engine(hooks: SluiceProxy, connector: Connector) -> Result<Arc<Engine>> {
    let folder = PrivateFolder::create()?;
    let socket = folder.0.join("engine.sock");
    let no_roots = folder.0.join("none.pem");
    std::fs::write(&no_roots, "").context("writing the temporary folder")?;

    let conf = Arc::new(ServerConf { threads: 1, max_retries: TRIES, ..ServerConf::default() });
    let mut client = ConnectorOptions::new(KEPT);
    // pingora's own TLS is never used; without this it would read the system's roots twice per worker.
    client.ca_file = Some(no_roots.to_string_lossy().into_owned());
    let mut options = HttpServerOptions::default();
    options.force_custom = true;

    let (give, take) = oneshot::channel();
    let give = Mutex::new(Some(give));
    let mut service = ProxyServiceBuilder::new(&conf, hooks)
        .server_options(options)
        .client_options(client)
        .custom(
            connector,
            Arc::new(move |engine, _, _| {
                if let Some(give) = give.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    // The receiver waits below for as long as the service runs.
                    let _ = give.send(engine);
                }
                Box::pin(async { None })
            }),
        )
        .build();
    service.add_uds(&socket.to_string_lossy(), None);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(async move { service.start_service(None, stopped, 1).await });

    let asked = tokio::time::timeout(Duration::from_secs(10), async {
        while UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        take.await
    });
    let engine = asked.await.context("the request engine did not start")?.context("the request engine stopped")?;
    stop.send_replace(true);
    running.abort();
    Ok(engine)
}

/// A folder that only this user can enter, removed in the end.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn create() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("sluice-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("creating {}; set TMPDIR to a folder that can be written", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
