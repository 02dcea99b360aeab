//! An identity in a folder, by whoever writes it there.

use std::{path::PathBuf, time::Duration};

use tls::workload::WorkloadIdentity;
use tokio::time::sleep;

use super::board::Board;
use crate::source::identity::FileWatch;

/// Between tries to read what is not there yet, or half written.
const AGAIN: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Files {
    folder: PathBuf,
    watch: FileWatch,
    pub(super) board: Board,
}

impl Files {
    /// Of a folder that need not have anything in it yet.
    pub(super) fn new(folder: PathBuf, board: Board) -> Self {
        let watch = FileWatch::new(vec![folder.clone()]);
        Self { folder, watch, board }
    }

    /// Reads it. What is the same as before is not news.
    pub(super) fn load(&mut self) {
        match WorkloadIdentity::from_dir(&self.folder) {
            Ok(identity) => {
                let held = self.board.identity().map(|held| held.generation);
                if held != Some(identity.generation) || self.board.failures() > 0 {
                    self.board.took(identity, None, None);
                }
            }
            Err(error) => self.board.failed(&error.to_string(), None),
        }
    }

    /// Follows what is written there.
    pub(super) async fn run(mut self) {
        loop {
            let failing = self.board.failures() > 0;
            tokio::select! {
                () = self.watch.changed() => {}
                () = sleep(AGAIN), if failing => {}
            }
            self.load();
        }
    }
}
