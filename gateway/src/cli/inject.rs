//! The flags of `sluice inject`.

use std::path::PathBuf;

use clap::Args;

use super::given;

/// `sluice inject`.
#[derive(Args, Debug)]
pub(crate) struct InjectFlags {
    /// File of YAML or JSON whose pods get a sidecar; - reads from stdin. May be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// YAML with values of the chart sluice-control, which are named as Istio's: image, resources, what is captured
    #[arg(long, value_name = "FILE")]
    pub(crate) values: Option<PathBuf>,
    /// Files or folders with ProxyConfigs, which hold for the pods; those in the files of -f hold, too
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) config: Vec<PathBuf>,
    /// YAML of the mesh configuration: trustDomain, defaultConfig, enablePrometheusMerge
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// Revision of the control plane [the values', else default]
    #[arg(long, value_name = "NAME")]
    pub(crate) revision: Option<String>,
    /// Write here, and not to stdout
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

impl InjectFlags {
    /// Whether what is named is there.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(super) fn check(self) -> Result<Self, String> {
        let files: Vec<PathBuf> = self.files.iter().filter(|it| it.as_os_str() != "-").cloned().collect();
        given::existing("-f", &files)?;
        given::existing("--config", &self.config)?;
        given::existing("--values", self.values.as_slice())?;
        given::existing("--mesh-config", self.mesh_config.as_slice())?;
        Ok(self)
    }
}
