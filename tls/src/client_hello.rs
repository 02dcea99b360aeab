//! A look at a ClientHello that somebody else may have to answer: it is read from bytes that stay where they are.

use rustls::server::Acceptor;

/// What the first bytes of a connection hold.
#[derive(Debug)]
pub enum Parsed {
    /// A whole ClientHello.
    Hello(Hello),
    /// The beginning of one: more bytes are needed.
    Incomplete,
    /// Not TLS, or malformed.
    Invalid,
}

/// What a client asks for (RFC 6066 section 3, RFC 7301).
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// SNI, lower-case.
    pub sni: Option<String>,
    /// ALPN protocols in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// Reads the ClientHello at the start of `bytes`. Consumes and answers nothing.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => return Parsed::Invalid,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Parsed::Hello(Hello {
                    sni: hello.server_name().map(str::to_ascii_lowercase),
                    alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
                });
            }
            Ok(None) => {}
            Err(_) => return Parsed::Invalid,
        }
    }
    Parsed::Incomplete
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn hello(alpn: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
        let name = "Outbound_.80_._.a.b".try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_hello_is_read_once_it_is_whole() {
        let bytes = hello(&[b"istio-http/1.1", b"istio"]);
        assert!(matches!(parse(&bytes[..bytes.len() - 1]), Parsed::Incomplete));
        let Parsed::Hello(hello) = parse(&bytes) else { panic!("no hello") };
        assert_eq!(hello.sni.as_deref(), Some("outbound_.80_._.a.b"));
        assert_eq!(hello.alpn, [b"istio-http/1.1".to_vec(), b"istio".to_vec()]);
    }

    #[test]
    fn other_bytes_are_invalid() {
        assert!(matches!(parse(b"GET / HTTP/1.1\r\n\r\n"), Parsed::Invalid));
        assert!(matches!(parse(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]), Parsed::Invalid));
        assert!(matches!(parse(&[]), Parsed::Incomplete));
    }
}
