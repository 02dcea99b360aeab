//! The forms in which certificates and keys are found in Secrets, with `openssl x509` and `openssl pkey` as the judge: what
//! they read is served, what they do not is refused by name. Where we differ, the row says why.

use std::collections::BTreeMap;

use super::openssl::Workshop;
use super::*;
use crate::server::Part;

/// What becomes of a form.
#[derive(Clone, Copy)]
enum Ours {
    /// It is served.
    Serves,
    /// It is served, and a remark says this.
    Remarks(&'static str),
    /// It is refused, and the message says this.
    Refuses(&'static str),
}
use Ours::{Refuses, Remarks, Serves};

/// A form of a certificate's or key's file.
struct Form {
    name: &'static str,
    make: fn(&Files) -> Vec<u8>,
    ours: Ours,
    /// Why `openssl` says otherwise.
    differs: Option<&'static str>,
}

const fn form(name: &'static str, ours: Ours, make: fn(&Files) -> Vec<u8>) -> Form {
    Form { name, make, ours, differs: None }
}

/// One of which `openssl` says the opposite.
const fn unlike(name: &'static str, ours: Ours, why: &'static str, make: fn(&Files) -> Vec<u8>) -> Form {
    Form { name, make, ours, differs: Some(why) }
}

/// What `openssl` has made, by the file's name.
struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Files {
    fn made(workshop: &Workshop) -> Self {
        let commands = [
            "req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=ca.example -keyout ca.key -out ca.crt",
            "req -newkey rsa:2048 -nodes -subj /CN=a.example -keyout key -out csr",
            "x509 -req -in csr -CA ca.crt -CAkey ca.key -set_serial 7 -days 9 -out crt",
            "x509 -in crt -outform der -out crt.der",
            "x509 -in crt -text -out crt.text",
            "x509 -in crt -trustout -out crt.trusted",
            "x509 -in crt -trustout -addtrust serverAuth -setalias old -out crt.settings",
            "crl2pkcs7 -nocrl -certfile crt -out crt.p7b",
            "crl2pkcs7 -nocrl -certfile crt -outform der -out crt.p7c",
            "pkcs12 -export -in crt -inkey key -passout pass: -out crt.p12",
            "pkcs12 -in crt.p12 -passin pass: -nodes -out crt.bag",
            "pkey -in key -pubout -out key.pub",
            "pkey -in key -outform der -out key.der",
            "rsa -in key -traditional -out key.pkcs1",
            "rsa -in key -traditional -outform der -out key.pkcs1.der",
            "pkey -in key -aes128 -passout pass:secret -out key.encrypted",
            "pkcs8 -topk8 -in key -v2 aes128 -passout pass:secret -outform der -out key.encrypted.der",
            "rsa -in key -traditional -aes128 -passout pass:secret -out key.pkcs1.encrypted",
            "ecparam -name prime256v1 -genkey -out ec.key",
            "pkey -in ec.key -out ec.pkcs8",
            "ec -in ec.key -outform der -out ec.der",
            "genpkey -algorithm ed25519 -out ed.key",
            "genpkey -algorithm x25519 -out x25519.key",
            "ecparam -name secp384r1 -genkey -noout -out p384.key",
            "ecparam -name secp521r1 -genkey -noout -out p521.key",
            "ecparam -name secp256k1 -genkey -noout -out k256.key",
            "ecparam -name prime256v1 -genkey -noout -param_enc explicit -out explicit.key",
            "genrsa -out rsa1024.key 1024",
            "genpkey -algorithm rsa-pss -pkeyopt rsa_keygen_bits:2048 -out pss.key",
            "dhparam -in dh -noout",
        ];
        workshop.write("dh", DH.as_bytes());
        commands.iter().for_each(|line| workshop.run(line));
        let names = commands.iter().filter_map(|line| {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            words.windows(2).find(|pair| pair[0] == "-out").map(|pair| pair[1])
        });
        let mut files: BTreeMap<_, _> =
            names.chain(["ca.key", "key", "dh"]).map(|name| (name, workshop.read(name))).collect();
        for name in ["ec.pkcs8", "ed.key", "p384.key", "p521.key", "k256.key", "explicit.key", "pss.key", "rsa1024.key"]
        {
            let own = format!("{name}.crt");
            workshop.run(&format!("req -x509 -new -key {name} -days 9 -subj /CN=b.example -out {own}"));
            files.insert(Box::leak(own.clone().into_boxed_str()), workshop.read(&own));
        }
        Self(files)
    }

    fn get(&self, name: &str) -> Vec<u8> {
        self.0.get(name).unwrap_or_else(|| panic!("{name} was not made")).clone()
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.get(name)).expect("is text")
    }

    /// Files one after the other.
    fn joined(&self, names: &[&str]) -> Vec<u8> {
        names.iter().flat_map(|name| self.get(name)).collect()
    }

    /// A file with some text replaced.
    fn with(&self, name: &str, from: &str, to: &str) -> Vec<u8> {
        self.text(name).replace(from, to).into_bytes()
    }

    /// The letters between the BEGIN and END lines.
    fn letters(&self, name: &str) -> String {
        self.text(name).lines().filter(|line| !line.starts_with("-----")).collect()
    }

    /// The file with its letters in lines of this width.
    fn lines(&self, name: &str, width: usize) -> Vec<u8> {
        let letters = self.letters(name);
        let lines: Vec<&str> =
            letters.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).expect("is ASCII")).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")).into_bytes()
    }
}

