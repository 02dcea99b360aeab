//! `sluice init`: the kernel's rules by which a pod's connections go through its sidecar.
//!
//! ```text
//! flags, environment -> Capture -> plan: one list of rules per family -> iptables-restore text, or nft text -> kernel
//! ```

pub(crate) mod apply;
mod backend;
mod iptables;
mod loopback;
mod nftables;
mod plan;
mod program;
mod system;

use ipnet::IpNet;

/// What is captured, and what is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Capture {
    /// Where connections of the application are led.
    pub(crate) outbound_port: u16,
    /// Where connections to the application are led.
    pub(crate) inbound_port: u16,
    /// Istio's tunnel (HBONE), which is let through.
    pub(crate) tunnel_port: u16,
    /// Users that the proxy runs as.
    pub(crate) uids: Vec<u32>,
    /// Groups that the proxy runs as.
    pub(crate) gids: Vec<u32>,
    /// Ports of the application.
    pub(crate) inbound: Selection<u16>,
    /// Those that are let through; only with all of them.
    pub(crate) not_inbound: Vec<u16>,
    /// Ports that are captured whatever the address.
    pub(crate) outbound_ports: Vec<u16>,
    /// Ports that are let through whatever the address.
    pub(crate) not_outbound: Vec<u16>,
    /// Addresses that are captured.
    pub(crate) ranges: Selection<IpNet>,
    /// Addresses that are let through.
    pub(crate) not_ranges: Vec<IpNet>,
    /// Interfaces of virtual machines, whose connections are the application's.
    pub(crate) virtual_interfaces: Vec<String>,
    /// Interfaces that are left alone.
    pub(crate) not_interfaces: Vec<String>,
    /// Whose connections are captured, by group.
    pub(crate) groups: Groups,
    /// Whether packets that belong to no connection are dropped, where the kernel would reset it.
    pub(crate) drop_invalid: bool,
}

/// All, or some.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Selection<T> {
    /// `*`.
    All,
    /// These; none of them is none at all.
    These(Vec<T>),
}

/// Groups of the application's processes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Groups {
    /// All but these.
    AllBut(Vec<u32>),
    /// These only.
    Only(Vec<u32>),
}

/// What to do with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Orders {
    /// The rules.
    pub(crate) capture: Capture,
    /// By which means.
    pub(crate) means: Means,
    /// Print them and change nothing.
    pub(crate) dry_run: bool,
    /// Take them away.
    pub(crate) clean: bool,
    /// What was asked for and is not done, to be said.
    pub(crate) remarks: Vec<String>,
}

/// `--backend`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Means {
    /// What is installed and works: iptables before nftables.
    #[default]
    Auto,
    /// iptables-restore and ip6tables-restore.
    Iptables,
    /// nft.
    Nftables,
}

/// Of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Whether a network is of this family.
    fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}
