//! Real kubectl.

use std::path::PathBuf;

use crate::binary;

/// The kubectl executable: `SLUICE_TEST_KUBECTL`, else what `make deps` installed.
///
/// Says loudly on stderr that the story is skipped when there is none.
pub fn executable(story: &str) -> Option<PathBuf> {
    let found = binary::peer("SLUICE_TEST_KUBECTL", "kubectl");
    if found.is_none() {
        eprintln!(
            "SKIPPED story {story}: no kubectl: run `make deps`, or set SLUICE_TEST_KUBECTL to a kubectl executable"
        );
    }
    found
}
