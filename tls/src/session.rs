//! TLS without a socket: records in, plain bytes out, and the reverse (rustls's unbuffered API).
//!
//! What a record holds goes straight into the caller's buffer, and what is sealed is written straight into the buffer that
//! goes to the socket.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::Error;
use crate::buffer::Buffer;
use crate::cipher;

/// What a record adds to the bytes in it, at most (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const OVERHEAD: usize = 64;
/// Plain bytes of a full record.
const RECORD: usize = 16 * 1024;

/// One side of one TLS connection.
pub(crate) struct Session {
    side: Side,
    /// The peer has said that it sends no more.
    pub(crate) ended: bool,
    /// rustls must not be asked again after an error: it would send its alert twice.
    failed: bool,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.version()).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// How far a look at the records came.
enum Turn {
    /// There may be more to do.
    Again,
    /// The peer will send no more.
    Ended,
    /// More records are needed, or there is nothing left to do.
    Done,
}

/// The buffers round a session.
pub(crate) struct Wires<'a> {
    /// Records that have come.
    pub(crate) incoming: &'a mut Buffer,
    /// What they held.
    pub(crate) plain: &'a mut Buffer,
    /// Records to send.
    pub(crate) outgoing: &'a mut Buffer,
}

impl Session {
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config).map_err(Error::from_handshake)?;
        Ok(Self { side: Side::Server(connection), ended: false, failed: false })
    }

    pub(crate) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(Error::from_handshake)?;
        Ok(Self { side: Side::Client(connection), ended: false, failed: false })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.side {
            Side::Server(connection) => connection.is_handshaking(),
            Side::Client(connection) => connection.is_handshaking(),
        }
    }

    /// With the client's last word, a server of TLS 1.3 has all it needs: what it says then are tickets (RFC 8446 section 4.6.1).
    pub(crate) fn has_given_tickets(&self) -> bool {
        match &self.side {
            Side::Server(it) => !it.is_handshaking() && it.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            Side::Client(_) => false,
        }
    }

    /// Takes whole records from `wires.incoming`, adds what they hold to `wires.plain` and what they ask to be answered to
    /// `wires.outgoing`. A part of a record stays.
    ///
    /// # Errors
    /// What rustls objects to; the alert that says so is in `wires.outgoing` then.
    pub(crate) fn open(&mut self, wires: &mut Wires<'_>) -> Result<(), rustls::Error> {
        self.turn(wires, &Work::Nothing)
    }

    /// Adds records that hold `plain` to `wires.outgoing`, and before them what rustls has to say itself (tickets, key
    /// updates).
    ///
    /// # Errors
    /// When the handshake is not complete, the connection is closed, or its keys are used up.
    pub(crate) fn seal(&mut self, plain: &[u8], wires: &mut Wires<'_>) -> Result<(), rustls::Error> {
        self.turn(wires, &Work::Seal(plain))
    }

    /// Adds the close_notify alert to `wires.outgoing`.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn close(&mut self, wires: &mut Wires<'_>) -> Result<(), rustls::Error> {
        self.turn(wires, &Work::Close)
    }

    /// Reading and writing are one loop: rustls wants to see the rest of a handshake message that came in parts whatever it
    /// is asked for, and may have something to say before it lets us write.
    fn turn(&mut self, wires: &mut Wires<'_>, work: &Work<'_>) -> Result<(), rustls::Error> {
        if self.failed {
            return Err(rustls::Error::General("the connection has failed before".to_owned()));
        }
        loop {
            let incoming = wires.incoming.as_mut_slice();
            let (discard, turn) = match &mut self.side {
                Side::Server(it) => turn(it.process_tls_records(incoming), wires.plain, wires.outgoing, work),
                Side::Client(it) => turn(it.process_tls_records(incoming), wires.plain, wires.outgoing, work),
            };
            wires.incoming.consume(discard);
            match turn {
                Ok(Turn::Again) => {}
                Ok(Turn::Done) => return Ok(()),
                Ok(Turn::Ended) => {
                    self.ended = true;
                    // What follows a close_notify is nobody's (RFC 8446 section 6.1).
                    wires.incoming.clear();
                }
                Err(error) => {
                    self.failed = true;
                    self.alert(wires.outgoing);
                    return Err(error);
                }
            }
        }
    }

    /// What rustls still has to say on a connection that failed: the alert. Records are not looked at any more.
    fn alert(&mut self, out: &mut Buffer) {
        loop {
            let said = match &mut self.side {
                Side::Server(it) => it.wants_write() && said(it.process_tls_records(&mut []).state, out),
                Side::Client(it) => it.wants_write() && said(it.process_tls_records(&mut []).state, out),
            };
            if !said {
                return;
            }
        }
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Server(connection) => connection.alpn_protocol(),
            Side::Client(connection) => connection.alpn_protocol(),
        }
    }

    pub(crate) fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match &self.side {
            Side::Server(connection) => connection.peer_certificates(),
            Side::Client(connection) => connection.peer_certificates(),
        }
    }

    pub(crate) fn resumed(&self) -> bool {
        let kind = match &self.side {
            Side::Server(connection) => connection.handshake_kind(),
            Side::Client(connection) => connection.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn version(&self) -> &'static str {
        let version = match &self.side {
            Side::Server(connection) => connection.protocol_version(),
            Side::Client(connection) => connection.protocol_version(),
        };
        match version {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        }
    }

    pub(crate) fn cipher(&self) -> &'static str {
        let suite = match &self.side {
            Side::Server(connection) => connection.negotiated_cipher_suite(),
            Side::Client(connection) => connection.negotiated_cipher_suite(),
        };
        suite.map_or("unknown", |suite| cipher::name(suite.suite()))
    }
}

/// What to do once rustls lets us write.
enum Work<'a> {
    Nothing,
    Seal(&'a [u8]),
    Close,
}

/// One step: how many bytes of the records are done with, and whether to go on.
fn turn<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Buffer,
    out: &mut Buffer,
    work: &Work<'_>,
) -> (usize, Result<Turn, rustls::Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let turn = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut read = Ok(Turn::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain.push(record.payload);
                    }
                    Err(error) => read = Err(error),
                }
            }
            read
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out).map(|()| Turn::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Turn::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Turn::Ended),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let written = match work {
                Work::Nothing => Ok(0),
                Work::Seal(bytes) => {
                    let needed = bytes.len() + (bytes.len() / RECORD + 1) * OVERHEAD;
                    traffic.encrypt(bytes, out.room(needed))
                }
                Work::Close => traffic.queue_close_notify(out.room(2 * OVERHEAD)),
            };
            written.map(|written| out.filled(written)).map(|()| Turn::Done).map_err(general)
        }
        // Early data is off in every configuration, so the others have nothing for us.
        Ok(_) if matches!(work, Work::Nothing) => Ok(Turn::Done),
        Ok(_) => Err(rustls::Error::General("the connection cannot send".to_owned())),
    };
    (discard, turn)
}

fn general(error: EncryptError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

/// Whether there was something to say.
fn said<Data>(state: Result<ConnectionState<'_, '_, Data>, rustls::Error>, out: &mut Buffer) -> bool {
    match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out).is_ok(),
        _ => false,
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Buffer) -> Result<(), rustls::Error> {
    let mut least = 1024;
    loop {
        match data.encode(out.room(least)) {
            Ok(written) => {
                out.filled(written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => least = size.required_size,
            Err(error @ EncodeError::AlreadyEncoded) => return Err(rustls::Error::General(error.to_string())),
        }
    }
}
