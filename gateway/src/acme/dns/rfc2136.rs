//! Dynamic updates (RFC 2136), signed where there is a key (RFC 8945).
//!
//! Over TCP alone: one answer, no guessing about lost datagrams, and nobody else can send one.

use std::{str::FromStr, time::Duration};

use domain::{
    base::{
        Message, MessageBuilder, Name, Record, Rtype, ToName, Ttl,
        iana::{Class, Opcode, Rcode},
        message::RecordSection,
        message_builder::AdditionalBuilder,
        rdata::UnknownRecordData,
    },
    rdata::{Cname, Txt, tsig::Time48},
    tsig::{Algorithm, ClientTransaction, Key, KeyName, ValidationError},
};
use routing::acme::{Rfc2136, Tsig, TsigAlgorithm};
use tokio::time::{Instant, timeout_at};

use super::{Change, TxtRecord};

mod transport;

#[cfg(test)]
mod tests;

/// Longest time for a change, with every question that it takes.
const DEADLINE: Duration = Duration::from_secs(10);
/// Caches may keep a value for so long; it is needed for minutes.
const TTL: Ttl = Ttl::from_secs(60);
/// Longest chain of aliases (CNAME) that is followed.
const ALIASES: usize = 8;

type DnsName = Name<Vec<u8>>;

/// Adds or deletes exactly this value.
///
/// # Errors
/// A sentence that names the name server, and says what to do.
pub(super) async fn update(server: &Rfc2136, record: &TxtRecord, change: Change) -> Result<(), String> {
    update_within(DEADLINE, server, record, change).await
}

async fn update_within(limit: Duration, server: &Rfc2136, record: &TxtRecord, change: Change) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let done = async { Primary::new(server, deadline)?.apply(record, change).await };
    let done = timeout_at(deadline, done).await;
    done.unwrap_or_else(|_| Err(format!("it did not answer within {} s", limit.as_secs_f32()))).map_err(|reason| {
        let done = match change {
            Change::Publish => "published",
            Change::Withdraw => "withdrawn",
        };
        format!("the TXT record {} is not {done} at the name server {}: {reason}", record.name, server.nameserver)
    })
}

/// The name server that is asked for changes. No `Debug`: it has the key.
struct Primary<'a> {
    nameserver: &'a str,
    /// `None` = asked of the name server.
    zone: Option<DnsName>,
    key: Option<Key>,
    deadline: Instant,
}

impl<'a> Primary<'a> {
    fn new(server: &'a Rfc2136, deadline: Instant) -> Result<Self, String> {
        let zone = server.zone.as_deref().map(|zone| name(zone, "the zone")).transpose()?;
        let key = server.tsig.as_ref().map(signing_key).transpose()?;
        Ok(Self { nameserver: &server.nameserver, zone, key, deadline })
    }

    /// Changes the record, or that of the name which its name is an alias of: the CA follows aliases too.
    async fn apply(&self, record: &TxtRecord, change: Change) -> Result<(), String> {
        let named = name(&record.name, "the record's name")?;
        let mut owner = named.clone();
        for _ in 0..ALIASES {
            match self.change(&owner, &record.value, change).await {
                Ok(None) => return Ok(()),
                Ok(Some(target)) => owner = target,
                Err(reason) if owner == named => return Err(reason),
                Err(reason) => return Err(format!("{named} is an alias (CNAME) of {owner}, and {reason}")),
            }
        }
        Err(format!("{named} stands behind more than {ALIASES} aliases (CNAME): shorten the chain"))
    }

    /// Changes the record of a name; gives another name, and changes nothing, when this one is an alias of that.
    async fn change(&self, owner: &DnsName, value: &str, change: Change) -> Result<Option<DnsName>, String> {
        let zone = match &self.zone {
            Some(zone) if owner.ends_with(zone) => zone.clone(),
            Some(zone) => return Err(format!("{owner} is not in the zone {zone}: correct `zone`, or leave it out")),
            None => self.zone_of(owner).await?,
        };
        let Reply { answer, trusted } = self.ask(change_of(&zone, owner, value, change)?).await?;
        match answer.header().rcode() {
            rcode @ (Rcode::NOERROR | Rcode::YXRRSET) if !trusted => {
                Err(format!("it answered {rcode} unsigned: a signed update has to get a signed answer"))
            }
            Rcode::NOERROR => Ok(None),
            Rcode::YXRRSET => self.alias(owner).await.map(Some),
            other => Err(self.refusal(other, &zone)),
        }
    }

