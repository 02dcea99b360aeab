//! The flags of `sluice init`: Istio's, with Istio's variables of the environment.

use clap::Args;
use ipnet::IpNet;

use crate::{
    capture::{Capture, Groups, Means, Orders, Selection},
    settings,
};

/// What is never captured on the way in: readiness, metrics, and probes of the application.
const OWN_PORTS: [u16; 3] = [15090, 15021, 15020];

/// `sluice init`.
#[derive(Args, Debug, Default)]
pub(crate) struct InitFlags {
    /// The sidecar's outbound side [$ENVOY_PORT, 15001]
    #[arg(short = 'p', long, value_name = "PORT")]
    pub(crate) envoy_port: Option<String>,
    /// The sidecar's inbound side [$INBOUND_CAPTURE_PORT, 15006]
    #[arg(short = 'z', long, value_name = "PORT")]
    pub(crate) inbound_capture_port: Option<String>,
    /// Port of Istio's tunnel, which is let through [$INBOUND_TUNNEL_PORT, 15008]
    #[arg(short = 'e', long, value_name = "PORT")]
    pub(crate) inbound_tunnel_port: Option<String>,
    /// Users that the sidecar runs as, by number: their connections are let through [$PROXY_UID, 1337]
    #[arg(short = 'u', long, value_name = "UID,...")]
    pub(crate) proxy_uid: Option<String>,
    /// Groups that the sidecar runs as, by number [$PROXY_GID, as --proxy-uid]
    #[arg(short = 'g', long, value_name = "GID,...")]
    pub(crate) proxy_gid: Option<String>,
    /// REDIRECT; there is no TPROXY [$ISTIO_INBOUND_INTERCEPTION_MODE]
    #[arg(short = 'm', long, value_name = "MODE")]
    pub(crate) istio_inbound_interception_mode: Option<String>,
    /// Ports of the application that are captured; "" for none [$ISTIO_INBOUND_PORTS, *]
    #[arg(short = 'b', long, value_name = "PORT,...")]
    pub(crate) istio_inbound_ports: Option<String>,
    /// With all ports: those that are let through, besides 15020, 15021 and 15090 [$ISTIO_LOCAL_EXCLUDE_PORTS]
    #[arg(short = 'd', long, value_name = "PORT,...")]
    pub(crate) istio_local_exclude_ports: Option<String>,
    /// Ports to which connections are captured whatever their address, or * [$ISTIO_OUTBOUND_PORTS]
    #[arg(short = 'q', long, value_name = "PORT,...")]
    pub(crate) istio_outbound_ports: Option<String>,
    /// Ports to which connections are let through [$ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE]
    #[arg(short = 'o', long, value_name = "PORT,...")]
    pub(crate) istio_local_outbound_ports_exclude: Option<String>,
    /// Networks to which connections are captured; "" for none [$ISTIO_SERVICE_CIDR, *]
    #[arg(short = 'i', long, value_name = "CIDR,...")]
    pub(crate) istio_service_cidr: Option<String>,
    /// Networks to which connections are let through [$ISTIO_SERVICE_EXCLUDE_CIDR]
    #[arg(short = 'x', long, value_name = "CIDR,...")]
    pub(crate) istio_service_exclude_cidr: Option<String>,
    /// Interfaces of virtual machines: what comes from them is outbound [$KUBE_VIRT_INTERFACES]
    #[arg(short = 'k', long, value_name = "NAME,...")]
    pub(crate) kube_virt_interfaces: Option<String>,
    /// Interfaces that are left alone [$ISTIO_EXCLUDE_INTERFACES]
    #[arg(short = 'c', long, value_name = "NAME,...")]
    pub(crate) istio_exclude_interfaces: Option<String>,
    /// Drop packets that belong to no connection, which the kernel would answer with a reset [$INVALID_DROP]
    #[arg(long)]
    pub(crate) drop_invalid: bool,
    /// How rules are given to the kernel
    #[arg(long, value_name = "MEANS", default_value = "auto", value_enum)]
    pub(crate) backend: Means,
    /// Print the rules, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Take away the rules that this command has set, and nothing else
    #[arg(long, alias = "cleanup-only")]
    pub(crate) clean: bool,
}

/// Where a value comes from: a flag, a variable.
struct Given {
    name: String,
    text: String,
}

