//! Pods that are network namespaces: what their applications say goes through their sidecars by rules of the kernel, as in a
//! cluster, and the applications know nothing of it.
//!
//! ```text
//! this machine (gateways, curl) ── 10.B.0.1 ── bridge, in a namespace of its own ──┬── 10.B.1.1 pod 1
//!                                                                                 └── 10.B.2.1 pod 2
//! ```
//!
//! A namespace lives as long as a process in it, which the kernel ends with the demo: nothing is left behind, even when the demo is
//! killed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{
    hosts,
    plan::Plan,
    state::{Access, State},
};
use routing::resources::Resources;

/// Namespaces and the cables between them.
#[derive(Debug)]
pub(crate) struct Network {
    block: u8,
    pods: Vec<Namespace>,
    /// Where the other ends of all cables are.
    _bridge: Namespace,
}

impl Network {
    /// Makes them, with the rules of [`crate::capture`] in those that have a sidecar.
    ///
    /// # Errors
    /// A part of a sentence: why this machine does not do it.
    pub(crate) fn create(resources: &Resources, plan: &Plan, state: &State) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces want root".to_owned());
        }
        let bridge = Namespace::create(None)?;
        let block = connect(&bridge)?;
        let mut pods = Vec::new();
        for (index, pod) in plan.pods.iter().enumerate() {
            let names = state.path("hosts").join(index.to_string());
            let text = hosts::file(resources, plan, &pod.namespace, |number| virtual_address(block, number));
            state.write(&names, &text, Access::Public).map_err(|error| format!("{error:#}"))?;
            let namespace = Namespace::create(Some(&names))?;
            bridge.plug(index, &namespace)?;
            namespace.start(address(block, index), address_of_machine(block))?;
            if pod.sidecar {
                namespace.capture()?;
            }
            pods.push(namespace);
        }
        Ok(Self { block, pods, _bridge: bridge })
    }

    /// Where others reach pod number `index`.
    pub(crate) fn pod(&self, index: usize) -> IpAddr {
        address(self.block, index)
    }

    /// Where pods reach this machine.
    pub(crate) fn machine(&self) -> IpAddr {
        address_of_machine(self.block)
    }

    /// A process in the namespaces of pod number `index`.
    pub(crate) fn process(&self, index: usize) -> u32 {
        self.pods[index].holder.id()
    }
}

/// By the process that holds it.
#[derive(Debug)]
struct Namespace {
    holder: Child,
}

