//! The life of one connection whose bytes nobody looks at. The same steps as a request: route, pick, dial, bytes, record.

mod attempt;
mod ending;
mod guard;
mod passage;
mod record;
mod relay;

use std::{future::poll_fn, task::Poll, time::Duration};

use socket2::SockRef;
use tls::stream::Stream;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use self::{ending::Ending, passage::Passage, relay::Times};
use crate::{
    http::desk::Desk,
    net::{connection::Connection, course::Course, standing::Outlived},
    peers::exchange,
    upstream::posted::Posted,
};

/// So many bytes of a client are read before it is known where they go.
const AHEAD: usize = 16 * 1024;

/// Serves a connection to its end, or until `cut` is ready; says whether that was so.
pub(crate) async fn serve(
    desk: &Desk,
    mut client: Connection,
    course: Course,
    cut: &mut JoinHandle<Outlived>,
) -> Option<Outlived> {
    let mut passage = Passage::new(&client, course);
    let telemetry = &*desk.telemetry;
    let ending = carry(desk, &mut client, &mut passage, cut).await;
    ending.show(&client.stream);
    passage.ending = ending;
    record::finish(telemetry, &passage);
    if let Ending::Forbidden(why) = &passage.ending {
        let facts = &passage.facts;
        desk.refusals.tell("Forbidden", facts.remote, facts.local, format_args!("connection refused: {why}"));
    }
    match passage.ending {
        Ending::Cut(outlived) => Some(outlived),
        _ => None,
    }
}

/// Waits until the client has broken off. One that says that it sends no more may wait for the server's word.
async fn gone(client: &mut Stream<TcpStream>) {
    loop {
        match poll_fn(|cx| if client.input().len() < AHEAD { client.poll_fill(cx) } else { Poll::Pending }).await {
            Ok(true) => {}
            Ok(false) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

async fn carry(desk: &Desk, client: &mut Connection, passage: &mut Passage, cut: &mut JoinHandle<Outlived>) -> Ending {
    let telemetry = &*desk.telemetry;
    tokio::select! {
        // In this order: where nobody has to be asked, nothing is waited for.
        biased;
        judged = guard::judge(desk, passage) => {
            if let Err(ending) = judged {
                return ending;
            }
        }
        // Whoever is asked may take long.
        Ok(outlived) = &mut *cut => return Ending::Cut(outlived),
        () = gone(&mut client.stream) => return Ending::Client,
    }
    let mut server = match Box::pin(attempt::connect(passage, telemetry.metrics())).await {
        Ok(server) => server,
        Err(ending) => return ending,
    };
    passage.upstream = Some((*server.facts).clone());
    let announces = exchange::is_agreed(&server.stream);
    if let Some(own) = passage.installed.own.as_ref().filter(|_| announces) {
        server.stream.out().push(own.announcement());
    }
    let counted = record::opened(telemetry, passage);
    passage.is_counted = true;
    let times = Times::new(passage.idle_timeout(), passage.lifetime());
    let (received, sent) = (&mut passage.received, &mut passage.sent);
    let mut moved = |up, down| {
        *received += up;
        *sent += down;
        counted.moved(up, down);
    };
    let ending = match passage.posted.take() {
        None => relay::relay((&mut client.stream, &mut server.stream, announces), times, cut, &mut moved).await,
        Some(body) => {
            let mut posted = Stream::new(Posted::new(&mut server.stream, body));
            Box::pin(relay::relay((&mut client.stream, &mut posted, false), times, cut, &mut moved)).await
        }
    };
    match ending {
        Ending::ClientUnsaid => arrive(&mut server.stream).await,
        Ending::EndpointUnsaid => arrive(&mut client.stream).await,
        _ => {}
    }
    ending.show(&server.stream);
    ending
}

/// What was sent before an end that nobody said has this time to arrive: a reset overtakes it.
const ARRIVE: Duration = Duration::from_secs(1);

/// Waits until the other side has ended, too, or for [`ARRIVE`]; with TLS nothing has to be waited for.
async fn arrive(stream: &mut Stream<TcpStream>) {
    if stream.is_tls() {
        return;
    }
    let ended = poll_fn(|cx| {
        loop {
            match stream.poll_fill(cx) {
                Poll::Ready(Ok(true)) => stream.consume(stream.input().len()),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = timeout(ARRIVE, ended).await;
}

impl Ending {
    /// Lets a side see what is no proper end.
    fn show(&self, stream: &Stream<TcpStream>) {
        let unsaid = matches!(self, Self::ClientUnsaid | Self::EndpointUnsaid);
        // TLS sees that by what is not said, and loses nothing of what was sent.
        if self.is_abrupt() && !(unsaid && stream.is_tls()) {
            // A socket that is broken is as good as reset.
            let _ = SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}
