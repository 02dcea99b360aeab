//! Three small HTTP servers on the control runtime: readiness (`--status`), metrics (`--stats`) and the admin pages
//! (`--admin`). They read the proxy through [`View`] and never touch the data path.

pub(crate) mod answers;
mod clusters_text;
mod door;
pub(crate) mod page;
mod pages;
pub(crate) mod schema;
mod scrapes;
mod server;
pub(crate) mod tell;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use clusters_text::clusters_text;
pub(crate) use pages::figures as metrics_text;
use routing::explain::{Explanation, Question};
use schema::{listeners::Listeners, overview::Proxy, problems::Problems, routes::Routes};
pub(crate) use server::{Pages, Servers, serve_pages};

use crate::{
    settings::AdminPeers,
    telemetry::{ca::CaMetrics, log::LogLevel, metrics::Metrics},
};

/// What the admin servers may know of the proxy, and the two things they may ask of it.
pub(crate) trait View: Send + Sync + 'static {
    /// Whether traffic should be sent here: not before the first configuration is applied, and not while draining.
    fn readiness(&self) -> Readiness;

    /// What is installed and what was wrong with it; usually [`tell::dump`]. Never holds keys.
    fn config_dump(&self) -> serde_json::Value;

    /// Every cluster with its endpoints, for people; usually [`clusters_text`].
    fn clusters(&self) -> String;

    /// The same, for programs.
    fn cluster_list(&self) -> schema::clusters::Clusters {
        schema::clusters::Clusters { clusters: Vec::new() }
    }

    /// Where connections are taken.
    fn listeners(&self) -> Listeners {
        Listeners { listeners: Vec::new(), failures: Vec::new() }
    }

    /// What the page shows, but for what is counted.
    fn summary(&self) -> Proxy;

    /// Routes that have this text somewhere, from this one on.
    fn routes(&self, _wanted: &str, _from: usize) -> Routes {
        Routes { generation: 0, tables: Vec::new(), found: 0, left_out: 0 }
    }

    /// Problems of the configuration that have this text somewhere, from this one on.
    fn problems(&self, wanted: &str, from: usize) -> Problems {
        tell::problems(&[], 0, (wanted, from))
    }

    /// What would happen to a request; `None`: this process serves none.
    fn explain(&self, _question: &Question) -> Option<Explanation> {
        None
    }

    /// What is counted for limits of clusters, as [`Metrics::set_limits`] takes it.
    fn limits(&self) -> Vec<(Arc<str>, &'static str, u32, u64)> {
        Vec::new()
    }

    /// What is counted for rate limits, as [`Metrics::set_rate_limits`] takes it.
    fn rate_limits(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        Vec::new()
    }

    /// How many endpoints of a cluster are ejected, as [`Metrics::set_ejected`] takes it.
    fn ejected(&self) -> Vec<(Arc<str>, usize)> {
        Vec::new()
    }

    /// The certificates in use: names, what they are for, when they end. Never holds keys.
    fn certificates(&self) -> serde_json::Value;

    /// Begins to drain, as SIGTERM does, without ending the process.
    fn drain(&self);

    /// Drains and ends the process, as SIGTERM does.
    fn quit(&self);
}

/// The answer of `/healthz/ready`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Readiness {
    /// 200.
    Ready,
    /// 200, with what is not as it should be all the same.
    ReadyBut(String),
    /// 503, with a sentence that says what is waited for.
    NotReady(String),
}

/// What a process counts.
pub(crate) enum Figures {
    /// A proxy.
    Proxy(Arc<Metrics>),
    /// The mesh's CA.
    Ca(Arc<CaMetrics>),
}

/// What the pages are made of.
pub(crate) struct Admin {
    /// The proxy.
    pub(crate) view: Arc<dyn View>,
    /// What it counts.
    pub(crate) figures: Figures,
    /// Its log; `None` where logging cannot be changed.
    pub(crate) log: Option<LogLevel>,
    /// Who may ask.
    pub(crate) peers: AdminPeers,
}
