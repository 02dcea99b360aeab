//! Files that logs are written to. They are opened when there is something to write, and anew after each SIGUSR1, by which
//! whoever rotates them says that he has moved them away.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts the wishes that all files are opened anew.
static WISHES: AtomicU64 = AtomicU64::new(0);

/// Opens all files anew, each with its next line.
pub(crate) fn reopen() {
    WISHES.fetch_add(1, Ordering::SeqCst);
}

/// Where the lines of a path go.
pub(crate) fn out(path: &str) -> Box<dyn Write + Send> {
    match path {
        "/dev/stdout" => Box::new(io::stdout()),
        "/dev/stderr" => Box::new(io::stderr()),
        path => Box::new(Reopened { path: Path::new(path).to_owned(), file: None, told: false }),
    }
}

/// A file at a path.
struct Reopened {
    path: PathBuf,
    /// With the wish that it was opened for.
    file: Option<(File, u64)>,
    /// That it cannot be written was told.
    told: bool,
}

impl Reopened {
    fn file(&mut self) -> io::Result<&mut File> {
        let wish = WISHES.load(Ordering::SeqCst);
        if self.file.as_ref().is_none_or(|(_, opened)| *opened != wish) {
            // Before the new one: whoever waits for the old one to be closed is not kept waiting by an error.
            self.file = None;
            let opened = OpenOptions::new().append(true).create(true).open(&self.path);
            self.file = Some((self.noted(opened)?, wish));
        }
        match &mut self.file {
            Some((file, _)) => Ok(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Tells of a failure once, as long as it lasts.
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        match &result {
            Err(error) if !self.told => {
                tracing::error!(path = %self.path.display(), %error, "the access log cannot be written, and its lines are lost");
                self.told = true;
            }
            Err(_) => {}
            Ok(_) => self.told = false,
        }
        result
    }
}

impl Write for Reopened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file()?.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_when_that_is_wished() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut out = out(path.to_str().unwrap());
        out.write_all(b"first\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        out.write_all(b"second\n").unwrap();
        assert!(!path.exists(), "the old file is written as long as nobody says anything");
        reopen();
        out.write_all(b"third\n").unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "first\nsecond\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("access.log");
        let mut out = out(path.to_str().unwrap());
        assert!(out.write_all(b"lost\n").is_err());
        std::fs::create_dir(folder.path().join("below")).unwrap();
        out.write_all(b"kept\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
    }
}
