//! Which trace a request belongs to, as headers pass it on: W3C's `traceparent`, and Zipkin's B3 in several headers or one.

/// Who has called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parent {
    /// The trace.
    pub trace: u128,
    /// The caller's span; 0 = there is none, and the trace has been decided about alone.
    pub span: u64,
    /// Whether the caller is traced; `None`: he leaves it to others.
    pub sampled: Option<bool>,
}

/// Of `traceparent` (W3C Trace Context, level 1). Versions to come begin as the first one does.
pub fn of_w3c(value: &[u8]) -> Option<Parent> {
    let mut parts = value.split(|byte| *byte == b'-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let known = version == b"00";
    if version.len() != 2 || version == b"ff" || hex::<2>(version).is_none() || (known && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (hex::<32>(trace)?, hex::<16>(span)?);
    let flags = hex::<2>(flags)?;
    (trace != 0 && span != 0).then_some(Parent { trace, span: span as u64, sampled: Some(flags & 1 == 1) })
}

/// Of `b3`: `TRACE-SPAN-SAMPLED-PARENT`, with the last two left out as wished, or the decision alone.
pub fn of_b3(value: &[u8]) -> Option<Parent> {
    let mut parts = value.split(|byte| *byte == b'-');
    let first = parts.next()?;
    let span = parts.next()?;
    let sampled = match parts.next() {
        None => None,
        Some(b"1" | b"d") => Some(true),
        Some(b"0") => Some(false),
        Some(_) => return None,
    };
    if let Some(parent) = parts.next() {
        hex::<16>(parent)?;
    }
    let parent = Parent { trace: trace_of(first)?, span: hex::<16>(span)? as u64, sampled };
    (parts.next().is_none() && parent.trace != 0 && parent.span != 0).then_some(parent)
}

/// What `b3` decides without naming a trace: `0`, `1`, `d`.
pub fn decision_of_b3(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"d" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

/// Of `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`.
pub fn of_b3_fields(trace: &[u8], span: &[u8], sampled: Option<&[u8]>, flags: Option<&[u8]>) -> Option<Parent> {
    let parent = Parent { trace: trace_of(trace)?, span: hex::<16>(span)? as u64, sampled: decision(sampled, flags) };
    (parent.trace != 0 && parent.span != 0).then_some(parent)
}

/// What `x-b3-sampled` and `x-b3-flags` decide.
pub fn decision(sampled: Option<&[u8]>, flags: Option<&[u8]>) -> Option<bool> {
    if flags == Some(b"1") {
        return Some(true);
    }
    match sampled? {
        b"1" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// Trace ids of B3 have 64 bits or 128.
fn trace_of(text: &[u8]) -> Option<u128> {
    if text.len() == 16 { hex::<16>(text) } else { hex::<32>(text) }
}

/// A number of exactly so many digits.
fn hex<const DIGITS: usize>(text: &[u8]) -> Option<u128> {
    if text.len() != DIGITS {
        return None;
    }
    text.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// `traceparent` of a span.
pub fn w3c(trace: u128, span: u64, sampled: bool) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    text[3..35].copy_from_slice(&trace_text(trace));
    text[36..52].copy_from_slice(&span_text(span));
    text[54] = b'0' + u8::from(sampled);
    text
}

/// A trace id as text.
pub fn trace_text(trace: u128) -> [u8; 32] {
    digits(trace)
}

/// A trace id as B3 writes it: what has 64 bits has 16 digits.
pub fn b3_digits(text: &[u8; 32]) -> &[u8] {
    text.strip_prefix(&[b'0'; 16]).unwrap_or(text)
}

/// A span's id as text.
pub fn span_text(span: u64) -> [u8; 16] {
    digits(u128::from(span))
}

fn digits<const DIGITS: usize>(mut number: u128) -> [u8; DIGITS] {
    let mut text = [0; DIGITS];
    for place in text.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parent(sampled: Option<bool>) -> Parent {
        Parent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7, sampled }
    }

    #[test]
    fn traces_of_w3c_are_read_as_its_text_says() {
        let read = |text: &str| of_w3c(text.as_bytes());
        assert_eq!(read(&format!("00-{TRACE}-{SPAN}-01")), Some(parent(Some(true))));
        assert_eq!(read(&format!("00-{TRACE}-{SPAN}-00")), Some(parent(Some(false))));
        assert_eq!(read(&format!("cc-{TRACE}-{SPAN}-03-more")), Some(parent(Some(true))));
        for wrong in [
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            String::new(),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn traces_of_b3_are_read_in_both_forms() {
        let one = |text: &str| of_b3(text.as_bytes());
        assert_eq!(one(&format!("{TRACE}-{SPAN}-1")), Some(parent(Some(true))));
        assert_eq!(one(&format!("{TRACE}-{SPAN}-d-{SPAN}")), Some(parent(Some(true))));
        assert_eq!(one(&format!("{TRACE}-{SPAN}-0")), Some(parent(Some(false))));
        assert_eq!(one(&format!("{TRACE}-{SPAN}")), Some(parent(None)));
        assert_eq!(one(&format!("{}-{SPAN}", &TRACE[16..])).map(|it| it.trace), Some(0xa3ce_929d_0e0e_4736));
        for wrong in ["", "1", "x-y", &format!("{TRACE}-{SPAN}-2"), &format!("{TRACE}-{SPAN}-1-x")] {
            assert_eq!(one(wrong), None, "{wrong}");
        }
        assert_eq!((decision_of_b3(b"d"), decision_of_b3(b"0"), decision_of_b3(b"x")), (Some(true), Some(false), None));
        let many = |sampled: Option<&str>, flags: Option<&str>| {
            of_b3_fields(TRACE.as_bytes(), SPAN.as_bytes(), sampled.map(str::as_bytes), flags.map(str::as_bytes))
        };
        assert_eq!(many(Some("1"), None), Some(parent(Some(true))));
        assert_eq!(many(Some("0"), Some("1")), Some(parent(Some(true))));
        assert_eq!(many(None, None), Some(parent(None)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., sampled: bool) {
            let expected = Some(Parent { trace, span, sampled: Some(sampled) });
            prop_assert_eq!(of_w3c(&w3c(trace, span, sampled)), expected);
            let one = [&trace_text(trace)[..], b"-", &span_text(span), if sampled { b"-1" } else { b"-0" }].concat();
            prop_assert_eq!(of_b3(&one), expected);
            let given = of_b3_fields(&trace_text(trace), &span_text(span), Some(if sampled { b"1" } else { b"0" }), None);
            prop_assert_eq!(given, expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[0-9a-f-]{0,70}") {
            for value in [&bytes[..], text.as_bytes()] {
                let _ = (of_w3c(value), of_b3(value), decision_of_b3(value));
                let _ = of_b3_fields(value, value, Some(value), Some(value));
            }
        }
    }
}