impl InitFlags {
    /// What is to be done. `environment` looks a variable up.
    ///
    /// # Errors
    /// One sentence about the flag or the variable that is wrong.
    pub(crate) fn orders(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Orders, String> {
        let (means, clean) = (self.backend, self.clean || is_true("CLEANUP_ONLY", environment)?);
        let dry_run = self.dry_run || is_true("DRY_RUN", environment)?;
        let mut remarks = Vec::new();
        for name in ["ISTIO_META_DNS_CAPTURE", "REDIRECT_DNS"] {
            if is_true(name, environment)? {
                remarks.push(format!(
                    "{name} asks for DNS to be captured: it is not, and goes where the pod's resolver says"
                ));
            }
        }
        Ok(Orders { capture: self.capture(environment)?, means, dry_run, clean, remarks })
    }

    fn capture(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Capture, String> {
        let given = |flag: &str, value: Option<String>, variable: &str, default: &str| {
            let (name, text) = match (value, environment(variable)) {
                (Some(text), _) => (flag.to_owned(), text),
                (None, Some(text)) => (variable.to_owned(), text),
                (None, None) => (flag.to_owned(), default.to_owned()),
            };
            Given { name, text }
        };
        given("-m", self.istio_inbound_interception_mode, "ISTIO_INBOUND_INTERCEPTION_MODE", "REDIRECT").mode()?;
        let uids = given("-u", self.proxy_uid, "PROXY_UID", "1337").some(number)?;
        let as_user = uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut not_inbound = OWN_PORTS.to_vec();
        let more = given("-d", self.istio_local_exclude_ports, "ISTIO_LOCAL_EXCLUDE_PORTS", "").list(port)?;
        let outbound_ports = given("-q", self.istio_outbound_ports, "ISTIO_OUTBOUND_PORTS", "").selection(port)?;
        let ranges = given("-i", self.istio_service_cidr, "ISTIO_SERVICE_CIDR", "*").selection(network)?;
        // Every port whatever the address is every address.
        let (outbound_ports, ranges) = match outbound_ports {
            Selection::All => (Vec::new(), Selection::All),
            Selection::These(ports) => (ports, ranges),
        };
        not_inbound.extend(more.into_iter().filter(|port| !OWN_PORTS.contains(port)));
        Ok(Capture {
            outbound_port: given("-p", self.envoy_port, "ENVOY_PORT", "15001").one(port)?,
            inbound_port: given("-z", self.inbound_capture_port, "INBOUND_CAPTURE_PORT", "15006").one(port)?,
            tunnel_port: given("-e", self.inbound_tunnel_port, "INBOUND_TUNNEL_PORT", "15008").one(port)?,
            gids: given("-g", self.proxy_gid, "PROXY_GID", &as_user).some(number)?,
            uids,
            inbound: given("-b", self.istio_inbound_ports, "ISTIO_INBOUND_PORTS", "*").selection(port)?,
            not_inbound,
            outbound_ports,
            not_outbound: given(
                "-o",
                self.istio_local_outbound_ports_exclude,
                "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE",
                "",
            )
            .list(port)?,
            ranges,
            not_ranges: given("-x", self.istio_service_exclude_cidr, "ISTIO_SERVICE_EXCLUDE_CIDR", "").list(network)?,
            virtual_interfaces: given("-k", self.kube_virt_interfaces, "KUBE_VIRT_INTERFACES", "").list(interface)?,
            not_interfaces: given("-c", self.istio_exclude_interfaces, "ISTIO_EXCLUDE_INTERFACES", "")
                .list(interface)?,
            groups: groups(environment)?,
            drop_invalid: self.drop_invalid
                || is_true("INVALID_DROP", environment)?
                || is_true("DROP_INVALID", environment)?,
        })
    }
}

/// Istio has no flags for them.
fn groups(environment: &dyn Fn(&str) -> Option<String>) -> Result<Groups, String> {
    let of = |variable: &str, default: &str| Given {
        name: variable.to_owned(),
        text: environment(variable).unwrap_or_else(|| default.to_owned()),
    };
    let only = of("ISTIO_OUTBOUND_OWNER_GROUPS", "*").selection(number)?;
    let not = of("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "").list(number)?;
    match only {
        Selection::All => Ok(Groups::AllBut(not)),
        Selection::These(groups) if groups.is_empty() => Ok(Groups::AllBut(not)),
        Selection::These(groups) if not.is_empty() => Ok(Groups::Only(groups)),
        Selection::These(_) => {
            Err("ISTIO_OUTBOUND_OWNER_GROUPS and ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE exclude each other".to_owned())
        }
    }
}

fn is_true(variable: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<bool, String> {
    match environment(variable).as_deref().map(str::trim) {
        None | Some("" | "false" | "0" | "False" | "FALSE") => Ok(false),
        Some("true" | "1" | "True" | "TRUE") => Ok(true),
        Some(other) => Err(format!("{variable} cannot be `{other}`; it can be true or false")),
    }
}

impl Given {
    fn wrong(&self, text: &str, why: &str) -> String {
        format!("`{}` cannot be `{text}`: {why}", self.name)
    }

    fn one<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        read(self.text.trim()).map_err(|why| self.wrong(&self.text, &why))
    }

    fn list<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        let parts = self.text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| read(part).map_err(|why| self.wrong(part, &why))).collect()
    }

    /// At least one.
    fn some<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        let all = self.list(read)?;
        if all.is_empty() {
            return Err(format!("`{}` is empty; the proxy's own connections would be captured", self.name));
        }
        Ok(all)
    }

    fn selection<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<Selection<T>, String> {
        if self.text.trim() == "*" { Ok(Selection::All) } else { self.list(read).map(Selection::These) }
    }

    fn mode(&self) -> Result<(), String> {
        // Whoever looks variables up may give none, as Istio's template does.
        match self.text.trim() {
            "" | "REDIRECT" => Ok(()),
            "TPROXY" => Err(self.wrong(
                "TPROXY",
                "connections are redirected (REDIRECT); the application sees 127.0.0.6 as their source, and the client's address in x-forwarded-for",
            )),
            other => Err(self.wrong(other, "it can be REDIRECT")),
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "write a port, from 1 to 65535".to_owned())
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "write the number of a user or group, as in 1337; names are not looked up".to_owned())
}

fn network(text: &str) -> Result<IpNet, String> {
    let mut ranges = settings::parse_ranges(text)?.0;
    ranges.pop().ok_or_else(|| "write a network, as in 10.0.0.0/8".to_owned())
}

/// What the kernel takes for a name; a `+` at the end stands for anything, as in iptables.
fn interface(text: &str) -> Result<String, String> {
    let stem = text.strip_suffix('+').unwrap_or(text);
    let allowed = |it: char| it.is_ascii_alphanumeric() || "._-@:".contains(it);
    if (1..=15).contains(&text.len()) && !stem.is_empty() && stem.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("write the name of an interface, as in eth1, of at most 15 letters".to_owned())
}

#[cfg(test)]
mod tests;
