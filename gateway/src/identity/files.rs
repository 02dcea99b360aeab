//! An identity in a folder, by whoever writes it there.

use std::{path::PathBuf, time::Duration};

use tls::workload::WorkloadIdentity;
use tokio::time::sleep;

use super::{
    board::Board,
    lists::{self, Lists},
};
use crate::source::identity::FileWatch;

/// Who is revoked, beside the roots; there need not be any.
const CRL: &str = "ca-crl.pem";

/// Between tries to read what is not there yet, or half written.
const AGAIN: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Files {
    folder: PathBuf,
    watch: FileWatch,
    lists: Lists,
    pub(super) board: Board,
}

impl Files {
    /// Of a folder that need not have anything in it yet.
    pub(super) fn new(folder: PathBuf, board: Board) -> Self {
        let watch = FileWatch::new(vec![folder.clone()]);
        let lists = Lists::of(&folder.join(CRL).display());
        Self { folder, watch, lists, board }
    }

    /// Reads it. What is the same as before is not news.
    pub(super) fn load(&mut self) {
        match self.read() {
            Ok((identity, trust)) => {
                if self.board.is_news(&identity, trust.as_deref()) || self.board.failures() > 0 {
                    self.board.took(identity, None, trust);
                }
            }
            Err(text) => self.board.failed(&text, None),
        }
    }

    fn read(&mut self) -> Result<(WorkloadIdentity, Option<String>), String> {
        let words = |error: tls::Error| error.to_string();
        let identity = WorkloadIdentity::from_dir(&self.folder).map_err(words)?;
        self.lists.take(lists::in_file(&self.folder.join(CRL)), self.board.identity().is_some())?;
        let identity = self.lists.on(identity).map_err(words)?;
        let remarks = self.lists.remarks(Some(&identity));
        Ok((identity, (!remarks.is_empty()).then(|| remarks.join("; "))))
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
