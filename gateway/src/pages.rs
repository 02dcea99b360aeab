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

/// What is mapped, and how.
const SMAPS: &str = "/proc/self/smaps";
/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// It rests if it has worked for less than this between two looks,
const REST: Duration = Duration::from_millis(5);
/// and has run through much of its code if it has worked for as long as this before, or has just started.
const WORK: Duration = Duration::from_millis(50);

/// Where the program's code and constants are.
pub(crate) struct Code {
    /// Its file.
    file: String,
    /// As the linker has mapped it, which stays until the process ends.
    image: Vec<Range<usize>>,
}

impl Code {
    /// Looks for it. To be called while nobody else can have mapped the file, as who prints a backtrace does for a moment.
    ///
    /// # Errors
    /// When the kernel does not tell what is mapped.
    pub(crate) fn find() -> io::Result<Self> {
        let file = fs::read_link("/proc/self/exe")?.to_string_lossy().into_owned();
        let image = mappings_of(&fs::read_to_string(SMAPS)?, &file);
        Ok(Self { file, image })
    }

    /// Gives code back to the kernel whenever the process rests after work, for ever.
    pub(crate) async fn tend(self) {
        let mut watch = Watch { given: None, before: worked() };
        loop {
            sleep(LOOK).await;
            if watch.rests(worked()) {
                match self.give_back() {
                    Ok(bytes) => debug!(bytes, "the program's code has been given back to the kernel"),
                    Err(error) => debug!(%error, "the program's code stays mapped"),
                }
                watch.given = Some(worked());
            }
        }
    }

    /// Unmaps it; the kernel maps again what is run next, from the file. Bytes that were unmapped.
    fn give_back(&self) -> io::Result<usize> {
        let mut clean = mappings_of(&fs::read_to_string(SMAPS)?, &self.file);
        clean.retain(|mapping| self.image.contains(mapping));
        for mapping in &clean {
            unmap(mapping)?;
        }
        Ok(clean.iter().map(ExactSizeIterator::len).sum())
    }
}

/// When to give back. All times are of the processor.
struct Watch {
    /// When it was done last; `None` since the start.
    given: Option<Duration>,
    /// The last look.
    before: Duration,
}

impl Watch {
    /// Whether the process rests after work.
    fn rests(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(std::mem::replace(&mut self.before, now));
        since < REST && self.given.is_none_or(|given| now.saturating_sub(given) >= WORK)
    }
}

/// The processor's time that the process has had.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[expect(unsafe_code, reason = "nothing safe gives back pages of a file that the linker has mapped; see below")]
fn unmap(mapping: &Range<usize>) -> io::Result<()> {
    let begin: *mut c_void = ptr::with_exposed_provenance_mut(mapping.start);
    // SAFETY: the range is one whole mapping that the linker has made of the program's file and that is there until the process
    // ends; it cannot be written to, and no page of it differs from the file, in memory or in swap (`mappings_of`). What is read
    // or run there next is read from the file again and is the same as before.
    unsafe { madvise(begin, mapping.len(), Advice::LinuxDontNeed) }?;
    Ok(())
}

/// Private mappings of a file in `/proc/PID/smaps` (proc(5)) that cannot be written to, and in which every page is the file's:
/// not what the linker has relocated, nor code in which a debugger has put a breakpoint.
fn mappings_of(smaps: &str, file: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        match first.strip_suffix(':') {
            // Pages in memory; those in swap follow.
            Some("Anonymous") if words.next() != Some("0") => current = None,
            Some("Swap") if words.next() == Some("0") => found.extend(current.take()),
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

    const TOLD: &str = "\
1000-3000 r--p 00000000 00:00 7 /usr/bin/sluice
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
3000-9000 r-xp 00002000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
Swap:                  0 kB
9000-a000 r--p 00008000 00:00 7 /usr/bin/sluice
Anonymous:             4 kB
Swap:                  0 kB
a000-b000 r--p 00009000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
Swap:                  4 kB
b000-c000 rw-p 0000a000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
Swap:                  0 kB
c000-d000 rw-p 00000000 00:00 0 [heap]
Anonymous:             0 kB
Swap:                  0 kB
d000-e000 r-xp 00000000 00:00 9 /usr/lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
e000-f000 r-xs 00000000 00:00 7 /usr/bin/sluice
Anonymous:             0 kB
Swap:                  0 kB
";

    #[test]
    fn only_what_is_as_the_file_has_it_is_given_back() {
        assert_eq!(mappings_of(TOLD, "/usr/bin/sluice"), [0x1000..0x3000, 0x3000..0x9000]);
        assert!(mappings_of(TOLD, "/usr/bin/other").is_empty());
        assert!(mappings_of("rubbish\nSwap: 0 kB\n12-zz r-xp f\nSwap: 0\n1-2 r-xp f\nAnonymous:", "f").is_empty());
    }

    #[test]
    fn code_is_given_back_in_a_rest_after_the_start_and_after_work() {
        let ms = Duration::from_millis;
        let mut watch = Watch { given: None, before: ms(12) };
        assert!(!watch.rests(ms(30)), "the start goes on");
        assert!(watch.rests(ms(31)), "a start is work, however short");
        watch.given = Some(ms(32));
        for now in 33..82 {
            assert!(!watch.rests(ms(now)), "a little has been done since: {now}");
        }
        assert!(!watch.rests(ms(90)), "it works");
        assert!(watch.rests(ms(91)), "it rests");
    }

    #[test]
    fn code_runs_on_when_it_has_been_given_back() {
        let code = Code::find().expect("smaps can be read");
        let first = code.give_back().expect("smaps can be read");
        assert!(first > 1 << 20, "this program is larger than a MiB: {first}");
        assert_eq!(code.give_back().expect("and again"), first);
        let nothing = Code { file: code.file.clone(), image: Vec::new() };
        assert_eq!(nothing.give_back().expect("smaps can be read"), 0, "others' mappings of the file are not ours");
    }
}