    /// The zone that the name server keeps a name in.
    async fn zone_of(&self, owner: &DnsName) -> Result<DnsName, String> {
        let mut asked = owner.clone();
        loop {
            let answer = self.question(&asked, Rtype::SOA).await?;
            if let Some(zone) = zone_in(&answer, &asked)? {
                return Ok(zone);
            }
            // An alias is never the top of a zone. It may well be there by a wildcard, which a TXT record takes
            // precedence over, so it is no reason to go elsewhere.
            asked = asked.parent().ok_or_else(|| foreign(owner))?.to_vec();
        }
    }

    /// What a name is an alias of.
    async fn alias(&self, owner: &DnsName) -> Result<DnsName, String> {
        let answer = self.question(owner, Rtype::CNAME).await?;
        let missing = || format!("{owner} is an alias (CNAME), but it does not tell of what: remove the alias");
        alias_in(&answer, owner)?.ok_or_else(missing)
    }

    /// Some servers sign no answers to questions. Nothing is lost: a wrong answer only makes the update fail.
    async fn question(&self, owner: &DnsName, rtype: Rtype) -> Result<Message<Vec<u8>>, String> {
        let mut message = new_message(Opcode::QUERY).question();
        message.push((owner, rtype)).map_err(unwritable)?;
        Ok(self.ask(message.additional()).await?.answer)
    }

    async fn ask(&self, mut message: AdditionalBuilder<Vec<u8>>) -> Result<Reply, String> {
        let sign = |key| ClientTransaction::request(key, &mut message, Time48::now()).map_err(unwritable);
        let signature = self.key.as_ref().map(sign).transpose()?;
        let sent = message.into_message();
        let answer = transport::exchange(self.nameserver, sent.as_slice(), self.deadline).await?;
        accept(&sent, answer, signature)
    }

    /// Why an update was refused, and what to do (RFC 2136 section 2.2).
    fn refusal(&self, rcode: Rcode, zone: &DnsName) -> String {
        let right = match self.key {
            Some(_) => "let the TSIG key change TXT records there",
            None => "give the Issuer a TSIG key that may change TXT records there",
        };
        match rcode {
            Rcode::REFUSED => {
                format!("it answered REFUSED: it does not let us change the zone {zone}; {right}")
            }
            // Knot answers this to somebody who may not change the zone, too.
            Rcode::NOTAUTH => format!(
                "it answered NOTAUTH: either it is not the primary of the zone {zone}; then correct `nameserver` or \
                 `zone`. Or it does not let us change it; then {right}"
            ),
            Rcode::NOTZONE => {
                format!("it answered NOTZONE: the record is not in the zone {zone}; correct `zone`, or leave it out")
            }
            Rcode::NOTIMP => {
                "it answered NOTIMP: it takes no dynamic updates (RFC 2136); name one that does".to_owned()
            }
            Rcode::SERVFAIL => {
                format!("it answered SERVFAIL: it could not change the zone {zone}; its log says why")
            }
            Rcode::FORMERR => "it answered FORMERR: it does not understand dynamic updates; name another".to_owned(),
            other => format!("it answered {other} to an update of the zone {zone}; its log may say why"),
        }
    }
}

/// An answer that fits what was asked.
struct Reply {
    answer: Message<Vec<u8>>,
    /// It is signed as the question was.
    trusted: bool,
}

/// Reads an answer, and checks that it is one to what was sent.
fn accept(
    sent: &Message<Vec<u8>>,
    answer: Vec<u8>,
    signature: Option<ClientTransaction<&Key>>,
) -> Result<Reply, String> {
    let mut answer = Message::from_octets(answer).map_err(unreadable)?;
    let (asked, header) = (sent.header(), answer.header());
    if !header.qr() || header.id() != asked.id() || header.opcode() != asked.opcode() {
        return Err("its answer belongs to another question: is it a name server?".to_owned());
    }
    if header.tc() {
        return Err("its answer is cut off, even over TCP".to_owned());
    }
    let Some(signature) = signature else { return Ok(Reply { answer, trusted: true }) };
    match signature.answer(&mut answer, Time48::now()) {
        Ok(()) => Ok(Reply { answer, trusted: true }),
        Err(ValidationError::ServerUnsigned) => Ok(Reply { answer, trusted: false }),
        Err(error) => Err(distrust(error, header.rcode(), signature.key().name())),
    }
}

/// The zone of a name, from the answer to the question for its SOA record (RFC 2308 section 2: when there is none, that of
/// the zone comes along); `None` when the name is an alias.
fn zone_in(answer: &Message<Vec<u8>>, asked: &DnsName) -> Result<Option<DnsName>, String> {
    match answer.header().rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN if answer.header().aa() => {}
        Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::NOTAUTH => return Err(foreign(asked)),
        other => {
            let why = match other {
                Rcode::REFUSED => "it has no such zone, or answers no questions; correct `nameserver`, or give `zone`",
                _ => "its log may say why",
            };
            return Err(format!("it answered {other} when it was asked for the zone of {asked}: {why}"));
        }
    }
    let answers = answer.answer().map_err(unreadable)?;
    if owner_of(Rtype::CNAME, answers)?.is_some() {
        return Ok(None);
    }
    let authority = answer.authority().map_err(unreadable)?;
    let zone = owner_of(Rtype::SOA, answers)?.or(owner_of(Rtype::SOA, authority)?);
    zone.filter(|zone| asked.ends_with(zone)).ok_or_else(|| foreign(asked)).map(Some)
}

