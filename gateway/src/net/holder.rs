//! Who has a port that cannot be bound, as far as the system lets this user look.
//!
//! `/proc/net/tcp` and `tcp6` name the socket that listens there and the user it belongs to; `/proc/PID/fd` says which process
//! holds that socket.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// State of a socket that listens.
const LISTENS: &str = "0A";

/// Whoever listens on a port.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Holder {
    /// This process, which this user may look at.
    Process {
        /// Its number.
        pid: u32,
        /// Name of its program.
        name: String,
    },
    /// Some process of this user.
    User(u32),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "process {pid} (`{name}`)"),
            Self::User(uid) => write!(f, "a process of the user with id {uid} (`sudo ss -ltnp` names it)"),
        }
    }
}

/// A socket that listens.
#[derive(Debug, Eq, PartialEq)]
struct Socket {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

/// Who listens where `wanted` cannot be bound; `None` when nobody is seen there, as when it is another namespace's business.
pub(crate) fn of(wanted: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let socket =
        tables.iter().flat_map(|table| table.lines().filter_map(read)).find(|it| is_in_the_way(it.address, wanted))?;
    Some(process(socket.inode).map_or(Holder::User(socket.uid), |(pid, name)| Holder::Process { pid, name }))
}

/// Whether anybody listens on this port in the network namespace of a process.
pub(crate) fn listens_in(process: u32, port: u16) -> bool {
    let tables = ["tcp", "tcp6"].map(|it| fs::read_to_string(format!("/proc/{process}/net/{it}")).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().filter_map(read)).any(|socket| socket.address.port() == port)
}

/// What to do about an address that cannot be bound, as the end of a sentence; `instead` is what else would help.
pub(crate) fn advice(cause: &io::Error, wanted: SocketAddr, instead: &str) -> String {
    if cause.kind() != io::ErrorKind::AddrInUse {
        return instead.to_owned();
    }
    match of(wanted) {
        Some(holder) => format!("{holder} has it: end that, or {instead}"),
        None => format!("another process has it: end that, or {instead}"),
    }
}

/// What to do about an address that a proxy could not bind; empty = nobody knows.
pub(crate) fn hint(cause: &io::Error, address: SocketAddr) -> String {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            let port = address.port();
            let mapped = u32::from(port) + 8000;
            format!("; ports below 1024 need a privilege: map it, as in --port-map {port}={mapped}")
        }
        io::ErrorKind::AddrInUse => format!("; {}", advice(cause, address, "map the port with --port-map")),
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address".to_owned(),
        _ => String::new(),
    }
}

fn is_in_the_way(taken: SocketAddr, wanted: SocketAddr) -> bool {
    let (there, here) = (taken.ip().to_canonical(), wanted.ip().to_canonical());
    taken.port() == wanted.port() && (there == here || there.is_unspecified() || here.is_unspecified())
}

/// One line of the kernel's tables: number, own address, other address, state, queues, timers, retransmissions, user, timeout,
/// inode.
fn read(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace();
    let (address, state) = (fields.nth(1)?, fields.nth(1)?);
    let (uid, inode) = (fields.nth(3)?, fields.nth(1)?);
    let listens = state == LISTENS;
    listens.then_some(Socket { address: self::address(address)?, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
}

/// `0100007F:1F90`: words of four bytes, each in the order of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn process(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for (pid, path) in processes.filter_map(|it| Some((it.file_name().to_str()?.parse::<u32>().ok()?, it.path()))) {
        let descriptors = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        let mut sockets = descriptors.filter_map(|it| fs::read_link(it.path()).ok());
        if sockets.any(|it| it.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0";
        let address = "127.0.0.1:8080".parse().unwrap();
        let little = cfg!(target_endian = "little");
        assert_eq!(read(line).filter(|_| little), little.then_some(Socket { address, uid: 1000, inode: 4242 }));
        assert_eq!(read(&line.replace(" 0A ", " 01 ")), None, "a connection is in nobody's way");
        let six = super::address("00000000000000000000000001000000:01BB");
        assert_eq!(six.filter(|_| little), little.then(|| "[::1]:443".parse().unwrap()));
        for odd in [
            "",
            "  sl  local_address rem_address   st",
            "1: 01:1 0:0 0A 0 0 0 1 0 2",
            "1: zz00007F:1F90 0:0 0A 0:0 0:0 0 1 0 2",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_in_the_way_of_every_address() {
        let way = |taken: &str, wanted: &str| is_in_the_way(taken.parse().unwrap(), wanted.parse().unwrap());
        assert!(
            way("0.0.0.0:80", "127.0.0.1:80") && way("127.0.0.1:80", "0.0.0.0:80") && way("[::]:80", "127.0.0.1:80")
        );
        assert!(way("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(!way("127.0.0.2:80", "127.0.0.1:80") && !way("0.0.0.0:81", "0.0.0.0:80"));
    }

    #[test]
    fn this_very_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let Some(Holder::Process { pid, name }) = of(listener.local_addr().unwrap()) else {
            panic!("this user may look at its own processes")
        };
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
    }
}
