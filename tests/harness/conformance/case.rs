//! A case as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::text::{Span, Text, written};

/// The first document of a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    /// What it shows, in a sentence.
    #[serde(rename = "about")]
    _about: String,
    /// `http` of a VirtualService for shop.example.com at the Gateway `edge`.
    pub(super) http: Option<Value>,
    /// Hosts of the Gateway `edge`, with HTTP on 80 and HTTPS on 443; with `http` they need not be said.
    pub(super) edge: Option<Vec<String>>,
    #[serde(default)]
    pub(super) endpoints: BTreeMap<String, Endpoint>,
    #[serde(default)]
    pub(super) certificates: BTreeMap<String, Certificate>,
    /// The endpoint in front of which a sidecar stands, when it is the only proxy.
    pub(super) sidecar: Option<String>,
    /// Flags of the only proxy.
    #[serde(default)]
    pub(super) flags: Vec<String>,
    #[serde(default)]
    pub(super) proxies: BTreeMap<String, ProxySpec>,
    /// What `sluice check` says; nothing worse than a note, if nothing is written here.
    #[serde(default)]
    pub(super) problems: Vec<Problem>,
    #[serde(default)]
    pub(super) steps: Vec<Step>,
}

impl Case {
    /// Reads a file: the case, and the objects that follow it.
    pub(super) fn parse(text: &str) -> Result<(Self, String), String> {
        let (case, objects) = text.split_once("\n---\n").unwrap_or((text, ""));
        let case: Self = serde_saphyr::from_str(case).map_err(|error| error.to_string())?;
        for (number, step) in case.steps.iter().enumerate() {
            step.check().map_err(|error| format!("step {} ({}): {error}", number + 1, step.title()))?;
        }
        Ok((case, objects.to_owned()))
    }
}

/// Something that requests come to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Endpoint {
    /// Label `app`, its Service and its service account; else the name without `-v1`.
    pub(super) app: Option<String>,
    pub(super) namespace: Option<String>,
    /// Beside `app` and `version`.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Ports it listens at; else 8080.
    pub(super) ports: Option<Vec<u16>>,
    /// First word of the Service port's name.
    #[serde(default)]
    pub(super) protocol: Protocol,
    /// What it does with a connection; else what its protocol says.
    pub(super) plays: Option<Plays>,
    /// What it sends first, before it was asked anything (`tcp`).
    pub(super) says: Option<String>,
    /// So long it says nothing on a new connection.
    pub(super) greets_after: Option<Span>,
    pub(super) tls: Option<PeerTls>,
    /// A sidecar of Istio: mutual TLS of the mesh, and the pod says so.
    #[serde(default)]
    pub(super) mesh: bool,
    /// Answers in their order; the last one again and again.
    #[serde(default)]
    pub(super) answers: Vec<Answer>,
    /// False: there is neither Pod nor Service, the objects say who it is.
    pub(super) pod: Option<bool>,
    /// False: the objects have its Service.
    pub(super) service: Option<bool>,
    /// False: nobody listens until a step starts it.
    pub(super) listens: Option<bool>,
    /// It listens at the unix socket `${socket.NAME}`, and nowhere else.
    #[serde(default)]
    pub(super) socket: bool,
}

impl Endpoint {
    pub(super) fn ports(&self) -> Vec<u16> {
        self.ports.clone().unwrap_or_else(|| vec![8080])
    }

    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(crate::mesh::NAMESPACE)
    }

    pub(super) fn plays(&self) -> Plays {
        self.plays.unwrap_or(match self.protocol {
            Protocol::Tcp | Protocol::Tls | Protocol::Mongo | Protocol::Mysql | Protocol::Redis => Plays::Tcp,
            _ => Plays::Http,
        })
    }
}

/// What a Service port is named after.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Protocol {
    #[default]
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tcp,
    Tls,
    Mongo,
    Mysql,
    Redis,
    /// A name that says nothing.
    Unnamed,
}

impl Protocol {
    pub(super) fn port_name(self, port: u16) -> String {
        let word = match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Mongo => "mongo",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::Unnamed => "port",
        };
        format!("{word}-{port}")
    }
}

/// What an endpoint does with a connection.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Plays {
    /// HTTP/1.1 or HTTP/2, whichever the client begins.
    Http,
    /// Sends back what comes.
    Tcp,
    /// Takes connections and says nothing.
    Silent,
    /// Takes connections and ends them.
    HangsUp,
}

