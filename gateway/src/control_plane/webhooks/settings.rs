//! Where the settings of the injection come from.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use routing::{api::ProxyConfig, injection::Settings, resources::Table};
use tracing::debug;

use crate::{control_plane::settings::ControlSettings, source::bounded};

/// Largest file of values.
const LARGEST: u64 = 1 << 20;

/// The file, and what the cluster says.
pub(super) struct Sources {
    values: Option<PathBuf>,
    revision: Option<String>,
    trust_domain: Option<String>,
    /// YAML of the mesh configuration; empty where there is none.
    pub(super) mesh: String,
    /// What speaks of single namespaces and pods.
    pub(super) proxy_configs: Table<ProxyConfig>,
    /// Minor version of the oldest kubelet.
    pub(super) kubelet: Option<u32>,
}

impl Sources {
    pub(super) fn new(control: &ControlSettings) -> Self {
        Self {
            values: control.injection_values.clone(),
            revision: control.revision.clone(),
            trust_domain: control.trust_domain.clone(),
            mesh: String::new(),
            proxy_configs: Table::default(),
            kubelet: None,
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// They cannot be understood.
    pub(super) fn read(&self) -> Result<Settings> {
        let values = match &self.values {
            None => String::new(),
            Some(path) => {
                let what = || format!("reading --injection-values {}", path.display());
                String::from_utf8(bounded::read(path, LARGEST).with_context(what)?).with_context(what)?
            }
        };
        let (settings, unknown) = Settings::read(&values, &self.mesh).context("the settings of the injection")?;
        unknown.iter().for_each(|sentence| debug!("{sentence}"));
        let settings = settings.with_kubelet(self.kubelet).with_trust_domain(self.trust_domain.clone());
        let mut settings = settings.with_proxy_configs(self.proxy_configs.clone());
        if let Some(revision) = &self.revision {
            settings.revision.clone_from(revision);
        }
        Ok(settings)
    }
}
