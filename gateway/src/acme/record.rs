//! What is remembered of one ordered certificate: enough for another leader to go on where this one stopped.
//!
//! A record lies in a Secret of its own beside the certificate's, since it holds the key and the tokens of an order that
//! is under way. Every replica follows the records, to answer the CA's checks and to tell how the orders are doing.

use std::{collections::BTreeMap, fmt};

use routing::acme::Challenge;
use serde::{Deserialize, Serialize};

use super::dns::TxtRecord;
use crate::stored::{Stored, Version};

/// Label of the Secrets that hold records.
pub(crate) const LABEL: &str = "acme.sluice.dev/kind";
/// Its value.
pub(crate) const LABEL_VALUE: &str = "order";
/// Key of the Secret's data.
const KEY: &str = "record.json";
/// Longest text that is kept of a failure.
const LONGEST: usize = 2000;

/// See the module. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    /// Name of the certificate's Secret.
    pub(crate) secret: String,
    /// Workload name of the gateway whose leader orders it.
    pub(crate) gateway: String,
    /// Names that the certificate has to have.
    pub(crate) hosts: Vec<String>,
    /// The issuer's name.
    pub(crate) issuer: String,
    /// The order under way.
    pub(crate) order: Option<Order>,
    /// Failures since the last success.
    pub(crate) failures: u32,
    /// Checks by the CA that failed since the last success: the next order tries the next challenge.
    pub(crate) refusals: u32,
    /// Why the last try failed; `None` after a success.
    pub(crate) last_error: Option<LastError>,
    /// Not tried before.
    pub(crate) next_attempt: i64,
    /// When the certificate is renewed, and why then.
    pub(crate) renewal: Option<Renewal>,
    /// Somebody asked for a new certificate now: why.
    pub(crate) reissue: Option<String>,
    /// When the last orders were made at the CA: a bound on how often, whatever else goes wrong.
    pub(crate) begun: Vec<i64>,
    /// When the last certificate was stored.
    pub(crate) issued: i64,
    /// The CA said that it was asked too often: only time helps.
    pub(crate) rate_limited: bool,
    /// Hash of what the last try was made with: another configuration has not been refused yet.
    pub(crate) tried_with: u64,
}

/// An order at the CA, from before it is made until its certificate is stored.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Order {
    /// Directory of the CA.
    pub(crate) server: String,
    /// PEM: key of the certificate to come.
    pub(crate) key: String,
    /// Kind of that key, as `ECDSA-P256`.
    pub(crate) key_type: String,
    /// Profile asked for.
    pub(crate) profile: Option<String>,
    /// Names ordered.
    pub(crate) hosts: Vec<String>,
    /// The order's URL, once the CA has given it.
    pub(crate) url: Option<String>,
    /// When it began.
    pub(crate) started: i64,
    /// Challenges that the CA may check now.
    pub(crate) challenges: Vec<LiveChallenge>,
    /// TXT records that may be there and have to go.
    pub(crate) dns: Vec<TxtRecord>,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, hosts, url, started, .. } = self;
        let mut debug = f.debug_struct("Order");
        debug.field("server", server).field("hosts", hosts).field("url", url).field("started", started);
        debug.finish_non_exhaustive()
    }
}

/// A challenge that replicas answer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LiveChallenge {
    /// How the CA checks.
    #[serde(with = "challenge")]
    pub(crate) kind: Challenge,
    /// The host that is checked, without `*.`.
    pub(crate) host: String,
    /// The CA's token.
    pub(crate) token: String,
    /// RFC 8555 section 8.1.
    pub(crate) key_authorization: String,
}

impl fmt::Debug for LiveChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, host, .. } = self;
        f.debug_struct("LiveChallenge").field("kind", kind).field("host", host).finish_non_exhaustive()
    }
}

mod challenge {
    use routing::acme::Challenge;
    use serde::{Deserialize, Deserializer, Serializer, de};

