//! What Linux knows about this process, for the `process_*` metrics.

/// Ticks per second in `/proc/*/stat`: 100 on every Linux that user space sees (`USER_HZ`).
const TICKS: f64 = 100.0;

/// One look at `/proc/self`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// User and system time, seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, bytes.
    pub(crate) resident_bytes: i64,
    /// Start, seconds since 1970.
    pub(crate) started: f64,
    /// Open file descriptors.
    pub(crate) open_files: i64,
    /// Threads.
    pub(crate) threads: i64,
}

impl Usage {
    /// Now; what cannot be read is 0.
    pub(crate) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let open_files =
            std::fs::read_dir("/proc/self/fd").map_or(0, |it| i64::try_from(it.count()).unwrap_or(i64::MAX));
        Self { open_files, ..Self::parse(&read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/stat")) }
    }

    fn parse(stat: &str, status: &str, system: &str) -> Self {
        // The second field is the program's name in parentheses and may hold anything; fields count from behind it.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default() / TICKS;
        let booted = value(system, "btime ").unwrap_or_default();
        Self {
            cpu_seconds: ticks(11) + ticks(12),
            resident_bytes: value(status, "VmRSS:").map_or(0, |kib| kib * 1024),
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit in 53 bits")]
            started: booted as f64 + ticks(19),
            open_files: 0,
            threads: value(status, "Threads:").unwrap_or_default(),
        }
    }
}

/// Resident memory, bytes; `None` = it cannot be read.
pub(crate) fn resident_bytes() -> Option<u64> {
    let kib = value(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    u64::try_from(kib).ok().map(|kib| kib * 1024)
}

/// The number behind a name at the start of a line.
fn value(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 12300 1000 200";
        let usage = Usage::parse(stat, "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t3\n", "cpu 1 2\nbtime 1700000000\n");
        assert_eq!(
            usage,
            Usage { cpu_seconds: 3.0, resident_bytes: 2 << 20, started: 1_700_000_123.0, open_files: 0, threads: 3 }
        );
    }

    #[test]
    fn knows_nothing_from_nothing() {
        assert_eq!(Usage::parse("", "", ""), Usage::default());
    }

    #[test]
    fn this_process_runs() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > 0 && usage.started > 1.0e9 && usage.open_files > 0 && usage.threads > 0);
    }
}
