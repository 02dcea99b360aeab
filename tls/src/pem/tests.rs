use super::*;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";

fn certificates_error(pem: &str) -> String {
    certificates(pem.as_bytes()).expect_err("must not parse").to_string()
}

fn key_error(pem: &str) -> String {
    private_key(pem.as_bytes()).expect_err("must not parse").to_string()
}

#[test]
fn every_certificate_of_a_bundle_is_read_in_order() {
    let other = CERTIFICATE.replace("MAMCAQA=", "MAMCAQE=");
    let read = certificates(format!("# comment\n{CERTIFICATE}{KEY}{other}").as_bytes()).expect("is a bundle");
    assert_eq!(read.iter().map(|der| der[4]).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_bad_certificate_says_what_is_there_instead() {
    assert_eq!(certificates_error(" \n"), "the certificate is empty");
    assert_eq!(certificates_error("hello!"), "no BEGIN CERTIFICATE block");
    assert!(certificates_error(KEY).starts_with("a private key stands where"));
    assert!(certificates_error("0\u{81}").contains("no BEGIN CERTIFICATE block"));
    assert!(certificates_error("-----BEGIN CERTIFICATE-----\nMAMCAQA=\n").contains("END line"));
    assert!(certificates_error(&CERTIFICATE.replace("MAM", "(()")).contains("not base64"));
}

#[test]
fn a_bad_key_says_what_is_there_instead() {
    assert_eq!(key_error(""), "the private key is empty");
    assert_eq!(key_error("hello!"), "no BEGIN PRIVATE KEY block");
    assert!(key_error(CERTIFICATE).starts_with("a certificate stands where"));
    assert!(key_error(&KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")).contains("encrypted"));
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAMCAQA=\n-----END RSA PRIVATE KEY-----\n";
    assert!(key_error(legacy).contains("encrypted"));
}

#[test]
fn a_damaged_block_is_named_by_its_number() {
    let damaged = CERTIFICATE.replace("MAM", "(()");
    assert!(certificates_error(&format!("{CERTIFICATE}{damaged}")).contains("block 2 (CERTIFICATE)"));
}

#[test]
fn what_is_commented_out_is_not_read() {
    let commented = CERTIFICATE.replace("-----BEGIN", "# -----BEGIN");
    assert_eq!(certificates(format!("{commented}{CERTIFICATE}").as_bytes()).expect("is one").len(), 1);
}

/// A text of many blocks is read in time that grows as the text does.
#[test]
fn a_long_bundle_is_read() {
    assert_eq!(certificates(CERTIFICATE.repeat(10_000).as_bytes()).expect("is a bundle").len(), 10_000);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = (certificates(&bytes), private_key(&bytes), revocation_lists(&bytes));
    }

    /// However the letters are broken into lines, they are the same certificate.
    #[test]
    fn lines_do_not_matter(
        der in proptest::collection::vec(proptest::num::u8::ANY, 1..100),
        breaks in proptest::collection::vec("[ \t]{0,2}(\r\n|\n|\r)[ \t]{0,2}", 1..40),
        width in 1..90_usize,
    ) {
        use base64::Engine as _;
        let value = [&[0x30, u8::try_from(der.len()).expect("is short")][..], &der].concat();
        let letters = base64::engine::general_purpose::STANDARD.encode(&value);
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        for (at, line) in letters.as_bytes().chunks(width).enumerate() {
            text.push_str(std::str::from_utf8(line).expect("is ASCII"));
            text.push_str(&breaks[at % breaks.len()]);
        }
        text.push_str("-----END CERTIFICATE-----");
        let read = certificates(text.as_bytes());
        proptest::prop_assert_eq!(read.expect("is a certificate"), [CertificateDer::from(value)]);
    }
}