/// TLS of an endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PeerTls {
    /// Which of `certificates`.
    pub(super) certificate: String,
    /// Demands a client certificate of this CA.
    pub(super) clients: Option<String>,
    pub(super) alpn: Option<Vec<String>>,
}

/// One answer of an endpoint; without anything it is 200 with the endpoint's name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Values>,
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) trailers: BTreeMap<String, Values>,
    /// A gRPC answer without a message and with this status, in headers alone.
    pub(super) grpc: Option<u16>,
    pub(super) delay: Option<Span>,
    pub(super) fault: Option<Fault>,
    /// So many times.
    pub(super) times: Option<usize>,
}

/// How an answer fails.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// The connection of HTTP/1.1 ends, the stream of HTTP/2 is reset.
    Close,
    /// HTTP/2: the stream is refused.
    RefusedStream,
    /// Nothing ever comes.
    Silence,
    /// Ends in the middle of the body.
    Cut,
}

/// One value or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Values {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<String>),
}

impl Values {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Number(number) => vec![number.to_string()],
            Self::Flag(flag) => vec![flag.to_string()],
            Self::List(list) => list.clone(),
        }
    }
}

/// A certificate to make.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Certificate {
    /// Names of a server.
    pub(super) server: Option<Vec<String>>,
    /// Names of a client: DNS names, `spiffe://...`.
    pub(super) client: Option<Vec<String>>,
    /// An identity of the mesh, or of another that has this CA.
    pub(super) workload: Option<String>,
    /// Its CA: `edge`, `mesh`, or one with any other name; else the mesh's for a workload and the edge's for others.
    pub(super) ca: Option<String>,
    /// The Secret that holds it, NAMESPACE/NAME.
    pub(super) secret: Option<String>,
    /// The CA whose certificate the Secret holds as `ca.crt`.
    pub(super) trusts: Option<String>,
}

/// A proxy of a case with several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProxySpec {
    /// In front of this endpoint; without it, it is a gateway.
    pub(super) sidecar: Option<String>,
    /// Service account of a gateway in istio-system.
    pub(super) account: Option<String>,
    #[serde(default)]
    pub(super) flags: Vec<String>,
}

/// A line of `sluice check`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Problem {
    pub(super) code: Text,
    #[serde(default, deserialize_with = "written")]
    pub(super) severity: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) kind: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) name: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) field: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) message: Option<Text>,
}

/// Something that happens, and what is expected then.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Step {
    pub(super) name: Option<String>,
    // What happens, one of these.
    pub(super) get: Option<String>,
    pub(super) request: Option<String>,
    pub(super) grpc: Option<String>,
    pub(super) raw: Option<String>,
    pub(super) talk: Option<Vec<Move>>,
    pub(super) apply: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) start: Option<String>,
    // To whom.
    pub(super) at: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) through: Option<String>,
    pub(super) host: Option<String>,
    pub(super) tls: Option<ClientTls>,
    pub(super) version: Option<u8>,
    // What.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Values>,
    pub(super) body: Option<String>,
    // How often.
    pub(super) times: Option<usize>,
    pub(super) parallel: Option<usize>,
    #[serde(default)]
    pub(super) kept: bool,
    pub(super) eventually: Option<Span>,
    #[serde(default)]
    pub(super) expect: Expect,
}

impl Step {
    /// What happens, by name and with its first line.
    fn verbs(&self) -> Vec<(&'static str, &str)> {
        let written = [
            ("get", &self.get),
            ("request", &self.request),
            ("grpc", &self.grpc),
            ("raw", &self.raw),
            ("apply", &self.apply),
            ("stop", &self.stop),
            ("start", &self.start),
        ];
        let written = written.into_iter().filter_map(|(verb, value)| Some((verb, value.as_deref()?)));
        let talk = self.talk.as_ref().map(|_| ("talk", ""));
        written.map(|(verb, value)| (verb, value.lines().next().unwrap_or_default())).chain(talk).collect()
    }

    /// A step with two things to do would do one of them, and nobody would hear of the other.
    fn check(&self) -> Result<(), String> {
        let verbs: Vec<&str> = self.verbs().into_iter().map(|(verb, _)| verb).collect();
        match verbs[..] {
            [_] if matches!(self.expect.fails, Some(Text::Present)) => {
                Err("`fails: {present: true}` holds whatever fails; say the words that tell it from another".to_owned())
            }
            [_] => Ok(()),
            [] => Err(format!("nothing happens; a step has {VERBS}")),
            _ => Err(format!("{} in one step; a step has {VERBS}", verbs.join(" and "))),
        }
    }

