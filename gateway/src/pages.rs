//! The program's own code in memory. What a start, a new configuration and a burst of connections run through is most of it, is
//! spread over all of it, and is not needed by whoever rests, while the kernel keeps it mapped, in pieces of 64 KiB and more
//! around whatever was met: some 20 MiB beside the 2 or 3 that an idle proxy has in its heap.

use std::{ffi::c_void, fs, io, ops::Range, ptr, time::Duration};

use rustix::{
    mm::{Advice, madvise},
    time::{ClockId, clock_gettime},
};
use tokio::time::sleep;
use tracing::debug;

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// It rests if it has worked for less than this between two looks,
const REST: Duration = Duration::from_millis(5);
/// and has run through much of its code if it has worked for as long as this before.
const WORK: Duration = Duration::from_millis(50);

/// Gives code back to the kernel whenever the process rests after work, for ever.
pub(crate) async fn tend() {
    let (mut given, mut before) = (Duration::ZERO, worked());
    loop {
        sleep(LOOK).await;
        let now = worked();
        if now - before < REST && now - given >= WORK {
            match give_back() {
                Ok(bytes) => debug!(bytes, "the program's code has been given back to the kernel"),
                Err(error) => debug!(%error, "the program's code stays mapped"),
            }
            given = worked();
        }
        before = now;
    }
}

/// The processor's time that the process has had.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Unmaps code and constants, of which the kernel maps again what is run next, from the file. Bytes that were unmapped.
///
/// # Errors
/// When the kernel does not tell what is mapped, or refuses.
fn give_back() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = mappings_of(&fs::read_to_string("/proc/self/smaps")?, &program.to_string_lossy());
    for mapping in &mappings {
        unmap(mapping)?;
    }
    Ok(mappings.iter().map(ExactSizeIterator::len).sum())
}

#[expect(unsafe_code, reason = "nothing safe gives back pages of a file that the linker has mapped; see below")]
fn unmap(mapping: &Range<usize>) -> io::Result<()> {
    let begin: *mut c_void = ptr::with_exposed_provenance_mut(mapping.start);
    // SAFETY: the range is one whole mapping of the program's file that cannot be written to and in which nothing differs from
    // the file (`mappings_of`). What is read or run there next is read from the file again and is the same as before.
    unsafe { madvise(begin, mapping.len(), Advice::LinuxDontNeed) }?;
    Ok(())
}

/// Mappings of a file in `/proc/PID/smaps` (proc(5)) that cannot be written to, and in which every page is the file's: not
/// what the linker has relocated, nor code in which a debugger has put a breakpoint.
fn mappings_of(smaps: &str, file: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        match first.strip_suffix(':') {
            Some("Anonymous") if words.next() == Some("0") => found.extend(current.take()),
            Some(_) => {}
            None => current = header(first, words.next().unwrap_or_default()).filter(|_| line.ends_with(file)),
        }
    }
    found
}

/// `55d0-55e0` and `r-xp`, if that is read only and private.
fn header(range: &str, permissions: &str) -> Option<Range<usize>> {
    let (begin, end) = range.split_once('-')?;
    let range = usize::from_str_radix(begin, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    (permissions.starts_with("r-") && permissions.ends_with('p')).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 00:00 7 /usr/bin/sluice
Size:                  8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
3000-9000 r-xp 00002000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
9000-a000 r--p 00008000 00:00 7 /usr/bin/sluice
Anonymous:             4 kB
a000-b000 rw-p 00009000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
b000-c000 rw-p 00000000 00:00 0 [heap]
Anonymous:             0 kB
c000-d000 r-xp 00000000 00:00 9 /usr/lib/libc.so.6
Anonymous:             0 kB
d000-e000 r-xs 00000000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_the_file_has_it_is_given_back() {
        assert_eq!(mappings_of(SMAPS, "/usr/bin/sluice"), [0x1000..0x3000, 0x3000..0x9000]);
        assert!(mappings_of(SMAPS, "/usr/bin/other").is_empty());
        assert!(mappings_of("rubbish\nAnonymous: 0 kB\n12-zz r-xp f\nAnonymous:", "f").is_empty());
    }

    #[test]
    fn code_runs_on_when_it_has_been_given_back() {
        assert!(give_back().expect("smaps can be read") > 1 << 20, "this program is larger than a MiB");
        assert_eq!(give_back().expect("and again") % 4096, 0);
    }
}
