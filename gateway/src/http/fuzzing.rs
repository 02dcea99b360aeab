//! What has to hold of the codecs whatever bytes come.

use tls::buffer::Buffer;

use super::{
    h1::{
        body::{Body, Malformed, Next},
        read::{self, Asked, Scan},
        write,
    },
    head::{Head, Length},
    limits::{FIELDS, HEAD_BYTES},
    name::Name,
};

pub use super::h2::fuzzing::{fields, frames};

/// More than a writer adds to a head, bytes.
const ADDED: usize = 256;

/// What the first byte says of the rest: how it is cut.
fn split(data: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (how, bytes) = data.split_first()?;
    Some((*how, usize::from(how >> 2) + 1, bytes))
}

/// Heads of requests and answers: the reads that bring one do not matter, and what was read is what is read again after it
/// was written.
pub fn heads(data: &[u8]) {
    let Some((how, step, bytes)) = split(data) else { return };
    let whole = Scan::default().end(bytes);
    let mut scan = Scan::default();
    let ends = (step..bytes.len()).step_by(step).chain([bytes.len()]);
    let cut = ends.map(|end| scan.end(&bytes[..end])).find(|found| !matches!(found, Ok(None))).unwrap_or(Ok(None));
    assert_eq!(whole, cut, "the end of a head depends on the reads that bring it");
    let Ok(Some(end)) = whole else { return };
    // What was read may be as much as is taken, and the writer adds a length.
    let lines = memchr::memchr_iter(b'\n', &bytes[..end]).count();
    if lines > FIELDS || end + ADDED > HEAD_BYTES {
        return;
    }
    let (mut head, mut again, mut out) = (Head::default(), Head::default(), Buffer::default());
    if how & 1 == 0 {
        if read::request(&bytes[..end], &mut head).is_err() {
            return;
        }
        write::request(&head, how & 2 != 0, &mut out);
        assert_eq!(read_again(&out, |bytes| read::request(bytes, &mut again)), Ok(()));
        assert_eq!(
            (head.method(), head.target(), head.authority()),
            (again.method(), again.target(), again.authority())
        );
    } else {
        let asked = Asked { head: how & 2 != 0, upgrade: false };
        if read::response(&bytes[..end], asked, &mut head).is_err() {
            return;
        }
        write::response(&head, false, &mut out);
        assert_eq!(read_again(&out, |bytes| read::response(bytes, asked, &mut again).map(drop)), Ok(()));
        assert_eq!(head.status, again.status);
    }
    assert_eq!(sorted(&head), sorted(&again));
    let none = |length| matches!(length, Length::Empty | Length::Exact(0));
    assert!(head.length == again.length || none(head.length) && none(again.length));
}

fn read_again<E>(out: &Buffer, read: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let end = Scan::default().end(out.as_slice());
    assert_eq!(end, Ok(Some(out.len())), "what was written is one head");
    read(out.as_slice())
}

/// Fields without those that tell the length, which the writer may add.
fn sorted(head: &Head) -> Vec<(String, Vec<u8>)> {
    let fields = head.fields().filter(|(known, ..)| *known != Name::ContentLength);
    let mut all: Vec<_> =
        fields.map(|(_, name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec())).collect();
    all.sort();
    all
}

/// Chunked bodies: the reads that bring one do not matter.
pub fn chunks(data: &[u8]) {
    let Some((_, step, bytes)) = split(data) else { return };
    let (whole, cut) = (read_chunks(bytes, bytes.len().max(1)), read_chunks(bytes, step));
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (whole, cut) => assert_eq!(whole.is_ok(), cut.is_ok()),
    }
}

/// Content, whether the end has come, and how many trailers.
fn read_chunks(bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool, usize), Malformed> {
    let mut body = Body::new(Length::Unknown);
    let (mut waiting, mut content) = (Vec::new(), Vec::new());
    for part in bytes.chunks(step) {
        waiting.extend_from_slice(part);
        loop {
            match body.next(&waiting)? {
                Next::More => break,
                Next::Data { skip, len } => {
                    content.extend_from_slice(&waiting[skip..skip + len]);
                    waiting.drain(..skip + len);
                    body.took(len);
                }
                Next::End { .. } => {
                    let trailers = body.trailers.as_ref().map_or(0, |trailers| trailers.fields().count());
                    return Ok((content, true, trailers));
                }
            }
        }
    }
    Ok((content, false, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that look like a message for a while.
    fn nearly(seeds: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => prop::sample::select(seeds).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
            1 => prop::sample::select(&["\r\n", "\r\n\r\n", "\n", " ", ":", "0", "\0"][..]).prop_map(|it| it.as_bytes().to_vec()),
        ];
        (any::<u8>(), prop::collection::vec(piece, 0..12)).prop_map(|(how, pieces)| {
            let mut all = vec![how];
            all.extend(pieces.concat());
            all
        })
    }

    const HEADS: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /a?b=c HTTP/1.1\r\nhost: a.example\r\n",
        "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.0 200\r\n",
        "Host: a.example\r\n",
        "content-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close, te\r\nte: trailers\r\n",
        "connection: x\r\nx: y\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n",
        "cookie: a=b\r\n",
        "\r\n",
    ];
    const CHUNKS: &[&str] =
        &["5\r\nhello\r\n", "0\r\n\r\n", "0\r\n", "a;x=y\r\n0123456789\r\n", "x: y\r\n", "\r\n", "1\r\n"];

    #[test]
    fn a_head_with_all_the_fields_that_are_taken_may_be_written_with_one_more() {
        let field = "x: y\r\n";
        for count in FIELDS - 2..=FIELDS + 1 {
            heads(format!("\0POST / HTTP/1.1\r\nhost: a.example\r\n{}\r\n", field.repeat(count - 1)).as_bytes());
        }
        let long = "y".repeat(HEAD_BYTES);
        for length in HEAD_BYTES - 300..HEAD_BYTES {
            heads(format!("\0POST / HTTP/1.1\r\nhost: a.example\r\nx: {}\r\n\r\n", &long[..length]).as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_head_depends_on_its_reads_and_each_is_read_as_it_was_written(data in nearly(HEADS)) {
            heads(&data);
        }

        #[test]
        fn no_chunked_body_depends_on_its_reads(data in nearly(CHUNKS)) {
            chunks(&data);
        }
    }
}