const DH: &str = "-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
";

const ONE_LINE: &str = "openssl wants BEGIN and END on lines of their own; the meaning is certain without";
const BLANKS: &str =
    "openssl wants BEGIN at the start of a line and no empty line within; YAML blocks are indented by hand";
const CR: &str = "openssl knows no line that ends with CR alone; old editors write them";
const PASSWORD: &str =
    "openssl tries the empty passphrase of a PKCS#12 file; a Secret with one is a mistake, and is named";
const PARTS: &str = "openssl reads the first certificate only; a chain with a damaged part would be served with a gap";
const UNUSABLE: &str = "openssl reads the key, but no TLS server of ours can sign with it";

const CHAINS: &[Form] = &[
    form("plain", Serves, |it| it.get("crt")),
    form("lines end with CRLF", Serves, |it| it.with("crt", "\n", "\r\n")),
    unlike("lines end with CR", Serves, CR, |it| it.with("crt", "\n", "\r")),
    form("a byte order mark", Serves, |it| [b"\xef\xbb\xbf".to_vec(), it.get("crt")].concat()),
    form("UTF-16", Refuses("UTF-16"), |it| {
        let units = it.text("crt").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        [vec![0xff, 0xfe], units].concat()
    }),
    form("text before the block, as openssl x509 -text writes", Serves, |it| it.get("crt.text")),
    form("bag attributes, as openssl pkcs12 writes", Serves, |it| it.get("crt.bag")),
    form("text behind the block", Serves, |it| [it.get("crt"), b"\nthe end".to_vec()].concat()),
    form("text between two blocks", Serves, |it| [it.get("crt"), b"# my CA:\n".to_vec(), it.get("ca.crt")].concat()),
    form("text on the BEGIN line", Refuses("malformed BEGIN line"), |it| [b"my ".to_vec(), it.get("crt")].concat()),
    form("quoted", Refuses("malformed BEGIN line"), |it| format!("\"{}\"", it.text("crt").trim()).into_bytes()),
    unlike("indented by blanks", Serves, BLANKS, |it| {
        it.text("crt").lines().map(|l| format!("    {l}\n")).collect::<String>().into()
    }),
    unlike("indented by a tab", Serves, BLANKS, |it| {
        it.text("crt").lines().map(|l| format!("\t{l}\n")).collect::<String>().into()
    }),
    form("blanks at the ends of lines", Serves, |it| it.with("crt", "\n", "  \n")),
    form("no final line end", Serves, |it| it.text("crt").trim_end().into()),
    form("empty lines before", Serves, |it| format!("\n\n\n{}", it.text("crt")).into_bytes()),
    unlike("an empty line within", Serves, BLANKS, |it| {
        let text = it.text("crt");
        let lines: Vec<&str> = text.lines().collect();
        let (head, tail) = lines.split_at(4);
        format!("{}\n\n{}\n", head.join("\n"), tail.join("\n")).into_bytes()
    }),
    unlike("a chain glued together", Serves, ONE_LINE, |it| {
        [it.text("crt").trim_end().into(), it.get("ca.crt")].concat()
    }),
    unlike("a chain folded into one line", Serves, ONE_LINE, |it| {
        String::from_utf8(it.joined(&["crt", "ca.crt"])).expect("is text").replace('\n', " ").into_bytes()
    }),
    unlike("no line ends at all", Serves, ONE_LINE, |it| it.with("crt", "\n", "")),
    form("one long line", Serves, |it| it.lines("crt", 10_000)),
    form("lines of 76 letters", Serves, |it| it.lines("crt", 76)),
    form("lines of 20 letters", Serves, |it| it.lines("crt", 20)),
    unlike("padding left out", Serves, "openssl wants whole groups of four; the bytes are the same", |it| {
        it.with("crt", "=", "")
    }),
    form("a header within the block", Serves, |it| {
        it.with("crt", "BEGIN CERTIFICATE-----\n", "BEGIN CERTIFICATE-----\nX: y\n\n")
    }),
    form("labelled X509 CERTIFICATE", Serves, |it| it.with("crt", " CERTIFICATE", " X509 CERTIFICATE")),
    form("labelled TRUSTED CERTIFICATE", Serves, |it| it.get("crt.trusted")),
    form("TRUSTED CERTIFICATE with settings", Serves, |it| it.get("crt.settings")),
    form("labelled in lower case", Refuses("block 1 (certificate) is something else"), |it| {
        it.with("crt", "CERTIFICATE", "certificate")
    }),
    form("with its issuer", Serves, |it| it.joined(&["crt", "ca.crt"])),
    form("the certificate twice", Serves, |it| it.joined(&["crt", "crt"])),
    form("with its key", Serves, |it| it.joined(&["crt", "key"])),
    form("behind its key", Serves, |it| it.joined(&["key", "crt"])),
    form("behind DH PARAMETERS", Serves, |it| it.joined(&["dh", "crt"])),
    form("a certificate that is commented out before", Serves, |it| {
        let old: String = it.text("ca.crt").lines().map(|line| format!("# {line}\n")).collect();
        [old.into_bytes(), it.get("crt")].concat()
    }),
    form("with its request", Remarks("block 1 (CERTIFICATE REQUEST) is no certificate"), |it| {
        it.joined(&["csr", "crt"])
    }),
    form("with a PKCS#7 bundle", Remarks("block 2 (PKCS7) is no certificate"), |it| it.joined(&["crt", "crt.p7b"])),
    form("DER", Serves, |it| it.get("crt.der")),
    form("DER and a line end", Remarks("1 bytes behind the binary (DER) certificate"), |it| {
        [it.get("crt.der"), vec![b'\n']].concat()
    }),
    form("two certificates in DER", Serves, |it| it.joined(&["crt.der", "crt.der"])),
    form("bytes behind the certificate within the block", Remarks("has 3 bytes behind its certificate"), |it| {
        use base64::Engine as _;
        let der = [it.get("crt.der"), vec![0, 1, 2]].concat();
        let letters = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----\n").into_bytes()
    }),
    unlike("the issuer is damaged", Refuses("block 2 (CERTIFICATE)"), PARTS, |it| {
        [it.get("crt"), it.with("ca.crt", "MII", "M!I")].concat()
    }),
    unlike("the issuer is cut off", Refuses("the END line of block 2 (CERTIFICATE) is missing"), PARTS, |it| {
        [it.get("crt"), it.get("ca.crt")[..300].to_vec()].concat()
    }),
    form("cut off", Refuses("END line"), |it| it.get("crt")[..300].to_vec()),
    form("letters are missing at the end", Refuses("holds no certificate: its content is cut off"), |it| {
        let letters = it.letters("crt");
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", &letters[..400]).into_bytes()
    }),
    form("DER that is cut off", Refuses("no BEGIN CERTIFICATE block"), |it| it.get("crt.der")[..300].to_vec()),
    form("another END line", Refuses("END line of another kind"), |it| {
        it.with("crt", "END CERTIFICATE", "END X509 CRL")
    }),
    form("four dashes", Refuses("malformed BEGIN line"), |it| it.with("crt", "-----BEGIN", "----BEGIN")),
    form("long dashes of a word processor", Refuses("malformed BEGIN line"), |it| it.with("crt", "-----", "—")),
    form("no BEGIN and END lines", Refuses("base64 without its BEGIN and END lines"), |it| it.letters("crt").into()),
    form("base64 of PEM", Refuses("encoded once too often"), |it| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(it.get("crt")).into()
    }),
    form("a backslash and an n for line ends", Refuses("a backslash and an n"), |it| it.with("crt", "\n", "\\n")),
    form("an ellipsis within", Refuses("not base64"), |it| it.with("crt", "MII", "MII...")),
    form("nothing within", Refuses("holds nothing"), |it| {
        it.lines("crt", 10_000)[..27].iter().copied().chain(*b"\n-----END CERTIFICATE-----\n").collect()
    }),
    unlike("PKCS#12", Refuses("a PKCS#12 file stands"), PASSWORD, |it| it.get("crt.p12")),
    form("PKCS#7", Refuses("a PKCS#7 bundle stands"), |it| it.get("crt.p7b")),
    form("PKCS#7 in DER", Refuses("a PKCS#7 bundle stands"), |it| it.get("crt.p7c")),
    form("a request", Refuses("a certificate request stands"), |it| it.get("csr")),
    form("a key", Refuses("a private key stands"), |it| it.get("key")),
    form("a key in DER", Refuses("a binary (DER) private key stands"), |it| it.get("key.der")),
    form("a public key", Refuses("a public key stands"), |it| it.get("key.pub")),
    form("a Java keystore", Refuses("a Java keystore"), |_| vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]),
    form("blanks", Refuses("is empty"), |_| b" \n\n".to_vec()),
    form("a placeholder", Refuses("no BEGIN CERTIFICATE block"), |_| b"${TLS_CRT}".to_vec()),
];

