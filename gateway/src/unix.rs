//! Unix sockets, as streams of the one type that everything else knows: an open one differs from TCP in nothing that is read or
//! written.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{LazyLock, PoisonError, RwLock},
};

use routing::unix;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    net::{TcpStream, UnixListener, UnixStream},
    sync::watch,
};
use tracing::warn;

use crate::{
    net::listen::{BACK_OFF, BACKLOG, Standing},
    settings::IDENTITY_SOCKET,
};

/// Which file it is, by whatever name: device and number.
type Inode = (u64, u64);

/// What this process listens on; `None`: an abstract name, which is no file.
static DOORS: LazyLock<RwLock<HashMap<SocketAddr, Option<Inode>>>> = LazyLock::new(RwLock::default);
/// Where this process gets its identity from.
static IDENTITIES: LazyLock<RwLock<Vec<PathBuf>>> = LazyLock::new(|| RwLock::new(vec![IDENTITY_SOCKET.into()]));

/// Keeps a socket that gives the proxy its identity from everybody whom the proxy serves.
pub(crate) fn keep(identity: PathBuf) {
    IDENTITIES.write().unwrap_or_else(PoisonError::into_inner).push(identity);
}

/// Connects to the path that an address stands for.
///
/// # Errors
/// Whatever the operating system says, and for sockets that are the proxy's own.
pub(crate) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let path = unix::path(to).ok_or(io::ErrorKind::AddrNotAvailable)?;
    refuse_own(to, &path)?;
    stream(UnixStream::connect(file(&path)).await?)
}

/// The socket that gives the proxy its identity would give it to whoever asks through the proxy, and a listener of the proxy
/// would lead back to itself.
fn refuse_own(to: SocketAddr, path: &str) -> io::Result<()> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let meant = inode(&file(path));
    let same = |other: Option<Inode>| meant.is_some() && meant == other;
    let identities = IDENTITIES.read().unwrap_or_else(PoisonError::into_inner);
    if identities.iter().any(|identity| *identity == Path::new(path) || same(inode(identity))) {
        return refused("the proxy gets its own identity there and leads nobody to it");
    }
    let doors = DOORS.read().unwrap_or_else(PoisonError::into_inner);
    if doors.contains_key(&to) || doors.values().any(|door| same(*door)) {
        return refused("the proxy itself listens there");
    }
    Ok(())
}

/// The file that a path leads to, by links, too.
fn inode(path: &Path) -> Option<Inode> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Binds one socket to the path that an address stands for, and shares it among `count`. What a process has left behind that
/// does not listen any more is replaced.
///
/// # Errors
/// When somebody listens there, or the path cannot be made.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let path = unix::path(address).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let to = SockAddr::unix(file(&path))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&to) {
        let asked = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Somebody alive whose queue is full would keep us waiting.
        asked.set_nonblocking(true)?;
        let dead = asked.connect(&to).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let is_socket = |file: &std::fs::Metadata| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type());
        if error.kind() != io::ErrorKind::AddrInUse
            || !dead
            || !std::fs::symlink_metadata(file(&path)).is_ok_and(|it| is_socket(&it))
        {
            return Err(error);
        }
        std::fs::remove_file(file(&path))?;
        socket.bind(&to)?;
    }
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    DOORS.write().unwrap_or_else(PoisonError::into_inner).insert(address, inode(&file(&path)));
    (0..count).map(|_| Ok(OwnedFd::from(socket.try_clone()?).into())).collect()
}

/// Takes the path of a listener away, so that nobody connects any more; what somebody else has put there stays.
pub(crate) fn unlink(address: SocketAddr) {
    let made = DOORS.write().unwrap_or_else(PoisonError::into_inner).remove(&address).flatten();
    if let (Some(made), Some(path)) = (made, unix::path(address))
        && inode(&file(&path)) == Some(made)
    {
        // Somebody else may have done so.
        drop(std::fs::remove_file(file(&path)));
    }
}

/// As [`crate::net::listen::accept_until`], of a listening socket that is a unix one.
pub(crate) async fn accept_until(
    listener: std::net::TcpListener,
    mut standing: watch::Receiver<Standing>,
    serve: impl Fn(TcpStream, SocketAddr),
) {
    let listener = match UnixListener::from_std(OwnedFd::from(listener).into()) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "a listening unix socket cannot be used"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = standing.wait_for(|standing| standing.closing) => break,
            accepted = listener.accept() => accepted.and_then(|(unix, _)| stream(unix)),
        };
        match accepted {
            Ok(stream) => serve(stream, unix::nobody()),
            Err(error) => {
                warn!(%error, "accept failed, retrying");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    // The runtime may not have heard yet of those that wait, so the socket itself is asked.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((unix, _)) = listener.accept() {
        if unix.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(OwnedFd::from(unix).into())
        {
            serve(stream, unix::nobody());
        }
    }
}