fn alias_in(answer: &Message<Vec<u8>>, owner: &DnsName) -> Result<Option<DnsName>, String> {
    let answers = answer.answer().map_err(unreadable)?;
    let mut aliases = answers.limit_to_in::<Cname<_>>().flatten().filter(|alias| alias.owner() == owner);
    Ok(aliases.next().map(|alias| alias.data().cname().to_vec()))
}

/// RFC 2136 section 2.5.1 and 2.5.4, on condition that the name is no alias: at one, an added record would be dropped
/// without a word (section 3.4.2.2).
fn change_of(
    zone: &DnsName,
    owner: &DnsName,
    value: &str,
    change: Change,
) -> Result<AdditionalBuilder<Vec<u8>>, String> {
    let mut message = new_message(Opcode::UPDATE).question();
    message.push((zone, Rtype::SOA)).map_err(unwritable)?;
    let mut message = message.answer();
    let nothing = UnknownRecordData::from_octets(Rtype::CNAME, Vec::new()).map_err(unwritable)?;
    message.push(Record::new(owner, Class::NONE, Ttl::ZERO, nothing)).map_err(unwritable)?;
    let mut message = message.authority();
    let (class, ttl) = match change {
        Change::Publish => (Class::IN, TTL),
        Change::Withdraw => (Class::NONE, Ttl::ZERO),
    };
    let text = Txt::<Vec<u8>>::build_from_slice(value.as_bytes()).map_err(unwritable)?;
    message.push(Record::new(owner, class, ttl, text)).map_err(unwritable)?;
    Ok(message.additional())
}

fn new_message(opcode: Opcode) -> MessageBuilder<Vec<u8>> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(fastrand::u16(..));
    message.header_mut().set_opcode(opcode);
    message
}

/// The owner of the first record of a type.
fn owner_of(rtype: Rtype, section: RecordSection<'_, Vec<u8>>) -> Result<Option<DnsName>, String> {
    for record in section {
        let record = record.map_err(unreadable)?;
        if record.rtype() == rtype {
            return Ok(Some(record.owner().to_vec()));
        }
    }
    Ok(None)
}

fn name(text: &str, what: &str) -> Result<DnsName, String> {
    DnsName::from_str(text).map_err(|error| format!("{what} {text:?} is not a DNS name: {error}"))
}

fn signing_key(tsig: &Tsig) -> Result<Key, String> {
    let algorithm = match tsig.algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::Sha256,
        TsigAlgorithm::HmacSha384 => Algorithm::Sha384,
        TsigAlgorithm::HmacSha512 => Algorithm::Sha512,
    };
    let named = KeyName::from_str(&tsig.key_name);
    let named = named.map_err(|error| format!("the name of the TSIG key, {:?}, is no name: {error}", tsig.key_name))?;
    Key::new(algorithm, &tsig.key, named, None, None).map_err(|error| format!("the TSIG key cannot be used: {error}"))
}

/// Why an answer, or our own signature, did not count (RFC 8945 section 5).
fn distrust(error: ValidationError, rcode: Rcode, key: &KeyName) -> String {
    match error {
        ValidationError::ServerBadKey => format!(
            "it does not know the TSIG key {key} (BADKEY); correct its name or algorithm, or add it to the name server"
        ),
        ValidationError::ServerBadSig => {
            format!("the TSIG key {key} is another one there (BADSIG); give the Issuer the same secret")
        }
        ValidationError::ServerBadTime { client, server } => {
            let (ours, theirs) = (u64::from(client), u64::from(server));
            let apart = ours.abs_diff(theirs);
            format!("its clock and ours are {apart} s apart (BADTIME); set them right")
        }
        ValidationError::BadTime => "its answer was signed at another time than now; set its clock right".to_owned(),
        other => format!("its answer ({rcode}) is not signed with the TSIG key {key} as it has to be: {other}"),
    }
}

fn foreign(owner: &DnsName) -> String {
    format!("the name server is not authoritative for {owner}: name the zone's primary in `nameserver`")
}

fn unreadable(error: impl std::fmt::Display) -> String {
    format!("its answer cannot be read ({error}): is it a name server?")
}

fn unwritable(error: impl std::fmt::Display) -> String {
    format!("the message cannot be written: {error}")
}