const KEYS: &[Form] = &[
    form("PKCS#8", Serves, |it| it.get("key")),
    form("PKCS#1", Serves, |it| it.get("key.pkcs1")),
    form("PKCS#8 in DER", Serves, |it| it.get("key.der")),
    form("PKCS#1 in DER", Serves, |it| it.get("key.pkcs1.der")),
    form("PKCS#1 labelled as PKCS#8", Serves, |it| it.with("key.pkcs1", "RSA PRIVATE", "PRIVATE")),
    form("PKCS#8 labelled as PKCS#1", Serves, |it| it.with("key", "PRIVATE", "RSA PRIVATE")),
    form("lines end with CRLF", Serves, |it| it.with("key", "\n", "\r\n")),
    unlike("lines end with CR", Serves, CR, |it| it.with("key", "\n", "\r")),
    unlike("no line ends", Serves, ONE_LINE, |it| it.with("key", "\n", " ")),
    unlike("indented", Serves, BLANKS, |it| {
        it.text("key").lines().map(|l| format!("  {l}\n")).collect::<String>().into()
    }),
    form("a byte order mark", Serves, |it| [b"\xef\xbb\xbf".to_vec(), it.get("key")].concat()),
    form("with its certificate", Serves, |it| it.joined(&["key", "crt"])),
    form("behind its certificate", Serves, |it| it.joined(&["crt", "key"])),
    form("with another key behind", Serves, |it| it.joined(&["key", "ca.key"])),
    form("with another key before", Serves, |it| it.joined(&["ca.key", "key"])),
    form("twice", Serves, |it| it.joined(&["key", "key.pkcs1"])),
    form("behind a public key", Serves, |it| it.joined(&["key.pub", "key"])),
    form("behind an encrypted one", Serves, |it| it.joined(&["key.encrypted", "key"])),
    form("encrypted", Refuses("encrypted"), |it| it.get("key.encrypted")),
    form("encrypted in DER", Refuses("encrypted"), |it| it.get("key.encrypted.der")),
    form("encrypted PKCS#1", Refuses("encrypted"), |it| it.get("key.pkcs1.encrypted")),
    form("encrypted PKCS#1 with CRLF", Refuses("encrypted"), |it| it.with("key.pkcs1.encrypted", "\n", "\r\n")),
    form("encrypted and folded", Refuses("encrypted"), |it| it.with("key.pkcs1.encrypted", "\n", " ")),
    form("OpenSSH's own form", Refuses("OpenSSH's own form"), |it| {
        let letters = it.letters("key");
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{letters}\n-----END OPENSSH PRIVATE KEY-----\n").into_bytes()
    }),
    unlike(
        "of another certificate",
        Refuses("does not belong to the certificate"),
        "openssl looks at the key alone",
        |it| it.get("ca.key"),
    ),
    unlike(
        "of another kind of key",
        Refuses("does not belong to the certificate"),
        "openssl looks at the key alone",
        |it| it.get("ec.key"),
    ),
    unlike("of X25519", Refuses("cannot be used"), UNUSABLE, |it| it.get("x25519.key")),
    form("a public key", Refuses("a public key stands"), |it| it.get("key.pub")),
    form("a certificate", Refuses("a certificate stands"), |it| it.get("crt")),
    form("a certificate in DER", Refuses("the file is binary and no private key stands"), |it| it.get("crt.der")),
    form("a request", Refuses("a certificate request stands"), |it| it.get("csr")),
    unlike("PKCS#12", Refuses("a PKCS#12 file stands"), PASSWORD, |it| it.get("crt.p12")),
    form("cut off", Refuses("END line"), |it| it.get("key")[..300].to_vec()),
    form("letters are missing", Refuses("holds no private key"), |it| {
        let letters = it.letters("key");
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", &letters[..400]).into_bytes()
    }),
    form("blanks", Refuses("is empty"), |_| b"\n".to_vec()),
    form("a placeholder", Refuses("no BEGIN PRIVATE KEY block"), |_| b"REDACTED".to_vec()),
];