impl Namespace {
    /// A new one, in which `/etc/hosts` is this file.
    fn create(hosts: Option<&Path>) -> Result<Self, String> {
        // Tells when the namespaces are there, then waits for its end.
        let script = "test -z \"$0\" || mount --bind \"$0\" /etc/hosts; echo ready && exec sleep infinity";
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-ec", script])
            .arg(hosts.unwrap_or(Path::new("")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("util-linux' setpriv cannot be started: {error}"))?;
        let mut line = String::new();
        let said = holder.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let this = Self { holder };
        if matches!(said, Some(Ok(_))) && line == "ready\n" { Ok(this) } else { Err(this.complaint()) }
    }

    /// Why it did not come up.
    fn complaint(mut self) -> String {
        // It has ended, or says nothing more.
        let _ = self.holder.kill();
        let mut line = String::new();
        let said = self.holder.stderr.take().map(|errors| BufReader::new(errors).read_line(&mut line));
        match said {
            Some(Ok(length)) if length > 0 => line.trim_end().to_owned(),
            _ => "namespaces cannot be made here".to_owned(),
        }
    }

    /// Runs `ip` in here.
    fn ip(&self, lines: &str) -> Result<(), String> {
        let pid = self.holder.id().to_string();
        run("nsenter", &["--target", &pid, "--net", "ip", "-batch", "-"], lines)
    }

    /// A cable from this bridge to a pod.
    fn plug(&self, index: usize, pod: &Self) -> Result<(), String> {
        let name = format!("pod{}", index + 1);
        let other = pod.holder.id();
        self.ip(&format!(
            "link add {name} type veth peer name eth0 netns {other}\nlink set {name} master br0\nlink set {name} up\n"
        ))
    }

    /// Gives it its address.
    fn start(&self, own: IpAddr, machine: IpAddr) -> Result<(), String> {
        self.ip(&format!(
            "link set lo up\naddr add {own}/16 dev eth0\nlink set eth0 up\nroute add default via {machine}\n"
        ))
    }

    /// Leads connections through the sidecar.
    fn capture(&self) -> Result<(), String> {
        let program = std::env::current_exe().map_err(|error| format!("the sluice binary cannot be found: {error}"))?;
        let pid = self.holder.id().to_string();
        run("nsenter", &["--target", &pid, "--net", &program.to_string_lossy(), "init"], "")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel takes the namespaces and their cables with the last process in them.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The bridge, and a cable from it to this machine; gives the second number of all addresses.
fn connect(bridge: &Namespace) -> Result<u8, String> {
    bridge.ip("link add br0 type bridge\nlink set lo up\nlink set br0 up\n")?;
    let mut last = "no range of 10.0.0.0/8 is free".to_owned();
    for block in BLOCKS {
        let range = format!("10.{block}.0.0/16");
        // Whoever has it already, or a larger network that it is in.
        let known = ["root", "match"].map(|which| output("ip", &["-4", "route", "show", which, &range]));
        if known.iter().flat_map(|text| text.lines()).any(|line| !line.starts_with("default")) {
            continue;
        }
        let (name, pid) = (format!("sluice{block}"), bridge.holder.id());
        let lines = format!(
            "link add {name} type veth peer name up0 netns {pid}\naddr add {}/16 dev {name}\nlink set {name} up\n",
            address_of_machine(block)
        );
        match run("ip", &["-batch", "-"], &lines) {
            Ok(()) => {
                bridge.ip("link set up0 master br0\nlink set up0 up\n")?;
                return Ok(block);
            }
            Err(error) => {
                // Whatever of it came about is in the way of the next.
                let _ = run("ip", &["link", "del", &name], "");
                last = error;
            }
        }
    }
    Err(last)
}

fn address_of_machine(block: u8) -> IpAddr {
    Ipv4Addr::new(10, block, 0, 1).into()
}

fn address(block: u8, index: usize) -> IpAddr {
    // `MOST_PODS` bounds it.
    Ipv4Addr::new(10, block, u8::try_from(index + 1).unwrap_or(u8::MAX), 1).into()
}

/// What a name stands for: nobody has these, so that only a sidecar can make something of them. A folder with more names than there
/// are numbers gives the last one to the rest, which HTTP and TLS do not mind: they say whom they mean.
fn virtual_address(block: u8, number: usize) -> IpAddr {
    let [high, low] = u16::try_from(number + 1).unwrap_or(u16::MAX).min(LAST_VIRTUAL).to_be_bytes();
    Ipv4Addr::new(10, block, VIRTUAL + high, low).into()
}

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{program} cannot be run: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who reads nothing tells why when he ends.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(told)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().next().unwrap_or("it does not say why");
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {first}", arguments.join(" "))) }
}

/// What a program prints; empty when it fails.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default()
}

/// Second numbers of addresses; a demo takes the first that is free.
const BLOCKS: std::ops::RangeInclusive<u8> = 180..=199;

/// Third number of what names stand for, above that of every pod.
const VIRTUAL: u8 = 254;

/// 10.B.255.254; the next is everybody's.
const LAST_VIRTUAL: u16 = 0x01fe;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_names_are_nobodys_and_never_everybodys() {
        assert_eq!(virtual_address(180, 0).to_string(), "10.180.254.1");
        assert_eq!(virtual_address(180, 255).to_string(), "10.180.255.0");
        assert_eq!(virtual_address(180, 509).to_string(), "10.180.255.254");
        assert_eq!(virtual_address(180, 100_000).to_string(), "10.180.255.254");
    }
}
