//! A distinguished name as one line of RFC 2253, byte for byte as OpenSSL and BoringSSL print it (Envoy shows that).

use std::fmt::Write as _;

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// `CN=client,O=Acme`: last RDN first, short names, special characters and everything beyond ASCII escaped.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    written(name, push_escaped)
}

/// The same, but what is special in a value is two hex digits, so that `,`, `;`, `=` and `"` stand for structure only.
pub(crate) fn in_header(name: &X509Name<'_>) -> String {
    written(name, push_hex)
}

fn written(name: &X509Name<'_>, push: fn(&mut String, &str)) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (position, rdn) in rdns.iter().rev().enumerate() {
        if position > 0 {
            text.push(',');
        }
        let attributes: Vec<_> = rdn.iter().collect();
        for (position, attribute) in attributes.iter().rev().enumerate() {
            if position > 0 {
                text.push('+');
            }
            push_attribute(&mut text, attribute, push);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>, push: fn(&mut String, &str)) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    let _ = write!(text, "{}=", short.unwrap_or(&oid));
    let value = attribute.attr_value();
    match short.and_then(|_| decode(value.tag(), value.data)) {
        Some(value) => push(text, &value),
        None => push_der(text, value.tag(), value.data),
    }
}

/// The value as text; `None` for a type that is not a string, or bytes that are not what the type says.
fn decode(tag: Tag, bytes: &[u8]) -> Option<String> {
    match tag {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString | Tag::T61String => {
            Some(bytes.iter().map(|byte| char::from(*byte)).collect()) // Latin-1, as OpenSSL reads T61
        }
        Tag::BmpString => {
            let (units, []) = bytes.as_chunks::<2>() else {
                return None;
            };
            char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))).collect::<Result<_, _>>().ok()
        }
        Tag::UniversalString => {
            let (units, []) = bytes.as_chunks::<4>() else {
                return None;
            };
            units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect()
        }
        _ => None,
    }
}

fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

fn push_hex(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => {
                let _ = write!(text, "\\{byte:02X}");
            }
            b' ' if at == 0 || at == last => text.push_str("\\20"),
            b'#' if at == 0 => text.push_str("\\23"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

/// `#` and the value's DER in hex, for what has no textual form (RFC 2253 section 2.4).
fn push_der(text: &mut String, tag: Tag, data: &[u8]) {
    let mut der = vec![u8::try_from(tag.0).unwrap_or(0)];
    let length = data.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match u8::try_from(data.len()) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            der.push(0x80 | significant.len() as u8); // at most eight
            der.extend_from_slice(significant);
        }
    }
    der.extend_from_slice(data);
    text.push('#');
    for byte in der {
        let _ = write!(text, "{byte:02X}");
    }
}

/// OpenSSL's short names for the attributes of a subject.
const SHORT_NAMES: [(&str, &str); 24] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &str) -> String {
        let mut text = String::new();
        push_escaped(&mut text, value);
        text
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escaped("a,b+c\"d\\e<f>g;h=i"), "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h=i");
    }

    #[test]
    fn blanks_and_number_signs_are_escaped_at_the_ends_only() {
        assert_eq!(escaped(" # a # "), "\\ # a #\\ ");
        assert_eq!(escaped("#a"), "\\#a");
        assert_eq!(escaped(" "), "\\ ");
    }

    #[test]
    fn control_characters_and_letters_beyond_ascii_become_hex() {
        assert_eq!(escaped("é\r\n\u{7f}"), "\\C3\\A9\\0D\\0A\\7F");
    }

    #[test]
    fn wide_strings_are_decoded() {
        assert_eq!(decode(Tag::BmpString, &[0, b'a', 0x20, 0xac]).as_deref(), Some("a€"));
        assert_eq!(decode(Tag::BmpString, &[0]), None);
        assert_eq!(decode(Tag::UniversalString, &[0, 0, 0, b'z']).as_deref(), Some("z"));
    }

    #[test]
    fn what_is_no_text_is_dumped_as_der() {
        let mut text = String::new();
        push_der(&mut text, Tag::Integer, &[1, 2]);
        push_der(&mut text, Tag::OctetString, &[0; 200]);
        assert!(text.starts_with("#02020102#0481C80000"));
    }
}