/// Keys with a certificate of their own: `NAME.crt` belongs to `NAME`.
const KINDS: &[(&str, &str, Ours, Option<&str>)] = &[
    ("EC PARAMETERS before an EC key", "ec.key", Serves, None),
    ("an EC key in SEC1 DER", "ec.der", Serves, None),
    ("an EC key in PKCS#8", "ec.pkcs8", Serves, None),
    ("ECDSA P-384", "p384.key", Serves, None),
    ("ECDSA P-521", "p521.key", Serves, None),
    ("Ed25519", "ed.key", Serves, None),
    ("ECDSA secp256k1", "k256.key", Refuses("cannot be used"), Some(UNUSABLE)),
    ("a curve written out", "explicit.key", Refuses("cannot be used"), Some(UNUSABLE)),
    ("RSA of 1024 bits", "rsa1024.key", Refuses("cannot be used"), Some(UNUSABLE)),
    ("RSA-PSS alone", "pss.key", Refuses("cannot be used"), Some(UNUSABLE)),
];

/// What is wrong with our answer; `openssl` reads the file or not.
fn fault(chain: &[u8], key: &[u8], ours: Ours) -> (bool, Option<String>) {
    let own = CertifiedPem { chain: chain.to_vec(), key: key.to_vec(), ocsp: None };
    let built = ServerTls::build(&ServerSpec { certificates: vec![own], ..ServerSpec::default() }, None);
    let serves = built.is_ok();
    let said = match &built {
        Ok(server) => {
            server.remarks().iter().filter(|it| it.part == Part::Chain).map(|it| it.text.clone()).collect::<Vec<_>>()
        }
        Err(error) => vec![error.to_string()],
    };
    let expected = match ours {
        Serves => serves && said.iter().all(|text| text.contains("X.509 version 1")),
        Remarks(words) => serves && said.iter().any(|text| text.contains(words)),
        Refuses(words) => !serves && said.iter().any(|text| text.contains(words)),
    };
    (serves, (!expected).then(|| format!("serves: {serves}, says {said:?}")))
}

