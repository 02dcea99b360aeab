//! Sockets in memory.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes each read and each write carries at most; none the first time: not now.
#[derive(Clone, Copy)]
pub struct Cuts {
    sizes: [u8; 4],
    at: usize,
    waited: bool,
}

impl Cuts {
    pub fn new(sizes: [u8; 4]) -> Self {
        Self { sizes, at: 0, waited: false }
    }

    /// The next size; `None`: not now, the task is woken again.
    fn next(&mut self, cx: &Context<'_>) -> Option<usize> {
        let size = usize::from(self.sizes[self.at % 4]);
        if size == 0 && !self.waited {
            self.waited = true;
            STIRRED.set(true);
            cx.waker().wake_by_ref();
            return None;
        }
        self.waited = false;
        self.at += 1;
        // Small ones in steps of one, large ones up to more than a record.
        Some(if size < 64 { size.max(1) } else { (size - 63) * 128 })
    }
}

/// A peer who says this and then no more, and takes whatever comes.
pub struct Told {
    left: VecDeque<u8>,
    reads: Cuts,
    writes: Cuts,
    written: usize,
    /// What may still be asked of it before somebody turns in circles.
    patience: usize,
    most: usize,
}

impl Told {
    pub fn new(bytes: &[u8], cuts: Cuts) -> Self {
        let (patience, most) = (8 * bytes.len() + 20_000, 2 * bytes.len() + 64 * 1024);
        Self { left: bytes.iter().copied().collect(), reads: cuts, writes: cuts, written: 0, patience, most }
    }

    fn asked(&mut self) {
        self.patience = self.patience.checked_sub(1).expect("it ends");
    }
}

impl AsyncRead for Told {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.asked();
        let Some(size) = self.reads.next(cx) else { return Poll::Pending };
        let count = size.min(buf.remaining()).min(self.left.len());
        self.left.drain(..count).for_each(|byte| buf.put_slice(&[byte]));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Told {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked();
        let Some(size) = self.writes.next(cx) else { return Poll::Pending };
        let count = size.min(bytes.len());
        self.written += count;
        assert!(self.written <= self.most, "so much is said to nobody");
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Who sits between two peers: what happens to which bytes.
#[derive(Clone, Default)]
pub struct Meddler {
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
struct Step {
    /// Of what the client sends, or the server.
    of_client: bool,
    /// Which byte.
    at: usize,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Change(u8),
    Insert(u8),
    Drop,
    /// Nothing more comes.
    End,
}

impl Meddler {
    /// The first byte says how many steps, each is four bytes; what is left is said by the peers.
    pub fn new(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first()?;
        let (steps, said) = rest.split_at_checked(4 * usize::from(count % 8))?;
        let steps = steps.chunks_exact(4).map(|step| Step {
            of_client: step[0] & 1 == 0,
            at: usize::from(step[1]) << 8 | usize::from(step[2]),
            what: match step[0] >> 1 & 3 {
                0 => What::Change(step[3]),
                1 => What::Insert(step[3]),
                2 => What::Drop,
                _ => What::End,
            },
        });
        Some((Self { steps: steps.collect() }, said))
    }
}

/// Bytes in one direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    sent: usize,
    ended: bool,
    reader: Option<Waker>,
    of_client: bool,
    meddler: Meddler,
}

impl Pipe {
    fn new(of_client: bool, meddler: Meddler) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { of_client, meddler, ..Self::default() }))
    }

    fn push(&mut self, byte: u8) {
        let (at, of_client) = (self.sent, self.of_client);
        self.sent += 1;
        let mut byte = Some(byte);
        for step in self.meddler.steps.iter().filter(|step| step.of_client == of_client && step.at == at) {
            match step.what {
                What::Change(by) => byte = byte.map(|byte| byte ^ by),
                What::Insert(other) => self.bytes.push_back(other),
                What::Drop => byte = None,
                What::End => self.ended = true,
            }
        }
        if !self.ended {
            self.bytes.extend(byte);
        }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            STIRRED.set(true);
            reader.wake();
        }
    }
}

thread_local! {
    /// Somebody was woken.
    static STIRRED: Cell<bool> = const { Cell::new(false) };
}

/// Both directions of a connection, to end them.
pub struct Both([Rc<RefCell<Pipe>>; 2]);

impl Both {
    fn end(&self) {
        for pipe in &self.0 {
            let mut pipe = pipe.borrow_mut();
            pipe.ended = true;
            pipe.wake();
        }
    }

    /// Does the peers' work to its end. When each waits for the other one, which must not be when nobody meddles, the
    /// connection ends.
    pub async fn drive<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let meddled = self.0.iter().any(|pipe| !pipe.borrow().meddler.steps.is_empty());
        let mut ended = false;
        poll_fn(|cx| {
            loop {
                STIRRED.set(false);
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                if !STIRRED.get() {
                    assert!(meddled && !ended, "each waits for the other one");
                    ended = true;
                    self.end();
                }
            }
        })
        .await
    }
}

/// One end of a connection.
pub struct Wire {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
    reads: Cuts,
    writes: Cuts,
}

impl Wire {
    /// The client's end and the server's.
    pub fn pair(cuts: Cuts, meddler: Meddler) -> (Self, Self, Both) {
        let (up, down) = (Pipe::new(true, meddler.clone()), Pipe::new(false, meddler));
        let both = Both([Rc::clone(&up), Rc::clone(&down)]);
        let server = Self { incoming: Rc::clone(&up), outgoing: Rc::clone(&down), reads: cuts, writes: cuts };
        (Self { incoming: down, outgoing: up, reads: cuts, writes: cuts }, server, both)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut pipe = self.outgoing.borrow_mut();
        pipe.ended = true;
        pipe.wake();
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut pipe = this.incoming.borrow_mut();
        if pipe.bytes.is_empty() && !pipe.ended {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(size) = this.reads.next(cx) else { return Poll::Pending };
        let count = size.min(buf.remaining()).min(pipe.bytes.len());
        pipe.bytes.drain(..count).for_each(|byte| buf.put_slice(&[byte]));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(size) = self.writes.next(cx) else { return Poll::Pending };
        let mut pipe = self.outgoing.borrow_mut();
        let count = size.min(bytes.len());
        bytes[..count].iter().for_each(|byte| pipe.push(*byte));
        pipe.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.outgoing.borrow_mut();
        pipe.ended = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}
