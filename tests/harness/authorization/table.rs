//! A table as it is written.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Where policies are in force.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The ingress gateway, HTTP.
    Gateway,
    /// A sidecar's inbound side, HTTP.
    Sidecar,
    /// A sidecar's inbound side, a port of bytes.
    Bytes,
}

/// A file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What it is about, in a sentence.
    #[serde(rename = "about")]
    _about: String,
    /// Istio's mesh configuration.
    #[serde(default)]
    pub mesh: Map<String, Value>,
    /// Tokens that rows bring, by name: their claims. Where there are any, a RequestAuthentication is in force.
    #[serde(default)]
    pub tokens: BTreeMap<String, Map<String, Value>>,
    /// Policies with what they say.
    pub sets: Vec<Set>,
}

/// Policies that are in force together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The policies' name, unless they have one of their own.
    pub name: String,
    /// Where they are tried; else at gateway and sidecar.
    at: Option<Vec<Place>>,
    policies: Vec<Map<String, Value>>,
    #[serde(rename = "rows")]
    written: Vec<String>,
    /// What is tried.
    #[serde(skip)]
    pub rows: Vec<Row>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Row {
    /// As it is written.
    pub text: String,
    /// Method; empty for bytes.
    pub method: String,
    /// What stands in the place of the path.
    pub target: String,
    /// Host header or `:authority`.
    pub host: String,
    /// Service account of the client, `namespace/name`, or a whole SPIFFE id; `None` = it has no certificate.
    pub peer: Option<String>,
    /// Server name, of a client with a certificate.
    pub sni: String,
    /// Address of the client.
    pub from: Option<IpAddr>,
    /// Port, where it is not the usual one.
    pub port: Option<u16>,
    /// Said by HTTP/2.
    pub h2: bool,
    /// Name of a token; its own text where there is none of that name.
    pub token: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// What has to come of it.
    pub verdict: Verdict,
    /// The path as policy, route and application see it.
    pub seen: Option<String>,
}

/// What has to come of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The application answers.
    Allow,
    /// It is denied by this rule: `none`, or the policy's name and the number of its rule; empty = whichever.
    Deny(String),
    /// Another refusal: it is malformed.
    Status(u16),
}

impl Table {
    /// # Errors
    /// What is wrong in the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut table: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut names = BTreeMap::new();
        for set in &mut table.sets {
            if names.insert(set.name.clone(), ()).is_some() {
                return Err(format!("there are two sets `{}`", set.name));
            }
            let rows = set.written.iter().map(|line| Row::parse(line, &set.name));
            set.rows = rows.collect::<Result<_, _>>().map_err(|error| format!("set {}: {error}", set.name))?;
        }
        Ok(table)
    }
}

impl Set {
    /// Whether it is tried there.
    pub fn is_for(&self, place: Place) -> bool {
        match &self.at {
            Some(places) => places.contains(&place),
            None => place != Place::Bytes,
        }
    }

    /// The specs alone, with the policies' names.
    pub fn specs(&self) -> Vec<(String, Value)> {
        let spec = |policy: &Map<String, Value>| {
            let own = policy.iter().filter(|(key, _)| !METADATA.contains(&key.as_str()));
            Value::Object(own.map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        self.policies.iter().map(|policy| (self.name_of(policy), spec(policy))).collect()
    }

    /// Whether all its policies are for the workload and in force.
    pub fn is_plain(&self) -> bool {
        self.policies.iter().all(|policy| !policy.keys().any(|key| ["namespace", "dryRun"].contains(&key.as_str())))
    }

    fn name_of(&self, policy: &Map<String, Value>) -> String {
        policy.get("name").and_then(Value::as_str).unwrap_or(&self.name).to_owned()
    }

    /// The objects, for the workload at this place unless they say another.
    pub(super) fn policies(&self, place: Place) -> Vec<Value> {
        let (namespace, label) = home(place);
        let specs = self.specs().into_iter().zip(&self.policies);
        let object = |((name, mut spec), policy): ((String, Value), &Map<String, Value>)| {
            let elsewhere = policy.get("namespace").and_then(Value::as_str);
            let chosen = ["selector", "targetRefs"].iter().any(|key| policy.contains_key(*key));
            if elsewhere.is_none() && !chosen {
                spec["selector"] = json!({"matchLabels": {label.0: label.1}});
            }
            let mut metadata = json!({"name": name, "namespace": elsewhere.unwrap_or(namespace)});
            if policy.get("dryRun") == Some(&true.into()) {
                metadata["annotations"] = json!({"istio.io/dry-run": "true"});
            }
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec})
        };
        specs.map(object).collect()
    }
}

