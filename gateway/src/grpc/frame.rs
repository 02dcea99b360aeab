//! What stands around a message of gRPC: five bytes that say whether it is compressed, and its length.

use prost::Message;

/// Bytes before a message.
pub(crate) const PREFIX: usize = 5;

/// Why what came is no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Broken {
    /// There is not even a prefix.
    Missing,
    /// It is compressed, which nobody has agreed on.
    Compressed,
    /// There is more or less than one message.
    NotOne,
    /// Its content cannot be read.
    Unreadable,
}

/// A message with what stands before it.
pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    let size = message.encoded_len();
    let mut framed = Vec::with_capacity(PREFIX + size);
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(&mut framed);
    framed
}

/// The length of the message that begins here, as soon as its prefix is there.
///
/// # Errors
/// It is compressed.
pub(crate) fn length(begin: &[u8]) -> Result<Option<usize>, Broken> {
    match begin.first_chunk::<PREFIX>() {
        None => Ok(None),
        Some([0, a, b, c, d]) => Ok(Some(u32::from_be_bytes([*a, *b, *c, *d]) as usize)),
        Some(_) => Err(Broken::Compressed),
    }
}

/// The one message that a body is.
///
/// # Errors
/// [`Broken`].
pub(crate) fn unframe<A: Message + Default>(body: &[u8]) -> Result<A, Broken> {
    let size = length(body)?.ok_or(Broken::Missing)?;
    let message = &body[PREFIX..];
    if size != message.len() {
        return Err(Broken::NotOne);
    }
    A::decode(message).map_err(|_| Broken::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::messages::istio_ca::IstioCertificateResponse;

    #[test]
    fn a_message_goes_there_and_back() {
        let answer = IstioCertificateResponse { cert_chain: vec!["chain".into()] };
        let framed = frame(&answer);
        assert_eq!(framed[..PREFIX], [0, 0, 0, 0, 7]);
        assert_eq!(unframe(&framed), Ok(answer));
    }

    #[test]
    fn whatever_is_no_message_is_told_so() {
        let of = |body: &[u8]| unframe::<IstioCertificateResponse>(body).unwrap_err();
        assert_eq!(of(b""), Broken::Missing);
        assert_eq!(of(&[0; 4]), Broken::Missing);
        assert_eq!(of(&[1, 0, 0, 0, 0]), Broken::Compressed);
        assert_eq!(of(&[0, 0, 0, 0, 1]), Broken::NotOne);
        assert_eq!(of(&[0, 0, 0, 0, 0, 0]), Broken::NotOne);
        assert_eq!(of(&[0, 0, 0, 0, 1, 0xff]), Broken::Unreadable);
    }

    #[test]
    fn a_length_is_known_before_its_message() {
        assert_eq!(length(&[0, 0, 1, 0]), Ok(None));
        assert_eq!(length(&[0, 0, 1, 0, 0]), Ok(Some(65_536)));
        assert_eq!(length(&[0, 0xff, 0xff, 0xff, 0xff, 9]), Ok(Some(u32::MAX as usize)));
    }
}
