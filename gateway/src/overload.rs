//! What is given up before the kernel ends the whole process: first requests, then connections.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tracing::{info, warn};

use crate::telemetry::process::resident_bytes;

/// Between looks at the memory in use.
const LOOK: Duration = Duration::from_millis(250);
/// Of the limit, per cent: from here on requests are answered with 503 (Envoy's edge recommendation).
const REQUESTS: u64 = 95;
/// Of the limit, per cent: from here on new connections are closed, too (Envoy's edge recommendation).
const CONNECTIONS: u64 = 98;
/// Of the limit, per cent: below this all is well again.
const WELL: u64 = 93;

/// How much is given up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Level {
    Nothing,
    Requests,
    Connections,
}

/// Whether the process is short of memory, to be asked by everybody.
#[derive(Debug, Default)]
pub(crate) struct Overload(AtomicU8);

impl Overload {
    /// Whether requests are to be answered with 503.
    pub(crate) fn sheds_requests(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Level::Requests as u8
    }

    /// Whether new connections are to be closed.
    pub(crate) fn sheds_connections(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Level::Connections as u8
    }

    /// Looks at the memory in use, for ever. `limit`: bytes that may be.
    pub(crate) async fn watch(&self, limit: u64) {
        let mut before = Level::Nothing;
        loop {
            let used = resident_bytes().unwrap_or(0);
            let level = level(before, used, limit);
            if level != before {
                let (used_mib, limit_mib) = (used >> 20, limit >> 20);
                match level {
                    Level::Nothing => info!(used_mib, limit_mib, "memory suffices again"),
                    Level::Requests => warn!(used_mib, limit_mib, "short of memory: requests are answered with 503"),
                    Level::Connections => warn!(used_mib, limit_mib, "short of memory: new connections are closed"),
                }
                self.0.store(level as u8, Ordering::Relaxed);
                before = level;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn level(before: Level, used: u64, limit: u64) -> Level {
    let share = used.saturating_mul(100) / limit.max(1);
    match share {
        CONNECTIONS.. => Level::Connections,
        REQUESTS.. => Level::Requests,
        WELL.. => before.min(Level::Requests),
        _ => Level::Nothing,
    }
}

/// The memory that this process may use, as its control group says (version 2, then 1); `None` = nobody says.
pub(crate) fn granted() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(|line| granted_by(line, Path::new("/sys/fs/cgroup"))).min()
}

/// By one line of `/proc/self/cgroup`: a limit of the group, or of one around it.
fn granted_by(line: &str, root: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (controllers, group) = (parts.nth(1)?, parts.next()?);
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    // Inside of a container the group is often not visible by its full name: its own limit is at the root then.
    let group = Path::new(group.trim_start_matches('/'));
    let read = |at: &Path| fs::read_to_string(root.join(at).join(file)).ok()?.trim().parse::<u64>().ok();
    // Version 1 says "no limit" with a number that is nearly 2^63.
    group.ancestors().filter_map(read).filter(|limit| *limit < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_given_up_before_connections_and_both_come_back_later_than_they_went() {
        let levels = [50, 94, 95, 97, 98, 120, 96, 94, 92].map({
            let mut before = Level::Nothing;
            move |used| {
                before = level(before, used, 100);
                before
            }
        });
        use Level::{Connections as C, Nothing as N, Requests as R};
        assert_eq!(levels, [N, N, R, R, C, C, R, R, N]);
    }

    #[test]
    fn the_smallest_limit_of_the_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("pod/box");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(granted_by("0::/pod/box", root.path()), None);
        fs::write(root.path().join("pod/memory.max"), "1000\n").unwrap();
        assert_eq!(granted_by("0::/pod/box", root.path()), Some(1000));
        fs::write(group.join("memory.max"), "500\n").unwrap();
        assert_eq!(granted_by("0::/pod/box", root.path()), Some(500));
        fs::create_dir_all(root.path().join("memory")).unwrap();
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(granted_by("4:memory:/somewhere/else", root.path()), None);
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "700\n").unwrap();
        assert_eq!(granted_by("4:memory:/somewhere/else", root.path()), Some(700));
        assert_eq!(granted_by("3:cpu,cpuacct:/pod", root.path()), None);
    }
}
