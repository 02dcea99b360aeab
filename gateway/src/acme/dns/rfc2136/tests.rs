use std::sync::{Arc, Mutex};

use domain::{
    base::{Serial, iana::TsigRcode, message_builder::AnswerBuilder},
    rdata::{Soa, tsig::Tsig as TsigRecord},
    tsig::ServerTransaction,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const NAME: &str = "_acme-challenge.a.b.example.test";
const VALUE: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

type Asked = Message<Vec<u8>>;

/// A name server that follows a script.
struct Peer {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Peer {
    /// Answers every message with what `script` makes of it: bytes that are sent as they are before the connection ends.
    async fn start(script: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut message = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut message).await.unwrap();
                let message = Message::from_octets(message).unwrap();
                let answer = script(&message);
                seen.lock().unwrap().push(message);
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { address, asked }
    }

    async fn update(&self, zone: Option<&str>, tsig: Option<Tsig>, change: Change) -> Result<(), String> {
        let server = Rfc2136 { nameserver: self.address.clone(), zone: zone.map(str::to_owned), tsig };
        update_within(Duration::from_secs(20), &server, &record(), change).await
    }

    /// What is said when publishing fails, without the part that is always the same.
    async fn refuses(&self, tsig: Option<Tsig>) -> String {
        let error = self.update(Some("example.test"), tsig, Change::Publish).await.unwrap_err();
        let start = format!("the TXT record {NAME} is not published at the name server {}: ", self.address);
        error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}")).to_owned()
    }

    /// Questions and zones of what it was asked, in order.
    fn questions(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|message| message.sole_question().unwrap())
            .map(|it| format!("{} {}", it.qname(), it.qtype()))
            .collect()
    }

    fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

fn record() -> TxtRecord {
    TxtRecord { name: NAME.to_owned(), value: VALUE.to_owned() }
}

fn tsig() -> Option<Tsig> {
    let key = (*b"a key of the tests, of 32 bytes.").into();
    Some(Tsig { key_name: "acme".to_owned(), algorithm: TsigAlgorithm::HmacSha256, key })
}

