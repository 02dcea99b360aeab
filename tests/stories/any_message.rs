//! Any message, cut into reads and writes in any way, is the same at the other end, in all combinations of HTTP versions.
//!
//! Chance makes the messages. A story that fails names the seed of its connection; with `SLUICE_TEST_SEED` it says that one
//! again.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use futures::{StreamExt, future::join_all, stream};
use harness::{
    client::{Client, Failure},
    mesh::{HOST, Mesh},
    message::{COMBINATIONS, Version},
    pieces::Pieces,
    tls_peer::Stream,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::versions::{addresses, routed};

mod message;
mod one;
mod two;

use message::{Between, Case, Heard, compare, compare_interim};
use one::One;

/// What is on its way, by its number, and what came of it at the endpoint.
#[derive(Default)]
struct Stand {
    cases: Mutex<HashMap<String, Arc<Case>>>,
    seen: Mutex<HashMap<String, Heard>>,
}

impl Stand {
    fn case(&self, start: &str) -> Option<Arc<Case>> {
        self.cases.lock().expect("nobody panics").get(number(start)).cloned()
    }

    fn saw(&self, heard: Heard) {
        let number = number(&heard.start).to_owned();
        let earlier = self.seen.lock().expect("nobody panics").insert(number, heard);
        assert!(earlier.is_none(), "a request came twice: {earlier:?}");
    }
}

/// The number of a case stands at the end of its path.
fn number(start: &str) -> &str {
    start.rsplit_once("?n=").map_or("none", |(_, number)| number)
}

async fn listen(address: SocketAddr, version: Version, stand: Arc<Stand>) {
    let listener = TcpListener::bind(address).await.expect("the address of an endpoint is free");
    let mut rng = Rng::with_seed(7);
    while let Ok((tcp, _)) = listener.accept().await {
        tcp.set_nodelay(true).ok();
        let (stand, rng) = (Arc::clone(&stand), rng.fork());
        tokio::spawn(async move {
            match version {
                Version::One => serve_one(tcp, rng, &stand).await,
                Version::Two => serve_two(tcp, rng, stand).await,
            }
        });
    }
}

async fn serve_one(tcp: TcpStream, mut rng: Rng, stand: &Stand) {
    let mut one = One::new(Box::new(Pieces::new(tcp, rng.fork())), rng);
    while let Ok(Some(heard)) = one.hear().await {
        let Some(case) = stand.case(&heard.start) else { return };
        stand.saw(heard);
        if !one.answer(&case).await.is_ok_and(|goes_on| goes_on) {
            return;
        }
    }
}

async fn serve_two(tcp: TcpStream, rng: Rng, stand: Arc<Stand>) {
    let Ok(mut connection) = h2::server::handshake(Pieces::new(tcp, rng)).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let stand = Arc::clone(&stand);
        tokio::spawn(async move {
            let heard = two::hear(request).await?;
            let case = stand.case(&heard.start).ok_or("a case that nobody knows")?;
            stand.saw(heard);
            two::answer(&mut respond, &case).await
        });
    }
}

/// One connection of a client and what is said on it: all at once on HTTP/2, one behind the other on HTTP/1.1.
async fn connection(
    browser: &Client,
    stand: &Stand,
    (client, endpoint): (Version, Version),
    seed: u64,
) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let below = if endpoint == Version::One { "/one" } else { "/two" };
    let cases: Vec<Arc<Case>> = (0..MESSAGES)
        .map(|at| {
            let mut case = Case::new(&mut rng, below);
            case.request.start += &format!("?n={client:?}{endpoint:?}{seed}.{at}");
            let case = Arc::new(case);
            stand
                .cases
                .lock()
                .expect("nobody panics")
                .insert(number(&case.request.start).to_owned(), Arc::clone(&case));
            case
        })
        .collect();
    let browser = if client == Version::Two { browser.clone().h2() } else { browser.clone() };
    let dialed = browser.dial(HOST).await.map_err(|error| format!("no connection: {error}"))?;
    let io: Box<dyn Stream> = Box::new(Pieces::new(dialed, rng.fork()));
    let answers: Vec<Result<Heard, Failure>> = match client {
        Version::One => {
            let mut one = One::new(io, rng);
            let mut answers = Vec::new();
            for case in &cases {
                answers.push(one.ask(case).await.map_err(Failure::from));
                if answers.last().is_some_and(Result::is_err) {
                    break;
                }
            }
            answers
        }
        Version::Two => {
            let (sender, driver) = h2::client::handshake(io).await.map_err(|error| error.to_string())?;
            let driver = tokio::spawn(driver);
            let answers = join_all(cases.iter().map(|case| two::ask(sender.clone(), case))).await;
            driver.abort();
            answers
        }
    };
    let (there, back) = (Between { from: client, to: endpoint }, Between { from: endpoint, to: client });
    for (case, answer) in cases.iter().zip(answers) {
        let number = number(&case.request.start);
        let at = |why: String| format!("{} in {client:?} to {endpoint:?}: {why}", case.request.start);
        let seen = stand.seen.lock().expect("nobody panics").remove(number);
        let answer = answer.map_err(|why| at(format!("{why}; the endpoint has seen it: {}", seen.is_some())))?;
        let seen = seen.ok_or_else(|| at(format!("the endpoint has not seen it, and the answer is {answer:?}")))?;
        compare(&case.request, &seen, there, true).map_err(|why| at(format!("the request: {why}")))?;
        compare_interim(&case.interim, &answer.interim, back).map_err(at)?;
        compare(&case.answer, &answer, back, case.has_body()).map_err(|why| at(format!("the answer: {why}")))?;
    }
    Ok(())
}

#[tokio::test]
async fn any_message_is_the_same_at_the_other_end_however_it_is_cut() {
    let mesh = Mesh::with_edge();
    let [one, two] = addresses(&mesh);
    let stand = Arc::new(Stand::default());
    let endpoints = [(one, Version::One), (two, Version::Two)];
    for (address, version) in endpoints {
        tokio::spawn(listen(address, version, Arc::clone(&stand)));
    }
    routed(&mesh);
    let gateway = mesh.gateway().await;
    let said: Option<u64> = env::var("SLUICE_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let first = fastrand::u64(..u64::MAX / 2);
    let seeds = || said.map_or(first..first + CONNECTIONS, |seed| seed..seed + 1);
    // Plain and with TLS in turns.
    let browsers = [mesh.browser(), Client::plain(gateway.addresses().second)];
    let all = COMBINATIONS.iter().flat_map(|combination| seeds().map(move |seed| (*combination, seed)));

    let each = stream::iter(all).map(|(combination, seed)| {
        let (browser, stand) = (browsers[usize::from(seed % 2 == 0)].clone(), &stand);
        async move {
            let (client, _) = combination;
            let browser = if client == Version::Two { browser.http2() } else { browser };
            let said = timeout(PATIENCE, connection(&browser, stand, combination, seed)).await;
            let said = said.unwrap_or_else(|_| Err(format!("no end in {combination:?}")));
            said.map_err(|why| format!("SLUICE_TEST_SEED={seed}: {why}")).err()
        }
    });
    let wrong: Vec<String> = each.buffer_unordered(8).filter_map(async |why| why).collect().await;

    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(wrong.is_empty(), "{} connections, for instance\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

/// Connections of each combination of versions.
const CONNECTIONS: u64 = 30;
/// Messages on each.
const MESSAGES: usize = 10;
/// For one connection.
const PATIENCE: Duration = Duration::from_secs(20);
