//! From a query to the question that it asks: `/explain?side=gateway&port=443&host=a.example&path=/x&header=x-user: bob`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use routing::{
    explain::{Question, Side},
    token::Token,
};

/// Headers of one question.
const MOST_HEADERS: usize = 100;

/// A value of a query by its name, decoded as forms encode it; the first one.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query, name).next()
}

fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(move |(given, _)| *given == name).map(|(_, value)| value.replace('+', " "));
    values.map(|value| percent_decode_str(&value).decode_utf8_lossy().into_owned())
}

/// What is searched for: words that all have to be there, in lower case.
pub(in crate::admin) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_ascii_lowercase).collect()
}

/// What a query asks.
///
/// # Errors
/// A sentence about what cannot be read.
pub(in crate::admin) fn question(query: &str) -> Result<Question, String> {
    let given = |name| parameter(query, name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let side = match given("side").as_deref() {
        None | Some("gateway") => Side::Gateway,
        Some("outbound") => Side::Outbound,
        Some("inbound") => Side::Inbound,
        Some(other) => return Err(format!("`{other}` is no side: write gateway, outbound or inbound")),
    };
    let port = given("port").ok_or("which port? write port=443")?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    let client = match given("client") {
        None => Question::default().client,
        Some(text) => text.parse::<IpAddr>().map_err(|_| format!("`{text}` is no address of a client"))?,
    };
    let address = given("address").map(|text| text.parse::<IpAddr>().map_err(|_| format!("`{text}` is no IP address")));
    let claims = given("claims").map(|text| serde_json::from_str(&text).map(|claims| Token { claims }));
    let token = claims.transpose().map_err(|error| format!("the claims are no JSON object: {error}"))?;
    Ok(Question {
        side,
        port,
        address: address.transpose()?,
        method: given("method").unwrap_or_else(|| "GET".to_owned()),
        host: given("host").unwrap_or_default(),
        target: given("path").unwrap_or_else(|| "/".to_owned()),
        headers: headers(parameters(query, "header"))?,
        peer: given("peer").unwrap_or_default(),
        client,
        token,
    })
}

/// Each of them one or more lines of `name: value`.
fn headers(given: impl Iterator<Item = String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for text in given {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if headers.len() == MOST_HEADERS {
                return Err(format!(
                    "these are more than {MOST_HEADERS} headers, and a request with so many is refused"
                ));
            }
            let wrong = || format!("`{line}` is no header: write name: value");
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name = name.trim().parse::<HeaderName>().map_err(|_| wrong())?;
            headers.append(name, value.trim().parse::<HeaderValue>().map_err(|_| wrong())?);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read() {
        let asked = question(
            "side=inbound&port=8080&host=a.b&path=%2Fx%3Fq%3D1&method=POST&header=x-a%3A+1%0Ax-b%3A2&header=x-a:3&client=10.0.0.1\
             &address=10.0.0.9",
        )
        .unwrap();
        assert_eq!((asked.side, asked.port, asked.target.as_str()), (Side::Inbound, 8080, "/x?q=1"));
        assert_eq!(asked.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((asked.headers["x-b"].as_bytes(), asked.method.as_str()), (&b"2"[..], "POST"));
        assert_eq!(asked.client, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(asked.address, Some("10.0.0.9".parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn as_many_headers_are_asked_about_as_a_request_may_have() {
        let many = |count: usize| format!("port=1{}", "&header=x-a:1%0Ax-b:2".repeat(count));
        assert_eq!(question(&many(50)).unwrap().headers.len(), 100);
        assert!(question(&many(51)).unwrap_err().contains("more than 100 headers"));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (query, what) in [
            ("", "which port?"),
            ("port=x", "`x` is no port"),
            ("port=1&side=up", "`up` is no side"),
            ("port=1&client=me", "no address"),
            ("port=1&header=nothing", "`nothing` is no header"),
            ("port=1&claims=7", "no JSON object"),
            ("port=1&address=here", "`here` is no IP address"),
        ] {
            let error = question(query).unwrap_err();
            assert!(error.contains(what), "{query}: {error}");
        }
    }
}