/// An open connection as a stream.
pub(crate) fn stream(unix: UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(OwnedFd::from(unix.into_std()?).into())
}

/// The system's name of `/path` or `@name`.
fn file(path: &str) -> PathBuf {
    match path.strip_prefix('@') {
        Some(name) => format!("\0{name}").into(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::*;

    async fn round(name: &str) {
        let listener = UnixListener::bind(file(name)).unwrap();
        let address = unix::address(&format!("unix://{name}")).unwrap();
        let talk = async {
            let mut ours = crate::tcp::connect(address, Some("127.0.0.6".parse().unwrap())).await.unwrap();
            ours.write_all(b"hello").await.unwrap();
            ours.shutdown().await.unwrap();
            let mut heard = Vec::new();
            ours.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let echo = async {
            let (accepted, _) = listener.accept().await.unwrap();
            let mut theirs = stream(accepted).unwrap();
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            theirs.write_all(&heard).await.unwrap();
        };
        assert_eq!(tokio::join!(talk, echo).0, b"hello", "{name}");
    }

    #[tokio::test]
    async fn a_path_and_an_abstract_name_are_connected_to_and_either_direction_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        round(folder.path().join("a.sock").to_str().unwrap()).await;
        round(&format!("@sluice-{}", std::process::id())).await;
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let address = unix::address(&format!("unix://{}", path.display())).unwrap();
        let first = bind(address, 2).unwrap();
        assert_eq!(first.len(), 2);
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bind(address, 1).unwrap().remove(0);
        let waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        unlink(address);
        let (_open, closing) = watch::channel(Standing { closing: true, ..Standing::default() });
        let served = std::cell::Cell::new(0);
        accept_until(second, closing, |_, _| served.set(served.get() + 1)).await;
        assert_eq!((served.get(), path.exists()), (1, false));
        drop(waiting);
        std::fs::write(&path, "no socket").unwrap();
        assert!(bind(address, 1).is_err(), "a file is nobody's socket");
    }

    async fn refused(path: &Path) -> bool {
        let address = unix::address(&format!("unix://{}", path.display())).unwrap();
        connect(address).await.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[tokio::test]
    async fn nobody_is_led_to_the_socket_of_the_identity_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, link) = (folder.path().join("identity"), folder.path().join("link"));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        std::fs::hard_link(&socket, folder.path().join("hard")).unwrap();
        assert!(!refused(&link).await, "it is a socket like any other");
        drop(listener.accept().unwrap());
        keep(socket.clone());
        for path in [&socket, &link, &folder.path().join("hard")] {
            assert!(refused(path).await, "{}", path.display());
        }
        assert!(listener.accept().is_err(), "nobody has come");
        assert!(refused(Path::new(IDENTITY_SOCKET)).await, "where it is not said");
    }

    #[tokio::test]
    async fn the_proxy_does_not_connect_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("door"), folder.path().join("link"));
        let address = unix::address(&format!("unix://{}", path.display())).unwrap();
        let _door = bind(address, 1).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refused(&path).await && refused(&link).await);
        let name = format!("@sluice-door-{}", std::process::id());
        let _abstract = bind(unix::address(&format!("unix://{name}")).unwrap(), 1).unwrap();
        assert!(refused(Path::new(&name)).await);
    }

    #[test]
    fn what_somebody_else_put_in_the_place_of_a_listener_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let address = unix::address(&format!("unix://{}", path.display())).unwrap();
        let _door = bind(address, 1).unwrap();
        std::fs::rename(&path, folder.path().join("ours")).unwrap();
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        unlink(address);
        assert!(path.exists());
    }

    #[test]
    fn somebody_whose_queue_is_full_is_alive_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy");
        let to = SockAddr::unix(&path).unwrap();
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&to).unwrap();
        busy.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            if client.connect(&to).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            waiting.push(client);
        }
        let address = unix::address(&format!("unix://{}", path.display())).unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(bind(address, 1).unwrap_err().kind()));
        assert_eq!(tells.recv_timeout(std::time::Duration::from_secs(10)), Ok(io::ErrorKind::AddrInUse));
    }

    #[tokio::test]
    async fn where_nobody_listens_is_an_error() {
        let address = unix::address("unix:///nowhere/a.sock").unwrap();
        assert_eq!(connect(address).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