fn key(tsig: Option<Tsig>) -> Key {
    signing_key(&tsig.unwrap()).unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn answer_to(asked: &Asked, rcode: Rcode) -> AnswerBuilder<Vec<u8>> {
    MessageBuilder::new_vec().start_answer(asked, rcode).unwrap()
}

fn plain(asked: &Asked, rcode: Rcode) -> Vec<u8> {
    framed(answer_to(asked, rcode).into_message().as_slice())
}

/// An answer as [`plain`], signed with `key` if what was asked was.
fn signed(asked: &Asked, rcode: Rcode, key: Key) -> Vec<u8> {
    let mut asked = asked.clone();
    let transaction = ServerTransaction::request(&key, &mut asked, Time48::now()).unwrap().expect("it was signed");
    let mut answer = answer_to(&asked, rcode).additional();
    transaction.answer(&mut answer, Time48::now()).unwrap();
    framed(answer.into_message().as_slice())
}

/// An authoritative answer without records but the zone's SOA in the authority section.
fn nothing_there(asked: &Asked, zone: &str) -> Vec<u8> {
    let mut answer = answer_to(asked, Rcode::NXDOMAIN).authority();
    answer.header_mut().set_aa(true);
    let zone = name(zone, "").unwrap();
    let soa = Soa::new(zone.clone(), zone.clone(), Serial(1), TTL, TTL, TTL, TTL);
    answer.push((zone, TTL, soa)).unwrap();
    framed(answer.into_message().as_slice())
}

/// An authoritative answer that `owner` is an alias.
fn alias_there(asked: &Asked, owner: &str, target: &str) -> Vec<u8> {
    let mut answer = answer_to(asked, Rcode::NOERROR);
    answer.header_mut().set_aa(true);
    answer.push((name(owner, "").unwrap(), TTL, Cname::new(name(target, "").unwrap()))).unwrap();
    framed(answer.into_message().as_slice())
}

/// The one record of a section: owner, class, TTL, type and text.
fn sole(section: RecordSection<'_, Vec<u8>>) -> String {
    let records: Vec<_> = section.map(Result::unwrap).collect();
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    let text = record.to_record::<Txt<_>>().unwrap().map(|record| record.data().text::<Vec<u8>>()).unwrap_or_default();
    let (owner, class, ttl) = (record.owner(), record.class(), record.ttl().as_secs());
    format!("{owner} {class} {ttl} {} {}", record.rtype(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn publishing_adds_a_value_unless_the_name_is_an_alias() {
    let peer = Peer::start(|asked| plain(asked, Rcode::NOERROR)).await;

    peer.update(Some("Example.test."), None, Change::Publish).await.unwrap();

    let sent = peer.last();
    assert_eq!((sent.header().opcode(), sent.header().qr(), sent.header().rd()), (Opcode::UPDATE, false, false));
    assert_eq!(peer.questions(), ["Example.test SOA"]);
    assert_eq!(sole(sent.prerequisite().unwrap()), format!("{NAME} NONE 0 CNAME "));
    assert_eq!(sole(sent.update().unwrap()), format!("{NAME} IN 60 TXT {VALUE}"));
    assert_eq!(sent.header_counts().arcount(), 0);
}

#[tokio::test]
async fn withdrawing_deletes_one_value() {
    let peer = Peer::start(|asked| plain(asked, Rcode::NOERROR)).await;

    peer.update(Some("example.test"), None, Change::Withdraw).await.unwrap();

    assert_eq!(sole(peer.last().update().unwrap()), format!("{NAME} NONE 0 TXT {VALUE}"));
}

#[tokio::test]
async fn a_signed_update_gets_a_signed_answer() {
    for algorithm in [TsigAlgorithm::HmacSha256, TsigAlgorithm::HmacSha384, TsigAlgorithm::HmacSha512] {
        let tsig = tsig().map(|tsig| Tsig { algorithm, ..tsig });
        let known = key(tsig.clone());
        let peer = Peer::start(move |asked| signed(asked, Rcode::NOERROR, known.clone())).await;
        peer.update(Some("example.test"), tsig, Change::Publish).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_not_signed_with_the_key_does_not_count() {
    let peer = Peer::start(|asked| plain(asked, Rcode::NOERROR)).await;
    assert_eq!(peer.refuses(tsig()).await, "it answered NOERROR unsigned: a signed update has to get a signed answer");
    let peer = Peer::start(|asked| plain(asked, Rcode::YXRRSET)).await;
    assert_eq!(peer.refuses(tsig()).await, "it answered YXRRSET unsigned: a signed update has to get a signed answer");

    let peer = Peer::start(|asked| {
        let mut answer = signed(asked, Rcode::REFUSED, key(tsig()));
        answer[5] &= 0xf0;
        answer
    });
    let expected = "its answer (NOERROR) is not signed with the TSIG key acme as it has to be: bad signature";
    assert_eq!(peer.await.refuses(tsig()).await, expected);
}

/// An answer about a signature, itself unsigned (RFC 8945 section 5.3.2).
fn unsigned(asked: &Asked, error: TsigRcode) -> Vec<u8> {
    let mut answer = answer_to(asked, Rcode::NOTAUTH).additional();
    let algorithm = Algorithm::Sha256.to_name();
    let data = TsigRecord::new(algorithm, Time48::now(), 300, &b""[..], asked.header().id(), error, &b""[..]).unwrap();
    answer.push((key(tsig()).name(), Class::ANY, Ttl::ZERO, data)).unwrap();
    framed(answer.into_message().as_slice())
}

#[tokio::test]
async fn what_the_name_server_holds_against_the_signature_is_told() {
    let peer = Peer::start(|asked| unsigned(asked, TsigRcode::BADKEY)).await;
    assert!(peer.refuses(tsig()).await.starts_with("it does not know the TSIG key acme (BADKEY); correct its name"));

    let peer = Peer::start(|asked| unsigned(asked, TsigRcode::BADSIG)).await;
    assert!(peer.refuses(tsig()).await.starts_with("the TSIG key acme is another one there (BADSIG); give"));

    let peer = Peer::start(|asked| {
        let later = Time48::from_u64(u64::from(Time48::now()) + 4_000);
        let error = ServerTransaction::request(&key(tsig()), &mut asked.clone(), later).unwrap_err();
        framed(error.build_message(asked, MessageBuilder::new_vec()).unwrap().into_message().as_slice())
    });
    let reason = peer.await.refuses(tsig()).await;
    assert!(reason.starts_with("its clock and ours are ") && reason.ends_with(" s apart (BADTIME); set them right"));
    assert!(["3999", "4000", "4001"].iter().any(|apart| reason.contains(apart)), "{reason}");
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    let told = [
        (Rcode::REFUSED, "REFUSED: it does not let us change the zone example.test; give the Issuer a TSIG key"),
        (Rcode::NOTAUTH, "NOTAUTH: either it is not the primary of the zone example.test; then correct `nameserver`"),
        (Rcode::NOTZONE, "NOTZONE: the record is not in the zone example.test; correct `zone`"),
        (Rcode::NOTIMP, "NOTIMP: it takes no dynamic updates (RFC 2136); name one that does"),
        (Rcode::SERVFAIL, "SERVFAIL: it could not change the zone example.test; its log says why"),
        (Rcode::FORMERR, "FORMERR: it does not understand dynamic updates"),
        (Rcode::NXRRSET, "NXRRSET to an update of the zone example.test; its log may say why"),
    ];
    for (rcode, words) in told {
        let reason = Peer::start(move |asked| plain(asked, rcode)).await.refuses(None).await;
        assert!(reason.starts_with(&format!("it answered {words}")), "{reason}");
    }
    let peer = Peer::start(|asked| signed(asked, Rcode::REFUSED, key(tsig()))).await;
    assert!(peer.refuses(tsig()).await.ends_with("; let the TSIG key change TXT records there"));
}

#[tokio::test]
async fn only_an_answer_to_what_was_asked_counts() {
    let wrong: [fn(&mut [u8]); 3] = [|it| it[1] ^= 1, |it| it[2] &= 0x7f, |it| it[2] &= 0x87];
    for spoil in wrong {
        let peer = Peer::start(move |asked| {
            let mut answer = answer_to(asked, Rcode::NOERROR).into_message().into_octets();
            spoil(&mut answer);
            framed(&answer)
        });
        assert_eq!(peer.await.refuses(None).await, "its answer belongs to another question: is it a name server?");
    }
}

#[tokio::test]
async fn a_piece_of_an_answer_is_none() {
    let peer = Peer::start(|asked| {
        let mut answer = plain(asked, Rcode::NOERROR);
        answer.pop();
        answer
    });
    assert_eq!(peer.await.refuses(None).await, "it closed the connection before its answer was complete");

    let peer = Peer::start(|_| Vec::new()).await;
    assert_eq!(peer.refuses(None).await, "it closed the connection before its answer was complete");

    let peer = Peer::start(|_| framed(b"HTTP/1.1")).await;
    assert_eq!(peer.refuses(None).await, "its answer cannot be read (short message): is it a name server?");

    let peer = Peer::start(|asked| {
        let mut answer = answer_to(asked, Rcode::NOERROR);
        answer.header_mut().set_tc(true);
        framed(answer.into_message().as_slice())
    });
    assert_eq!(peer.await.refuses(None).await, "its answer is cut off, even over TCP");
}

#[tokio::test]
async fn silence_has_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nameserver = listener.local_addr().unwrap().to_string();
    let server = Rfc2136 { nameserver, zone: None, tsig: None };
    let error = update_within(Duration::from_millis(250), &server, &record(), Change::Withdraw).await.unwrap_err();
    assert!(error.starts_with(&format!("the TXT record {NAME} is not withdrawn at ")), "{error}");
    assert!(error.ends_with(": it did not answer within 0.25 s"), "{error}");
}

#[tokio::test]
async fn the_zone_is_asked_of_the_name_server() {
    let peer = Peer::start(|asked| match asked.header().opcode() {
        Opcode::QUERY => nothing_there(asked, "b.example.test"),
        _ => signed(asked, Rcode::NOERROR, key(tsig())),
    })
    .await;

    peer.update(None, tsig(), Change::Publish).await.unwrap();

    assert_eq!(peer.questions(), [format!("{NAME} SOA"), "b.example.test SOA".to_owned()]);
}

#[tokio::test]
async fn a_wildcard_alias_does_not_hide_the_zone() {
    let peer = Peer::start(|asked| match (asked.header().opcode(), asked.sole_question().unwrap().qname()) {
        (Opcode::QUERY, owner) if *owner == name(NAME, "").unwrap() => alias_there(asked, NAME, "elsewhere.test"),
        (Opcode::QUERY, _) => nothing_there(asked, "example.test"),
        _ => plain(asked, Rcode::NOERROR),
    })
    .await;

    peer.update(None, None, Change::Publish).await.unwrap();

    assert_eq!(peer.questions(), [&format!("{NAME} SOA"), "a.b.example.test SOA", "example.test SOA"]);
    assert_eq!(sole(peer.last().update().unwrap()), format!("{NAME} IN 60 TXT {VALUE}"));
}

#[tokio::test]
async fn an_alias_is_followed() {
    let peer = Peer::start(|asked| {
        let question = asked.sole_question().unwrap();
        let first = asked.authority().unwrap().next().is_some_and(|it| it.unwrap().owner() == name(NAME, "").unwrap());
        match asked.header().opcode() {
            Opcode::QUERY if question.qtype() == Rtype::CNAME => alias_there(asked, NAME, "x.dyn.example.test"),
            Opcode::QUERY => nothing_there(asked, "example.test"),
            _ if first => plain(asked, Rcode::YXRRSET),
            _ => plain(asked, Rcode::NOERROR),
        }
    })
    .await;

    peer.update(None, None, Change::Publish).await.unwrap();
    assert_eq!(sole(peer.last().update().unwrap()), format!("x.dyn.example.test IN 60 TXT {VALUE}"));

    let error = peer.update(Some("b.example.test"), None, Change::Publish).await.unwrap_err();
    let why = format!(
        "{NAME} is an alias (CNAME) of x.dyn.example.test, and x.dyn.example.test is not in the zone b.example.test"
    );
    assert!(error.contains(&why), "{error}");
}

#[tokio::test]
async fn aliases_in_a_circle_are_left() {
    let peer = Peer::start(|asked| match asked.header().opcode() {
        Opcode::QUERY => alias_there(asked, NAME, NAME),
        _ => plain(asked, Rcode::YXRRSET),
    });
    let reason = peer.await.refuses(None).await;
    assert_eq!(reason, format!("{NAME} stands behind more than 8 aliases (CNAME): shorten the chain"));
}

#[tokio::test]
async fn a_name_server_of_somebody_elses_zone_is_none() {
    let scripts: [fn(&Asked) -> Vec<u8>; 3] = [
        |asked| plain(asked, Rcode::NOERROR),
        |asked| plain(asked, Rcode::NOTAUTH),
        |asked| nothing_there(asked, "example.org"),
    ];
    for script in scripts {
        let error = Peer::start(script).await.update(None, None, Change::Publish).await.unwrap_err();
        assert!(error.contains(&format!("the name server is not authoritative for {NAME}")), "{error}");
    }
    let peer = Peer::start(|asked| plain(asked, Rcode::REFUSED)).await;
    let error = peer.update(None, None, Change::Publish).await.unwrap_err();
    assert!(
        error.ends_with("it has no such zone, or answers no questions; correct `nameserver`, or give `zone`"),
        "{error}"
    );
}

#[tokio::test]
async fn settings_that_are_no_names_are_told() {
    let peer = Peer::start(|asked| plain(asked, Rcode::NOERROR)).await;
    let error = peer.update(Some("example..test"), None, Change::Publish).await.unwrap_err();
    assert!(error.contains("the zone \"example..test\" is not a DNS name: "), "{error}");
    let error = peer.update(Some("example.org"), None, Change::Publish).await.unwrap_err();
    assert!(error.ends_with("is not in the zone example.org: correct `zone`, or leave it out"), "{error}");
    let nameless = tsig().map(|tsig| Tsig { key_name: "a..b".to_owned(), ..tsig });
    let error = peer.update(None, nameless, Change::Publish).await.unwrap_err();
    assert!(error.contains("the name of the TSIG key, \"a..b\", is no name: "), "{error}");
}

#[test]
fn no_answer_makes_it_panic() {
    let key = key(tsig());
    let owner = name(NAME, "").unwrap();
    let mut message = new_message(Opcode::QUERY).question();
    message.push((&owner, Rtype::SOA)).unwrap();
    let mut message = message.additional();
    let signature = ClientTransaction::request(&key, &mut message, Time48::now()).unwrap();
    let sent = message.into_message();
    let answers = [
        nothing_there(&sent, "example.test"),
        alias_there(&sent, NAME, "x.example.test"),
        signed(&sent, Rcode::NOERROR, key.clone()),
        unsigned(&sent, TsigRcode::BADKEY),
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut answer = answers[random.usize(..answers.len())][2..].to_vec();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..answer.len());
            answer[at] = random.u8(..);
        }
        answer.truncate(random.usize(..answer.len() * 2));
        let signature = random.bool().then(|| signature.clone());
        if let Ok(reply) = accept(&sent, answer, signature) {
            let _ = (zone_in(&reply.answer, &owner), alias_in(&reply.answer, &owner));
        }
    }
}
