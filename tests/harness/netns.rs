//! Pods of their own: network namespaces with cables between them, in which programs of others run as they are.
//!
//! ```text
//! outside (nobody's mesh) ──────── server ──────── client
//! ```

use std::{
    ffi::OsStr,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{binary, process::Process, program::executable};

/// The user that sidecars run as.
pub const PROXY: &str = "1337";

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub struct Pod {
    name: String,
    /// Its address.
    pub ip: IpAddr,
}

/// Three of them.
#[derive(Debug)]
pub struct Network {
    /// Calls.
    pub client: Pod,
    /// Is called.
    pub server: Pod,
    /// Has a cable to the server, and no sidecar.
    pub outside: Pod,
    /// Where the server reaches it.
    pub six: bool,
}

impl Network {
    /// `six`: addresses are of IPv6. `None` = these rights, this kernel or these programs do not allow it; said loudly.
    pub fn create(story: &str, six: bool) -> Option<Self> {
        for program in ["ip", "iptables", "nft", "tcpdump", "curl", "python"] {
            executable(story, program)?;
        }
        let network = Self::of(story, six);
        let skipped = |why: &str| eprintln!("SKIPPED story {story}: {why}");
        if !network.pods().all(|pod| runs("ip", &["netns", "add", &pod.name])) {
            skipped("network namespaces want root with CAP_SYS_ADMIN and CAP_NET_ADMIN");
            return None;
        }
        if !six {
            // A machine without it is a machine, too.
            network.pods().for_each(Pod::forbid_ipv6);
        }
        if let Err(command) = network.wire() {
            skipped(&format!("this kernel does not do `{command}`"));
            return None;
        }
        if !network
            .client
            .command(Some(PROXY), binary::sluice())
            .arg("--version")
            .output()
            .is_ok_and(|it| it.status.success())
        {
            skipped("user 1337 may not run the executable: put it where everybody may read");
            return None;
        }
        Some(network)
    }

    fn of(story: &str, six: bool) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pod = |role: &str, four: &str, other: &str| Pod {
            name: format!("sluice-{}-{number}-{role}", id()),
            ip: (if six { other } else { four }).parse().unwrap_or_else(|_| panic!("an address of {story}")),
        };
        Self {
            client: pod("client", "10.88.1.1", "fd88:1::1"),
            server: pod("server", "10.88.1.2", "fd88:1::2"),
            outside: pod("outside", "10.88.2.2", "fd88:2::2"),
            six,
        }
    }

    fn pods(&self) -> impl Iterator<Item = &Pod> {
        [&self.client, &self.server, &self.outside].into_iter()
    }

    /// The cables. Everything else, services too, lies behind the server: the kernel looks for a way before rules do.
    ///
    /// # Errors
    /// The command that failed.
    fn wire(&self) -> Result<(), String> {
        let Self { client, server, outside, six } = self;
        let (ip, length, nodad) = if *six { ("ip -6", 64, " nodad") } else { ("ip", 24, "") };
        let (gateway, link) = if *six { ("fd88:2::1", "fd88:2::1") } else { ("10.88.2.1", "10.88.2.1") };
        let steps = [
            (client, format!("ip link add eth0 type veth peer name eth0 netns {}", server.name)),
            (outside, format!("ip link add eth0 type veth peer name eth1 netns {}", server.name)),
            (client, format!("{ip} addr add {}/{length} dev eth0{nodad}", client.ip)),
            (server, format!("{ip} addr add {}/{length} dev eth0{nodad}", server.ip)),
            (server, format!("{ip} addr add {link}/{length} dev eth1{nodad}")),
            (outside, format!("{ip} addr add {}/{length} dev eth0{nodad}", outside.ip)),
        ];
        let up = self.pods().flat_map(|pod| ["lo", "eth0"].map(|link| (pod, format!("ip link set {link} up"))));
        let routes = [
            (server, "ip link set eth1 up".to_owned()),
            (client, format!("{ip} route add default via {}", server.ip)),
            (server, format!("{ip} route add default via {}", client.ip)),
            (outside, format!("{ip} route add default via {gateway}")),
        ];
        steps.into_iter().chain(up).chain(routes).try_for_each(|(pod, command)| {
            let words: Vec<&str> = command.split(' ').collect();
            let done = pod.command(None, Path::new(words[0])).args(&words[1..]).stderr(Stdio::null()).status();
            if done.is_ok_and(|status| status.success()) { Ok(()) } else { Err(command) }
        })
    }

    /// An address that nobody has: of a service.
    pub fn virtual_ip(&self, number: u8) -> IpAddr {
        let text = if self.six { format!("fd88:100::{number}") } else { format!("10.88.100.{number}") };
        text.parse().expect("an address")
    }
}

impl Pod {
    /// A program in here, as root or as this user.
    pub fn command(&self, user: Option<&str>, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(self.words(user)).arg(program);
        command
    }

    fn forbid_ipv6(&self) {
        let line = "for it in all default; do echo 1 >/proc/sys/net/ipv6/conf/$it/disable_ipv6; done";
        self.run(Path::new("sh"), &["-c", line]);
    }

    fn words(&self, user: Option<&str>) -> Vec<String> {
        let mut words = ["netns", "exec", &self.name].map(str::to_owned).to_vec();
        if let Some(user) = user {
            let as_user = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all"];
            words.extend(as_user.map(str::to_owned));
        }
        words
    }

    /// Runs a program to its end.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        let output = self.command(None, program).args(arguments).stdin(Stdio::null()).output();
        output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    }

    /// Runs `sluice init` and gives what it said; it has to succeed.
    pub fn init(&self, arguments: &[&str]) -> String {
        let output = self.run(binary::sluice(), &[&["init"], arguments].concat());
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "sluice init {arguments:?}: {said}");
        said
    }

    /// Starts a program.
    pub fn start<S: AsRef<OsStr>>(&self, name: &str, user: Option<&str>, program: &Path, arguments: &[S]) -> Process {
        self.start_in(name, user, (program, arguments), &[])
    }

    /// The same with variables in its environment.
    pub fn start_in<S: AsRef<OsStr>>(
        &self,
        name: &str,
        user: Option<&str>,
        (program, arguments): (&Path, &[S]),
        variables: &[(&str, String)],
    ) -> Process {
        let words = self.words(user).into_iter().map(Into::into);
        let program = std::iter::once(program.as_os_str().to_owned());
        let all = words.chain(program).chain(arguments.iter().map(|it| it.as_ref().to_owned()));
        Process::start_in(name, Path::new("ip"), all.collect::<Vec<std::ffi::OsString>>(), variables)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        runs("ip", &["netns", "del", &self.name]);
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Lets everybody read a folder of the story: the sidecar is another user.
pub fn readable(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
}
