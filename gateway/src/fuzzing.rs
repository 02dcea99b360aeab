//! What is fed with arbitrary bytes, by the property tests here and by the fuzz targets in `tests/fuzz`. Each function
//! panics when something does not hold.

pub use crate::http::fuzzing::{chunks, fields, frames, heads};
