//! The flags of `sluice certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{given, output::Output};
use crate::settings::{self, KubernetesSettings};

/// `sluice certs`.
#[derive(Args, Debug)]
pub(crate) struct CertsFlags {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: PlaceFlags,
    /// Ask the admin pages of these running gateways; may be given several times [127.0.0.1:15000]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address, conflicts_with_all = ["config", "state_dir", "kubernetes"])]
    admin: Vec<settings::Address>,
    /// How certificates are printed
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    output: Output,
}

/// Where ordered certificates are kept.
#[derive(Args, Debug)]
struct PlaceFlags {
    /// The files or folders that the gateway was started with: its state folder is found by them
    #[arg(long, value_name = "PATH", num_args = 1.., global = true)]
    config: Vec<PathBuf>,
    /// The gateway's state folder
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    /// The Secrets of a Kubernetes API server: that of the pod, of $KUBECONFIG or of ~/.kube/config
    #[arg(long, global = true, conflicts_with_all = ["config", "state_dir"])]
    kubernetes: bool,
    /// With --kubernetes: kubeconfig file to use
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// With --kubernetes: context of the kubeconfig [its current one]
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// Namespace of the gateway
    #[arg(long, value_name = "NS", default_value = "istio-system", global = true, value_parser = settings::parse_name)]
    namespace: String,
    /// With --config: name of the gateway's workload
    #[arg(long, value_name = "NAME", default_value = "istio-ingressgateway", global = true, value_parser = settings::parse_name)]
    name: String,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Order a new certificate now, whatever the plan says
    Renew {
        /// Name of the certificate's Secret
        #[arg(value_name = "SECRET")]
        secret: String,
    },
    /// Revoke a certificate at its CA; a new one with a new key is ordered at once
    Revoke {
        /// Name of the certificate's Secret
        #[arg(value_name = "SECRET")]
        secret: String,
        /// Why; it stands in the CA's lists
        #[arg(long, value_name = "REASON", default_value = "unspecified", value_enum)]
        reason: Reason,
    },
    /// Give an account at a CA a new key
    RotateKey {
        /// The issuer whose account it is
        #[arg(value_name = "ISSUER")]
        issuer: String,
    },
}

/// Why a certificate is revoked (RFC 5280 section 5.3.1), as far as CAs take it from their customers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Reason {
    /// No reason is given.
    Unspecified,
    /// Somebody else may have the key.
    KeyCompromise,
    /// What the certificate says is not right any more.
    AffiliationChanged,
    /// There is a newer one.
    Superseded,
    /// The hosts are not used any more.
    CessationOfOperation,
}

/// `sluice certs`, checked.
#[derive(Debug)]
pub(crate) struct CertsCommand {
    /// `None`: list.
    pub(crate) action: Option<Action>,
    /// Where to look.
    pub(crate) place: Place,
    /// How to print.
    pub(crate) output: Output,
}

/// Where to look for certificates.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Admin pages of running gateways; none = the usual address.
    Admin(Vec<settings::Address>),
    /// A state folder, and the namespace of what is in it.
    Folder(PathBuf, String),
    /// A namespace of an API server.
    Kubernetes(KubernetesSettings, String),
}

impl CertsFlags {
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(super) fn check(self) -> Result<CertsCommand, String> {
        let Self { action, place, admin, output } = self;
        let place = place.check(admin)?;
        if action.is_some() && matches!(place, Place::Admin(_)) {
            return Err("say where the certificates are kept: --config, --state-dir or --kubernetes".to_owned());
        }
        Ok(CertsCommand { action, place, output })
    }
}

impl PlaceFlags {
    fn check(self, admin: Vec<settings::Address>) -> Result<Place, String> {
        given::existing("--kubeconfig", self.kubeconfig.as_slice())?;
        if self.kubernetes {
            let (kubeconfig, context) = (self.kubeconfig, self.context);
            let settings = KubernetesSettings { kubeconfig, context, ..KubernetesSettings::default() };
            return Ok(Place::Kubernetes(settings, self.namespace));
        }
        given::only_with_kubernetes("--kubeconfig", self.kubeconfig.is_some())?;
        given::only_with_kubernetes("--context", self.context.is_some())?;
        if let Some(folder) = self.state_dir {
            given::existing_folder("--state-dir", &folder)?;
            return Ok(Place::Folder(folder, self.namespace));
        }
        if self.config.is_empty() {
            return Ok(Place::Admin(admin));
        }
        given::existing("--config", &self.config)?;
        let folder = settings::state::default_folder(&self.namespace, &self.name, &self.config)
            .ok_or("no home folder is known; name the gateway's state folder with --state-dir")?;
        Ok(Place::Folder(folder, self.namespace))
    }
}
