//! Every limit and deadline of the HTTP path, as README's table lists them.

use std::time::Duration;

/// Bytes of a request or response head (Envoy's and Istio's limit).
pub(crate) const HEAD_BYTES: usize = 60 * 1024;
/// Fields of a head (Envoy's and Istio's limit).
pub(crate) const FIELDS: usize = 100;
/// Empty lines that may stand before a request or an answer: one that nobody needs is common, many are no HTTP.
pub(crate) const EMPTY_LINES: u8 = 4;
/// A request head, an HTTP/2 preface or the first bytes of a connection are complete within this time.
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// A connection without requests is closed after this time (Istio's idle timeout of downstream connections).
pub(crate) const IDLE: Duration = Duration::from_secs(3600);
/// A connection that has not carried a request yet when its listener stops may bring its first one for this long: whoever
/// opened it is about to send it, and could not tell a close from a failed request.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// Longest wait for a close to go out, and for more of a body that nobody wants any more.
pub(crate) const CLOSE: Duration = Duration::from_secs(2);
/// A request body of HTTP/1.1 brings a byte within this time, while nothing has been answered.
pub(crate) const BODY: Duration = Duration::from_secs(60);
/// Whoever is sent to takes a byte within this time.
pub(crate) const WRITE: Duration = Duration::from_secs(60);
/// A request body of HTTP/2 brings a byte within this time, while nothing has been answered; and so does the open half of a
/// tunnel whose other half has ended.
pub(crate) const STREAM_IDLE: Duration = Duration::from_secs(300);
/// Interim answers (1xx) to one request.
pub(crate) const INTERIM: u32 = 16;
/// Bytes that wait for one socket before the other side is not read any more.
pub(crate) const HIGH: usize = 64 * 1024;
/// Bytes of a request body that are kept to send them again (Envoy's limit).
pub(crate) const REPLAY: usize = 1024 * 1024;
/// So many of them do not count for [`REPLAY_ALL`].
pub(crate) const REPLAY_FREE: usize = 64 * 1024;
/// Bytes of all larger bodies that the process keeps to send them again.
pub(crate) const REPLAY_ALL: usize = 64 * 1024 * 1024;
/// Bytes of all larger bodies that the process holds while somebody is asked about them, with what is made of them.
pub(crate) const HELD_ALL: usize = 128 * 1024 * 1024;
/// Bytes of a request body that are copied for mirrors.
pub(crate) const MIRROR_BODY: usize = 1024 * 1024;
/// Bytes of all bodies that the process holds for mirrors.
pub(crate) const MIRROR_ALL: usize = 64 * 1024 * 1024;
/// A mirrored request is over within this time, its answer included.
pub(crate) const MIRROR: Duration = Duration::from_secs(15);
/// Bytes of the answer of a service that is asked about a request.
pub(crate) const ANSWER: usize = 1024 * 1024;
/// A body that nobody wants is read so long, so that the answer before it arrives (nginx's lingering time).
pub(crate) const LINGER: Duration = Duration::from_secs(30);
/// Bytes of a body that nobody wants which are read before others have their turn.
pub(crate) const UNWANTED: usize = 256 * 1024;
/// Streams of one HTTP/2 connection from a client.
pub(crate) const STREAMS: u32 = 100;
/// Receive window of an HTTP/2 connection, bytes: as much as all its streams may send.
pub(crate) const CONNECTION_WINDOW: u32 = STREAMS * 65_535;
/// Between looks whether an endpoint with requests still answers (HTTP/2 PING).
pub(crate) const PING: Duration = Duration::from_secs(30);
/// An endpoint answers a PING within this time.
pub(crate) const PONG: Duration = Duration::from_secs(10);
/// Malformed HTTP/2 requests in a row before the connection is ended.
pub(crate) const MALFORMED: u32 = 32;
