//! What to say on a gateway's port that speaks no HTTP.

use std::net::SocketAddr;

use routing::{opaque::OpaqueTable, snapshot::Snapshot};

use super::{Step, names, ready};

/// How URLs of these steps begin: what curl calls a connection that is only bytes.
pub(super) const SCHEME: &str = "telnet://";

/// The step of a port that is plain bytes; `None`: nobody is behind it.
pub(super) fn step(snapshot: &Snapshot, table: &OpaqueTable, at: SocketAddr) -> Option<Step> {
    let ready = ready(snapshot, &table.first()?.to);
    if ready.is_empty() {
        return None;
    }
    let url = format!("{SCHEME}{at}");
    Some(Step {
        expect: format!("{} has the first word, then answers each line", names(&ready)),
        // curl goes when the server does, so somebody has to say goodbye.
        command: format!(r"printf 'hello\nquit\n' | curl -sS {url}"),
        url,
    })
}