    const ALL: [Challenge; 3] = [Challenge::Http01, Challenge::TlsAlpn01, Challenge::Dns01];

    pub(super) fn serialize<S: Serializer>(challenge: &Challenge, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(challenge.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Challenge, D::Error> {
        let name = String::deserialize(deserializer)?;
        ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| de::Error::custom("no such challenge"))
    }
}

/// Why a try failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LastError {
    /// When.
    pub(crate) at: i64,
    /// A sentence, with the CA's own words.
    pub(crate) text: String,
}

impl LastError {
    /// Now.
    pub(crate) fn new(at: i64, text: &str) -> Self {
        let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        Self { at, text: text[..end].to_owned() }
    }
}

/// When a certificate is renewed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Renewal {
    /// Serial number of the certificate that this is about.
    pub(crate) serial: String,
    /// When to renew it.
    pub(crate) at: i64,
    /// Why then, as part of a sentence.
    pub(crate) why: String,
    /// When the CA is asked again for a better time (RFC 9773); `None` = it does not offer that.
    pub(crate) ask_again: Option<i64>,
    /// The window that the CA suggested, from which `at` was chosen.
    pub(crate) window: Option<(i64, i64)>,
}

impl Record {
    /// Of a Secret; `None` when it holds no record that can be read, or is somebody else's.
    pub(crate) fn read(stored: &Stored) -> Option<Self> {
        let ours = stored.labels.get(LABEL).is_some_and(|value| value == LABEL_VALUE);
        serde_json::from_slice(stored.data.get(KEY).filter(|_| ours)?).ok()
    }

    /// The Secret's name, for the certificate in a Secret.
    pub(crate) fn name_for(secret: &str) -> String {
        format!("acme-order-{secret}")
    }

    /// As it is stored.
    pub(crate) fn write(&self, version: Option<Version>) -> Stored {
        let json = serde_json::to_vec(self).unwrap_or_default();
        Stored {
            kind: "sluice.dev/acme-order".to_owned(),
            labels: BTreeMap::from([(LABEL.to_owned(), LABEL_VALUE.to_owned())]),
            annotations: BTreeMap::new(),
            data: BTreeMap::from([(KEY.to_owned(), json)]),
            version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_its_debug_text_holds_no_secret() {
        let record = Record {
            secret: "shop".to_owned(),
            hosts: vec!["shop.example".to_owned()],
            order: Some(Order {
                key: "KEY".to_owned(),
                url: Some("https://ca/order/1".to_owned()),
                challenges: vec![LiveChallenge {
                    kind: Challenge::TlsAlpn01,
                    host: "shop.example".to_owned(),
                    token: "TOKEN".to_owned(),
                    key_authorization: "TOKEN.PRINT".to_owned(),
                }],
                ..Order::default()
            }),
            last_error: Some(LastError::new(7, "no")),
            renewal: Some(Renewal { window: Some((1, 2)), ..Renewal::default() }),
            ..Record::default()
        };
        assert_eq!(Record::read(&record.write(None)), Some(record.clone()));
        let text = format!("{record:?}");
        assert!(!text.contains("KEY") && !text.contains("TOKEN") && !text.contains("PRINT"), "{text}");
    }

    #[test]
    fn a_record_of_an_older_version_is_read_as_far_as_it_goes() {
        let data = BTreeMap::from([(KEY.to_owned(), br#"{"secret":"a","unknown":1}"#.to_vec())]);
        let stored = Stored { data, ..Record::default().write(None) };
        assert_eq!(Record::read(&Stored { labels: BTreeMap::new(), ..stored.clone() }), None, "somebody else's");
        assert_eq!(Record::read(&stored).map(|it| it.secret).as_deref(), Some("a"));
        assert_eq!(Record::read(&Stored::default()), None);
    }

    #[test]
    fn a_failure_is_cut_between_letters() {
        assert_eq!(LastError::new(1, &"é".repeat(2000)).text.len(), LONGEST);
    }
}
