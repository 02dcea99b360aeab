//! Files that somebody named, read as far as they can be what they should be.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Reads a regular file of at most `largest` bytes: a device or a pipe may never end.
///
/// # Errors
/// The file cannot be read, is larger, or is none.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    // Before it is opened, which waits for the other end of a pipe.
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(io::Error::other("it is a device or a pipe, not a file"));
    }
    let too_large = || {
        let most = if largest >= 1 << 20 { format!("{} MiB", largest >> 20) } else { format!("{largest} bytes") };
        io::Error::other(format!("it is larger than {most}, the most that is read"))
    };
    if meta.len() > largest {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
    // It may grow meanwhile.
    File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_begun() {
        for endless in ["/dev/zero", "/dev/tty"] {
            let fault = read(Path::new(endless), 10).unwrap_err().to_string();
            assert!(fault.contains("a device or a pipe"), "{endless}: {fault}");
        }
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read(&pipe, 10).unwrap_err().to_string().contains("a device or a pipe"));
        assert_eq!(read(folder.path(), 10).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, [b'x'; 10]).unwrap();
        assert_eq!(read(&file, 10).unwrap(), [b'x'; 10]);
        assert_eq!(read(&file, 9).unwrap_err().to_string(), "it is larger than 9 bytes, the most that is read");
        std::fs::write(&file, vec![b'x'; (2 << 20) + 1]).unwrap();
        assert_eq!(read(&file, 2 << 20).unwrap_err().to_string(), "it is larger than 2 MiB, the most that is read");
    }
}