/// What of a policy in the table is no part of its spec.
const METADATA: [&str; 3] = ["name", "namespace", "dryRun"];

/// Namespace and label of the workload at a place.
pub(super) fn home(place: Place) -> (&'static str, (&'static str, &'static str)) {
    match place {
        Place::Gateway => ("istio-system", ("istio", "ingressgateway")),
        Place::Sidecar | Place::Bytes => ("shop", ("app", "reviews")),
    }
}

impl Row {
    /// `GET /path key=value ... -> verdict`.
    fn parse(line: &str, set: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{line}`: {what}");
        let (asked, said) = line.rsplit_once(" -> ").ok_or_else(|| wrong("there is no ` -> `"))?;
        let mut words = asked.split_whitespace();
        let method = words.next().ok_or_else(|| wrong("there is no method"))?;
        let is_bytes = method == "BYTES";
        let target = if is_bytes { "" } else { words.next().ok_or_else(|| wrong("there is no path"))? };
        let (verdict, seen) = said.split_once(" as ").map_or((said, None), |(verdict, seen)| (verdict, Some(seen)));
        let mut row = Self {
            text: line.to_owned(),
            method: if is_bytes { String::new() } else { method.to_owned() },
            target: target.to_owned(),
            host: "shop.example.com".to_owned(),
            peer: None,
            sni: "shop.example.com".to_owned(),
            from: None,
            port: None,
            h2: false,
            token: None,
            headers: Vec::new(),
            verdict: Verdict::parse(verdict.trim(), set).ok_or_else(|| wrong("this is no verdict"))?,
            seen: seen.map(|seen| seen.trim().to_owned()),
        };
        for word in words {
            row.take(word).map_err(|what| wrong(&what))?;
        }
        Ok(row)
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        if word == "h2" {
            self.h2 = true;
            return Ok(());
        }
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is no `key=value`"))?;
        match key {
            "peer" => self.peer = Some(value.to_owned()),
            "host" => self.host = value.to_owned(),
            "sni" => self.sni = value.to_owned(),
            "token" => self.token = Some(value.to_owned()),
            "from" => self.from = Some(value.parse().map_err(|_| format!("`{value}` is no address"))?),
            "port" => self.port = Some(value.parse().map_err(|_| format!("`{value}` is no port"))?),
            name => {
                let name = name.strip_prefix("header:").ok_or_else(|| format!("`{key}` is no part of a row"))?;
                self.headers.push((name.to_owned(), value.replace('_', " ")));
            }
        }
        Ok(())
    }
}

impl Verdict {
    fn parse(text: &str, set: &str) -> Option<Self> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["allow"] => Some(Self::Allow),
            ["deny", "none"] => Some(Self::Deny("none".into())),
            ["deny", "any"] => Some(Self::Deny(String::new())),
            ["deny", rule] => Some(Self::Deny(format!("{set} {}", rule.parse::<usize>().ok()?))),
            ["deny", policy, rule] => Some(Self::Deny(format!("{policy} {}", rule.parse::<usize>().ok()?))),
            [status] => Some(Self::Status(status.parse().ok()?)),
            _ => None,
        }
    }

    /// The details of the access log, where they are known.
    pub(super) fn details(&self, namespace: &str) -> Option<String> {
        let Self::Deny(by) = self else { return None };
        if by.is_empty() {
            return None;
        }
        let id = match by.split_once(' ') {
            Some((policy, rule)) => format!("ns[{namespace}]-policy[{policy}]-rule[{rule}]"),
            None => by.clone(),
        };
        Some(format!("rbac_access_denied_matched_policy[{id}]"))
    }
}
