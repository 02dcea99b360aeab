//! The head of an answer, as far as it tells what became of a request that asked for nothing else.

use super::{
    body::Body,
    read::{Asked, response},
};
use crate::http::head::Head;

/// Status and length of the head that `input` begins with; `None` = it is not all there.
///
/// # Errors
/// It is no HTTP/1.x.
pub(crate) fn status(input: &[u8]) -> Result<Option<(u16, usize)>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    Ok(match head.parse(input)? {
        httparse::Status::Complete(length) => Some((head.code.unwrap_or_default(), length)),
        httparse::Status::Partial => None,
    })
}

/// How what follows an answer's whole head is framed.
///
/// # Errors
/// Why that cannot be told, in words.
pub(crate) fn body(answer: &[u8]) -> Result<Body, &'static str> {
    let mut head = Head::default();
    let after = response(answer, Asked { head: false, upgrade: false }, &mut head)?;
    Ok(if after.until_close { Body::until_close() } else { Body::new(head.length) })
}
