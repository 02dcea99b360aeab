//! The life of one connection whose bytes nobody looks at. The same steps as a request: route, pick, dial, bytes, record.

mod attempt;
mod ending;
mod guard;
mod passage;
mod record;
mod relay;

use std::time::Duration;

use socket2::SockRef;
use tls::stream::Stream;
use tokio::{net::TcpStream, task::JoinHandle};

use self::{ending::Ending, passage::Passage, relay::Times};
use crate::{
    net::{connection::Connection, course::Course, standing::Outlived},
    telemetry::Telemetry,
};

/// Serves a connection to its end, or until `cut` is ready; says whether that was so.
pub(crate) async fn serve(
    telemetry: &Telemetry,
    mut client: Connection,
    course: Course,
    cut: &mut JoinHandle<Outlived>,
) -> Option<Outlived> {
    let mut passage = Passage::new(&client, course);
    let ending = carry(telemetry, &mut client, &mut passage, cut).await;
    if ending.is_abrupt() {
        reset(&client.stream);
    }
    passage.ending = ending;
    record::finish(telemetry, &passage);
    match passage.ending {
        Ending::Cut(outlived) => Some(outlived),
        _ => None,
    }
}

async fn carry(
    telemetry: &Telemetry,
    client: &mut Connection,
    passage: &mut Passage,
    cut: &mut JoinHandle<Outlived>,
) -> Ending {
    if let Err(ending) = guard::judge(passage) {
        return ending;
    }
    let mut server = match Box::pin(attempt::connect(passage, telemetry.metrics())).await {
        Ok(server) => server,
        Err(ending) => return ending,
    };
    passage.upstream = Some((*server.facts).clone());
    let counted = record::opened(telemetry, passage);
    passage.is_counted = true;
    let times = Times::new(passage.idle_timeout(), passage.lifetime());
    let (received, sent) = (&mut passage.received, &mut passage.sent);
    let ending = relay::relay((&mut client.stream, &mut server.stream), times, cut, |up, down| {
        *received += up;
        *sent += down;
        counted.moved(up, down);
    })
    .await;
    if ending.is_abrupt() {
        reset(&server.stream);
    }
    ending
}

/// The other side is to see that this is no proper end.
fn reset(stream: &Stream<TcpStream>) {
    // A socket that is broken is as good as reset.
    let _ = SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
}
