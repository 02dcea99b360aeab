use super::*;

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Undecodable> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| {
        fields.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    })?;
    Ok(fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// RFC 7541 appendix C.4 and C.6: three requests, and three responses with a table of 256 bytes.
#[test]
fn the_examples_of_the_rfc_decode() {
    let mut decoder = Decoder::default();
    let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
    assert_eq!(decoded(&mut decoder, &hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).unwrap(), first);
    assert_eq!(decoder.size, 57);
    let second = [&first[..], &["cache-control: no-cache"]].concat();
    assert_eq!(decoded(&mut decoder, &hex("8286 84be 5886 a8eb 1064 9cbf")).unwrap(), second);
    assert_eq!(decoder.size, 110);
    let third = [
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ];
    let block = hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
    assert_eq!(decoded(&mut decoder, &block).unwrap(), third);
    assert_eq!(decoder.size, 164);

    let mut decoder = Decoder::default();
    let (block, status) = (
        hex("3fe1 0148 8264 0258 85ae c377 1a4b 6196 d07a be94 1054 d444 a820 0595 040b 8166 e082 \
        a62d 1bff 6e91 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"),
        [":status: 302", "cache-control: private"],
    );
    let rest = ["date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"];
    assert_eq!(decoded(&mut decoder, &block).unwrap(), [status, rest].concat());
    assert_eq!((decoder.size, decoder.limit), (222, 256));
    assert_eq!(decoded(&mut decoder, &hex("4883 640e ffc1 c0bf")).unwrap()[0], ":status: 307");
    assert_eq!(decoder.size, 222, "the oldest entry made room");
}

#[test]
fn what_is_written_reads_the_same() {
    let long = "v".repeat(300);
    let fields = [
        (Name::ContentType, "Content-Type", "text/plain"),
        (Name::Authorization, "authorization", "secret"),
        (Name::Other, "X-Any", long.as_str()),
        (Name::UserAgent, "user-agent", ""),
    ];
    let mut block = Vec::new();
    write_status(200, &mut block);
    write_status(418, &mut block);
    write_pseudo(METHOD, b"GET", &mut block);
    write_pseudo(METHOD, b"POST", &mut block);
    write_pseudo(METHOD, b"PUT", &mut block);
    write_scheme(true, &mut block);
    write_pseudo(PATH, b"/", &mut block);
    write_pseudo(PATH, b"/a?b", &mut block);
    write_pseudo(AUTHORITY, b"a.example", &mut block);
    for (known, name, value) in fields {
        write_field(known, name.as_bytes(), value.as_bytes(), &mut block);
    }
    let mut expected: Vec<String> = [
        ":status: 200",
        ":status: 418",
        ":method: GET",
        ":method: POST",
        ":method: PUT",
        ":scheme: https",
        ":path: /",
        ":path: /a?b",
        ":authority: a.example",
    ]
    .map(Into::into)
    .into();
    expected.extend(fields.map(|(_, name, value)| format!("{}: {value}", name.to_ascii_lowercase())));
    let mut decoder = Decoder::default();
    assert_eq!(decoded(&mut decoder, &block).unwrap(), expected);
    assert_eq!(decoder.size, 0, "nothing is kept in a table");
}

#[test]
fn malformed_blocks_are_refused() {
    for block in [
        "80",                   // number 0
        "be",                   // beyond the static table, with an empty dynamic one
        "ff ff ff ff ff ff 7f", // an endless number
        "40 05 61",             // a name that is longer than the block
        "40",                   // nothing behind the first byte
        "40 81 ff 01 61",       // a Huffman code that is only padding, of a whole byte
        "82 20",                // a new size behind a field
        "3f e2 1f",             // a size above the one that was allowed
    ] {
        assert!(decoded(&mut Decoder::default(), &hex(block)).is_err(), "{block}");
    }
    assert!(decoded(&mut Decoder::default(), &hex("3f e1 1f 20 82")).is_ok(), "two new sizes at the beginning");
}

#[test]
fn a_table_never_grows_beyond_its_limit() {
    let mut decoder = Decoder::default();
    for number in 0..2000 {
        let mut block = vec![0x40];
        write_string(format!("name-{number}").as_bytes(), &mut block);
        write_string(&vec![b'v'; number % 400], &mut block);
        decoded(&mut decoder, &block).unwrap();
        assert!(decoder.size <= TABLE && decoder.bytes.len() <= 2 * TABLE);
        assert_eq!(decoder.entry(62).unwrap().0, format!("name-{number}").as_bytes());
        let oldest = 61 + decoder.entries.len();
        assert!(decoder.entry(oldest).is_ok() && decoder.entry(oldest + 1).is_err());
    }
    let mut block = vec![0x40];
    write_string(b"n", &mut block);
    write_string(&vec![b'v'; TABLE], &mut block);
    decoded(&mut decoder, &block).unwrap();
    assert_eq!((decoder.size, decoder.entries.len()), (0, 0), "an entry that does not fit empties the table");
}