    /// For reports.
    pub(super) fn title(&self) -> String {
        let verbs = self.verbs();
        let verb = verbs.first().map(|(verb, value)| format!("{verb} {value}").trim_end().to_owned());
        let verb = verb.unwrap_or_else(|| "nothing".into());
        match &self.name {
            Some(name) => format!("{name}: {verb}"),
            None => verb,
        }
    }
}

/// What a step may do.
const VERBS: &str = "one of get, request, grpc, raw, talk, apply, stop, start";

/// TLS of a client.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientTls {
    /// Else the host of the request.
    pub(super) sni: Option<String>,
    /// Which of `certificates` it shows.
    pub(super) certificate: Option<String>,
    /// A CA; else the edge's, and the mesh's with any name for an identity of the mesh.
    pub(super) trusts: Option<String>,
    pub(super) alpn: Option<Vec<String>>,
    /// `1.2` or `1.3` alone.
    pub(super) version: Option<String>,
}

/// One move of a conversation without HTTP.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Move {
    /// Sends this.
    Say(String),
    /// Exactly this comes.
    Hear(String),
    /// Nothing comes for so long, and nobody ends.
    Quiet(Span),
    /// Ends the sending side.
    End,
    /// The peer ends.
    Closed,
}

/// What is expected of a step.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) status: Option<u16>,
    /// How many answers of each status.
    pub(super) statuses: Option<BTreeMap<u16, usize>>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) body: Option<Text>,
    #[serde(default)]
    pub(super) trailers: BTreeMap<String, Text>,
    pub(super) grpc: Option<u16>,
    #[serde(default, deserialize_with = "written")]
    pub(super) grpc_message: Option<Text>,
    /// There is no answer, and this is why.
    #[serde(default, deserialize_with = "written")]
    pub(super) fails: Option<Text>,
    /// The names of the server's certificate.
    #[serde(default, deserialize_with = "written")]
    pub(super) certificate: Option<Text>,
    /// ALPN that was agreed on.
    #[serde(default, deserialize_with = "written")]
    pub(super) alpn: Option<Text>,
    /// The one endpoint that saw requests of this step; `none`: nobody did.
    pub(super) from: Option<String>,
    /// Requests that an endpoint saw, or connections of an endpoint without HTTP.
    #[serde(default)]
    pub(super) attempts: BTreeMap<String, usize>,
    /// How many different endpoints saw any.
    pub(super) endpoints: Option<usize>,
    /// The share of each endpoint, and how far it may be from that.
    #[serde(default)]
    pub(super) shares: BTreeMap<String, f64>,
    pub(super) tolerance: Option<f64>,
    /// The last request that was seen.
    pub(super) saw: Option<Saw>,
    /// The last request that each of these saw.
    #[serde(default)]
    pub(super) seen: BTreeMap<String, Saw>,
    /// Not before.
    pub(super) after: Option<Span>,
    /// Not later.
    pub(super) within: Option<Span>,
    /// A line of the access log has these fields.
    #[serde(default)]
    pub(super) log: BTreeMap<String, Text>,
    /// The same of another proxy.
    #[serde(default)]
    pub(super) logs: BTreeMap<String, BTreeMap<String, Text>>,
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
}

/// A request as an endpoint saw it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Saw {
    #[serde(default, deserialize_with = "written")]
    pub(super) method: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) path: Option<Text>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) body: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) version: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) sni: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) alpn: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) offered: Option<Text>,
    #[serde(default, deserialize_with = "written")]
    pub(super) client: Option<Text>,
}

/// A metric that grew.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) name: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// By exactly this.
    pub(super) plus: f64,
    /// Of another proxy.
    pub(super) at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Case;

    fn refused(steps: &str) -> String {
        Case::parse(&format!("about: x\nsteps:\n{steps}\n---\n")).err().unwrap_or_default()
    }

    #[test]
    fn a_step_does_one_thing() {
        assert_eq!(refused("- {get: /}\n- {talk: [end]}"), "");
        assert_eq!(
            refused("- {get: /}\n- {get: /a, raw: x, talk: []}"),
            "step 2 (get /a): get and raw and talk in one step; a step has one of get, request, grpc, raw, talk, apply, \
             stop, start"
        );
        let nothing = refused("- {name: idle, times: 3}");
        assert!(nothing.starts_with("step 1 (idle: nothing): nothing happens; a step has one of"), "{nothing}");
    }
}
