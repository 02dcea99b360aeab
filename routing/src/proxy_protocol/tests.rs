use proptest::prelude::*;

use super::*;

fn header(parsed: Parsed) -> Header {
    match parsed {
        Parsed::Header(header) => header,
        other => panic!("{other:?}"),
    }
}

fn v2(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([version, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    bytes
}

const ADDRESSES: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

#[test]
fn lines_of_version_1() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /";
    let found = header(parse(line));
    assert_eq!(found.length, line.len() - 5);
    assert_eq!(found.addresses, Some(("192.0.2.1:56324".parse().unwrap(), "198.51.100.1:443".parse().unwrap())));
    let six = header(parse(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"));
    assert_eq!(six.addresses, Some(("[2001:db8::1]:1".parse().unwrap(), "[::1]:65535".parse().unwrap())));
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"] {
        assert_eq!(header(parse(unknown.as_bytes())), Header { length: unknown.len(), addresses: None });
    }
}

#[test]
fn lines_that_are_none() {
    for bad in [
        "PROXY\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1  2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n\0\r\nQUIX",
    ] {
        assert!(matches!(parse(bad.as_bytes()), Parsed::Invalid(_)), "{bad:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert!(matches!(parse(endless.as_bytes()), Parsed::Invalid(_)));
}

#[test]
fn headers_of_version_2() {
    let found = header(parse(&v2(0x21, 0x11, &ADDRESSES)));
    assert_eq!(found.length, 28);
    assert_eq!(found.addresses, Some(("192.0.2.1:56324".parse().unwrap(), "198.51.100.1:443".parse().unwrap())));

    let cases: [(u8, u8, Vec<u8>); 6] = [
        (0x20, 0x00, vec![]),
        (0x20, 0x11, ADDRESSES.to_vec()),
        (0x20, 0xff, vec![1, 2, 3]),
        (0x21, 0x00, vec![]),
        (0x21, 0x12, ADDRESSES.to_vec()),
        (0x21, 0x31, vec![7; 216]),
    ];
    for (version, family, rest) in cases {
        let bytes = v2(version, family, &rest);
        assert_eq!(header(parse(&bytes)), Header { length: bytes.len(), addresses: None }, "{version:x} {family:x}");
    }
    for (version, family, rest) in [
        (0x11, 0x11, &ADDRESSES[..]),
        (0x22, 0x11, &ADDRESSES),
        (0x21, 0x11, &ADDRESSES[..11]),
        (0x21, 0x21, &[0; 35]),
        (0x21, 0x31, &[0; 215]),
    ] {
        assert!(matches!(parse(&v2(version, family, rest)), Parsed::Invalid(_)), "{version:x} {family:x}");
    }
    let long = v2(0x21, 0x11, &[0; 5000]);
    assert!(matches!(parse(&long[..16]), Parsed::Invalid(_)), "refused before it is waited for");
}

#[test]
fn extensions_are_passed_over_and_a_checksum_is_checked() {
    let with = |extension: &[u8]| v2(0x21, 0x11, &[&ADDRESSES[..], extension].concat());
    assert!(header(parse(&with(&[0xea, 0, 3, 1, 2, 3, 0x04, 0, 0]))).addresses.is_some());
    for broken in [&[0xea_u8][..], &[0xea, 0], &[0xea, 0, 4, 1, 2, 3], &[3, 0, 3, 1, 2, 3]] {
        assert!(matches!(parse(&with(broken)), Parsed::Invalid(_)), "{broken:?}");
    }
    let mut bytes = with(&[0x03, 0, 4, 0, 0, 0, 0, 0xea, 0, 1, 9]);
    let at = bytes.len() - 8;
    let sum = crc32c(bytes.iter());
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert!(header(parse(&bytes)).addresses.is_some());
    bytes[20] ^= 1;
    assert_eq!(parse(&bytes), Parsed::Invalid("a PROXY header with a wrong checksum"));
}

#[test]
fn the_checksum_is_the_one_of_rfc_3720() {
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    assert_eq!(crc32c([0_u8; 32].iter()), 0x8a91_36aa);
}

prop_compose! {
    fn address()(six in any::<bool>(), bits in any::<u128>(), port in any::<u16>()) -> SocketAddr {
        let ip = if six { IpAddr::from(bits.to_be_bytes()) } else { IpAddr::from((bits as u32).to_be_bytes()) };
        SocketAddr::new(ip, port)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

proptest! {
    #[test]
    fn what_is_written_is_read_whatever_follows(from in address(), to in address(), tail in proptest::collection::vec(any::<u8>(), 0..40)) {
        for written in [version_1_of(from, to), version_2_of(from, to)] {
            let bytes = [&written[..], &tail].concat();
            let Parsed::Header(found) = parse(&bytes) else { panic!("{:?}", parse(&bytes)) };
            prop_assert_eq!(found.length, written.len());
            let (read_from, read_to) = found.addresses.unwrap();
            prop_assert_eq!((canonical(read_from), canonical(read_to)), (canonical(from), canonical(to)));
            for cut in 0..written.len() {
                prop_assert_eq!(parse(&written[..cut]), Parsed::Incomplete);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_header_or_none_and_never_more_than_there_are(
        version in any::<u8>(), family in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..320_usize,
    ) {
        let bytes = v2(version, family, &rest);
        let seen = &bytes[..cut.min(bytes.len())];
        if let Parsed::Header(found) = parse(seen) {
            prop_assert!(found.length <= seen.len());
        }
        let line = [b"PROXY ".as_slice(), &rest].concat();
        if let Parsed::Header(found) = parse(&line) {
            prop_assert!(found.length <= LONGEST_LINE && line[..found.length].ends_with(b"\r\n"));
        }
    }
}
