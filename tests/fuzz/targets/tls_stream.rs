//! TLS on both sides: bytes of a peer who keeps no rule, and two honest peers with somebody between them. No panic, no wait
//! without end, nothing taken that was not sent.
//!
//! The first byte says which, the next four how the bytes are cut into reads and writes, the rest is told by [`run`].
#![no_main]

use std::{future::poll_fn, sync::LazyLock, time::Duration};

use tls::{
    accept,
    authority::Authority,
    client::{Certificate, ClientSpec, ClientTls, Names, Roots},
    server::{CertifiedPem, ClientAuth, ServerSpec, ServerTls},
    stream::Stream,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{Builder, Runtime},
};

mod wire;

use wire::{Cuts, Meddler, Told, Wire};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

/// Both sides, as configuration makes them.
struct Sides {
    runtime: Runtime,
    server: ServerTls,
    client: ClientTls,
}

static SIDES: LazyLock<Sides> = LazyLock::new(|| {
    let ca = Authority::new("root").expect("a CA can be made");
    let hour = Duration::from_secs(3600);
    let (shown, own) = (ca.issue_server(&["a.example"], hour), ca.issue_client("client", &["a.example"]));
    let (shown, own) = (shown.expect("it issues"), own.expect("it issues"));
    let root = ca.root_pem().as_bytes().to_vec();
    let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let certificate = CertifiedPem { chain: shown.chain_pem.into(), key: shown.key_pem.into(), ocsp: None };
    let client = ClientAuth::Optional { roots_pem: root.clone(), crl: None, sans: Vec::new() };
    let server = ServerSpec { certificates: vec![certificate], client, alpn: alpn.clone(), ..ServerSpec::default() };
    let certificate = Certificate::Pem { chain: own.chain_pem.into(), key: own.key_pem.into() };
    let client = ClientSpec { roots: Roots::Pem(root), names: Names::Host, certificate, alpn, crl: None, cipher_suites: Vec::new(), curves: Vec::new() };
    Sides {
        runtime: Builder::new_current_thread().enable_time().build().expect("a runtime"),
        server: ServerTls::build(&server, None).expect("a server"),
        client: ClientTls::build(&client, None).expect("a client"),
    }
});

fn run(data: &[u8]) {
    let Some(([how, cuts @ ..], rest)) = data.split_first_chunk::<5>() else { return };
    let cuts = Cuts::new(*cuts);
    let sides = &*SIDES;
    match how % 4 {
        0 => sides.runtime.block_on(server_hears(&sides.server, Told::new(rest, cuts))),
        1 => sides.runtime.block_on(client_hears(&sides.client, Told::new(rest, cuts))),
        2 => sides.runtime.block_on(honest(sides, rest, cuts)),
        _ => sides.runtime.block_on(meddled(sides, rest, cuts)),
    }
}

/// Whatever a client says.
async fn server_hears(server: &ServerTls, mut told: Told) {
    let Ok(hello) = accept::hello(Stream::new(&mut told)).await else { return };
    assert!(hello.sni().is_none_or(|sni| !sni.bytes().any(|byte| byte.is_ascii_uppercase())));
    if hello.accept(server).await.is_ok() {
        panic!("a handshake without a key");
    }
}

/// Whatever a server says.
async fn client_hears(client: &ClientTls, mut told: Told) {
    if client.connect("a.example", &mut told).await.is_ok() {
        panic!("a handshake without a key");
    }
}

/// Two peers who mean it: whatever the cuts are, each hears what the other one said, and that it was all. The first byte
/// says how often the rest is said.
async fn honest(sides: &Sides, rest: &[u8], cuts: Cuts) {
    let Some((times, said)) = rest.split_first() else { return };
    let said = said.repeat(usize::from(*times) + 1);
    let (near, far, both) = Wire::pair(cuts, Meddler::default());
    let (heard, echoed) =
        both.drive(async { tokio::join!(serve(&sides.server, far), ask(&sides.client, near, &said)) }).await;
    assert!(heard.sent == said && heard.whole, "the server heard {} of {}", heard.sent.len(), said.len());
    assert!(echoed.sent == said && echoed.whole, "the client heard {} of {}", echoed.sent.len(), said.len());
}

/// The same with somebody between them, whom the first bytes say: each hears a part of what was said from its beginning, and
/// takes it for all only when it is.
async fn meddled(sides: &Sides, rest: &[u8], cuts: Cuts) {
    let Some((meddler, said)) = Meddler::new(rest) else { return };
    let (near, far, both) = Wire::pair(cuts, meddler);
    let (heard, echoed) =
        both.drive(async { tokio::join!(serve(&sides.server, far), ask(&sides.client, near, said)) }).await;
    for (who, heard) in [("server", heard), ("client", echoed)] {
        assert!(said.starts_with(&heard.sent), "the {who} heard what nobody said");
        assert!(!heard.whole || heard.sent == said, "the {who} takes a part for all");
    }
}

/// What one side heard.
#[derive(Default)]
struct Heard {
    sent: Vec<u8>,
    /// The other side said that this was all.
    whole: bool,
}

/// Sends back what comes.
async fn serve(server: &ServerTls, wire: Wire) -> Heard {
    let mut heard = Heard::default();
    let Ok(hello) = accept::hello(Stream::new(wire)).await else { return heard };
    let Ok(mut stream) = hello.accept(server).await else { return heard };
    while let Ok(true) = poll_fn(|cx| stream.poll_readable(cx)).await {
        let (input, out) = stream.both();
        heard.sent.extend_from_slice(input);
        out.push(input);
        let count = input.len();
        stream.consume(count);
        if poll_fn(|cx| stream.poll_flush_all(cx)).await.is_err() {
            return heard;
        }
    }
    heard.whole = stream.ended_properly();
    // Who heard a part echoes a part, and must not say then that it was all: the other side could not tell.
    if heard.whole {
        let _ = poll_fn(|cx| stream.poll_close(cx)).await;
    }
    heard
}

/// Sends all, says that it was all, and hears what comes back.
async fn ask(client: &ClientTls, wire: Wire, said: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let Ok(mut stream) = client.connect("a.example", wire).await else { return heard };
    for piece in said.chunks(said.len().div_ceil(3).max(1)) {
        stream.out().push(piece);
        if poll_fn(|cx| stream.poll_flush_all(cx)).await.is_err() {
            return heard;
        }
        // Something may have come already.
        if heard.sent.len() < said.len() / 2 && !hear(&mut stream, &mut heard).await {
            return heard;
        }
    }
    if poll_fn(|cx| stream.poll_close(cx)).await.is_err() {
        return heard;
    }
    while hear(&mut stream, &mut heard).await {}
    heard.whole = stream.ended_properly();
    heard
}

/// What one wake-up brings; whether more may come.
async fn hear<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<IO>, heard: &mut Heard) -> bool {
    let more = poll_fn(|cx| stream.poll_fill(cx)).await;
    heard.sent.extend_from_slice(stream.input());
    let count = stream.input().len();
    stream.consume(count);
    matches!(more, Ok(true))
}
