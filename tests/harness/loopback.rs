//! Addresses: every story has a block of its own, so all of them can use the usual ports at the same time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A block `127.a.b.0/24` that belongs to one story until it is dropped.
#[derive(Debug)]
pub struct Loopback {
    a: u8,
    b: u8,
    _claim: TcpListener,
}

impl Loopback {
    /// Claims a free block; the claim is a socket, so it ends with the process whatever happens.
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = process::id().wrapping_mul(7) + NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(4099);
        (0..BLOCKS)
            .find_map(|step| {
                let block = (start.wrapping_add(step)) % BLOCKS;
                let (a, b) = (64 + (block / 256) as u8, (block % 256) as u8);
                let claim = TcpListener::bind((Ipv4Addr::new(127, a, b, 254), CLAIM_PORT)).ok()?;
                Some(Self { a, b, _claim: claim })
            })
            .expect("one of 16,384 address blocks is free")
    }

    /// Address `last` of the block.
    pub fn ip(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.a, self.b, last).into()
    }

    /// Port `port` on address `last` of the block.
    pub fn at(&self, last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(last), port)
    }
}

/// `127.64.0.0` to `127.127.255.0`: away from 127.0.0.0/16, which everybody uses, and from the demo's 127.10.0.0/16.
const BLOCKS: u32 = 64 * 256;

/// Below the ephemeral ports and used by nothing else here.
const CLAIM_PORT: u16 = 19_999;
