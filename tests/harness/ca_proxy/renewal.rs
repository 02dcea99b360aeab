//! ACME Renewal Information (RFC 9773), which pebble 2.4 does not have.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::canned::Canned;
use crate::pebble::plain_serial;

/// What the CA suggests for a certificate.
#[derive(Clone, Debug)]
pub struct Ari {
    /// The window's start, in seconds since 1970.
    pub start: i64,
    /// The window's end, in seconds since 1970.
    pub end: i64,
    /// A page that says why.
    pub explanation: Option<String>,
    /// When to ask again; whole seconds.
    pub retry_after: Duration,
}

/// What is suggested, asked and replaced. Certificates are told apart by [`plain_serial`].
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    /// For every certificate without a suggestion of its own; `None` = the CA has no ARI.
    pub(crate) usual: Option<Ari>,
    pub(crate) suggested: HashMap<String, Ari>,
    pub(crate) asked: Vec<String>,
    pub(crate) replaced: Vec<String>,
    /// `replaces` as it was sent, by the path of its order.
    orders: HashMap<String, String>,
}

impl Renewals {
    /// What a GET of the information about this certificate gets.
    pub(crate) fn answer(&mut self, id: &str) -> Canned {
        let Some(usual) = &self.usual else {
            return Canned::problem(404, "malformed", "there is no renewal information here");
        };
        let Some(serial) = serial(id) else {
            return Canned::problem(400, "malformed", &format!("`{id}` names no certificate"));
        };
        let ari = self.suggested.get(&serial).unwrap_or(usual);
        let mut body = json!({"suggestedWindow": {"start": date(ari.start), "end": date(ari.end)}});
        if let Some(page) = &ari.explanation {
            body["explanationURL"] = page.as_str().into();
        }
        let headers = vec![("content-type", "application/json".to_owned())];
        let canned = Canned { status: 200, headers, body: body.to_string() }.retry_after(ari.retry_after);
        self.asked.push(serial);
        canned
    }

    /// Remembers that the order at `path` replaces a certificate; `jws` is the request that made it.
    pub(crate) fn ordered(&mut self, path: &str, jws: &[u8]) {
        let Some(id) = payload(jws).and_then(|payload| Some(payload["replaces"].as_str()?.to_owned())) else { return };
        self.replaced.extend(serial(&id));
        self.orders.insert(path.to_owned(), id);
    }

    /// What the order at `path` replaces.
    pub(crate) fn replaced_by(&self, path: &str) -> Option<&str> {
        self.orders.get(path).map(String::as_str)
    }
}

/// The serial in a certificate's id, which is `AKI.SERIAL` in base64url (RFC 9773 section 4.1).
fn serial(id: &str) -> Option<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(id.split_once('.')?.1).ok()?;
    Some(plain_serial(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn payload(jws: &[u8]) -> Option<Value> {
    let jws: Value = serde_json::from_slice(jws).ok()?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(jws["payload"].as_str()?).ok()?).ok()
}

/// RFC 3339.
fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).expect("a window lies in the years that there are").to_string()
}
