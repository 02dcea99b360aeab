//! What is fed with arbitrary bytes, by the property tests here and by the fuzz targets in `tests/fuzz`. Each function
//! panics when something does not hold.

pub use crate::http::fuzzing::{chunks, fields, frames, heads};

/// PROXY headers: whatever is read never reaches beyond the bytes, and the same bytes in parts are never something else.
pub fn proxy_headers(data: &[u8]) {
    use routing::proxy_protocol::{Parsed, parse};
    let whole = parse(data);
    if let Parsed::Header(header) = &whole {
        assert!(header.length <= data.len());
        assert_eq!(parse(&data[..header.length]), whole, "what follows does not matter");
        for cut in 0..header.length {
            assert_eq!(parse(&data[..cut]), Parsed::Incomplete, "{cut}");
        }
    }
}