fn judge(name: &str, reads: bool, (serves, fault): (bool, Option<String>), differs: Option<&str>) -> Option<String> {
    let differs_truly = reads != serves;
    let fault = fault.or_else(|| match differs {
        Some(_) if !differs_truly => Some("says why it differs from openssl, but does not".to_owned()),
        None if differs_truly => Some(format!("openssl reads it: {reads}, it is served: {serves}")),
        _ => None,
    });
    fault.map(|fault| format!("{name}: {fault}"))
}

#[test]
fn what_openssl_reads_is_served_and_the_rest_is_named() {
    let Some(workshop) = Workshop::open() else { return };
    let files = Files::made(&workshop);
    let (chain, key) = (files.get("crt"), files.get("key"));
    let mut faults = Vec::new();
    for form in CHAINS {
        let file = (form.make)(&files);
        workshop.write("form", &file);
        let reads = workshop.agrees("x509 -in form -noout -passin pass:");
        faults.extend(judge(form.name, reads, fault(&file, &key, form.ours), form.differs));
    }
    for form in KEYS {
        let file = (form.make)(&files);
        workshop.write("form", &file);
        let reads = workshop.agrees("pkey -in form -noout -passin pass:");
        faults.extend(judge(form.name, reads, fault(&chain, &file, form.ours), form.differs));
    }
    for (name, key, ours, differs) in KINDS {
        let file = files.get(key);
        workshop.write("form", &file);
        let reads = workshop.agrees("pkey -in form -noout -passin pass:");
        let own = if key.starts_with("ec.") { "ec.pkcs8.crt".to_owned() } else { format!("{key}.crt") };
        faults.extend(judge(name, reads, fault(&files.get(&own), &file, *ours), *differs));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(CHAINS.len() + KEYS.len() + KINDS.len() >= 100);
}

/// CAs, as they stand in `ca.crt`: none is dropped without a word.
#[test]
fn what_is_dropped_of_a_bundle_is_told() {
    let Some(workshop) = Workshop::open() else { return };
    let files = Files::made(&workshop);
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("a good one", files.get("ca.crt"), ""),
        (
            "a leaf of version 1 beside it",
            files.joined(&["ca.crt", "crt"]),
            "CA certificate 2 (CN=a.example) does not say that it is a CA",
        ),
        ("a PKCS#7 bundle beside it", files.joined(&["ca.crt", "crt.p7b"]), "block 2 (PKCS7) is no certificate"),
        (
            "trust settings",
            files.joined(&["ca.crt", "crt.settings"]),
            "CA certificate 2 says itself what it is trusted for",
        ),
        (
            "garbage in a block",
            [files.get("ca.crt"), b"-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n".to_vec()]
                .concat(),
            "CA certificate 2 is not a valid X.509",
        ),
        ("a key beside it", files.joined(&["ca.key", "ca.crt"]), ""),
        ("twelve leaves", files.joined(&[&["ca.crt"][..], &["crt"; 12]].concat()), "4 more of its parts"),
    ];
    for (name, bundle, remark) in cases {
        let remarks = crate::remarks::authorities(&bundle).expect(name);
        let told = remarks.iter().any(|text| text.contains(remark));
        assert!(if remark.is_empty() { remarks.is_empty() } else { told }, "{name}: {remarks:?}");
        assert!(remarks.len() <= 9, "{name}");
    }
    let only = crate::remarks::authorities(&files.get("crt.settings")).expect_err("cannot be used");
    assert!(only.to_string().contains("says itself what it is trusted for"), "{only}");
}
