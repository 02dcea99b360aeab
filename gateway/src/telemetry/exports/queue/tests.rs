use routing::{
    telemetry::tracing::{Collector, Form},
    upstream::{Cluster, ClusterId},
};
use tokio::time::Instant;

use super::{super::Span, *};
use crate::{
    live::Installed,
    telemetry::{exports::Payload, metrics::Metrics},
    upstream::{dial::Dials, endpoints::Endpoints},
};

/// Somebody who is told, as a configuration of this number says.
fn provider(metrics: &Metrics, name: &str, log: &str, generation: u64) -> Arc<Destination> {
    let upstream = Endpoints::default().join(&Arc::new(Cluster::default()), Dials::default());
    let installed = Installed { generation, upstreams: vec![Arc::new(upstream)], ..Installed::default() };
    let collector = Collector {
        provider: name.into(),
        cluster: ClusterId(0),
        form: Form::Grpc,
        timeout: Duration::from_secs(3),
        headers: Vec::new(),
        service_name: "web".into(),
        environment: false,
    };
    Arc::new(Destination::new(&Arc::new(collector), &installed, log, metrics.exporting()))
}

/// One of about this many bytes.
fn span(to: &Arc<Destination>, bytes: usize) -> Item {
    Item::span(Arc::clone(to), Box::new(Span { name: "x".repeat(bytes), ..Span::default() }))
}

fn counted(metrics: &Metrics, provider: &str, result: &str) -> u64 {
    let text = metrics.render(crate::telemetry::exposition::Format::Text);
    let line = text.lines().find(|line| {
        line.starts_with("sluice_exports_total{")
            && line.contains(&format!("provider=\"{provider}\""))
            && line.contains(&format!("result=\"{result}\""))
    });
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default()
}

#[test]
fn what_comes_mixed_goes_in_one_batch_for_each() {
    let (metrics, exports) = (Metrics::new(), Exports::default());
    let [spans, lines] = [provider(&metrics, "otel", "", 1), provider(&metrics, "otel", "log", 1)];
    for to in [&lines, &spans, &spans, &lines, &spans, &spans] {
        exports.push(span(to, 1));
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| exports.batch()).map(|batch| batch.items.len()).collect();
    assert_eq!(sizes, [2, 4]);
}

#[test]
fn one_that_is_away_keeps_neither_the_room_nor_the_turns_of_others() {
    let (metrics, exports) = (Metrics::new(), Exports::default());
    let [dead, well] = ["dead", "well"].map(|name| provider(&metrics, name, "", 1));
    let large = 64 << 10;
    (0..300).for_each(|_| exports.push(span(&dead, large)));
    assert!(counted(&metrics, "dead", "no_room") > 0);
    // Nobody answers for those.
    let stuck: Vec<Batch> = std::iter::from_fn(|| exports.batch()).collect();
    assert_eq!(stuck.len(), AT_ONCE);
    assert!(!exports.is_ready());
    (0..300).for_each(|_| exports.push(span(&dead, large)));
    for _ in 0..100 {
        (0..7).for_each(|_| exports.push(span(&well, large)));
        let batch = exports.batch().unwrap();
        assert_eq!((&*batch.to.collector.provider, batch.items.len()), ("well", 7));
        exports.done(&batch.to, batch.items.len());
    }
    assert_eq!(counted(&metrics, "well", "no_room"), 0);
    exports.done(&stuck[0].to, stuck[0].items.len());
    assert_eq!(&*exports.batch().unwrap().to.collector.provider, "dead");
}

#[test]
fn what_waits_goes_where_its_provider_is_now() {
    let (metrics, exports) = (Metrics::new(), Exports::default());
    let [before, after] = [1, 2].map(|generation| provider(&metrics, "otel", "", generation));
    for to in [&before, &after, &before] {
        exports.push(span(to, 1));
    }
    let batch = exports.batch().unwrap();
    assert!(Arc::ptr_eq(&batch.to, &after));
    assert!(batch.items.len() == 3 && batch.items.iter().all(|item| matches!(item.what, Payload::Span(_))));
    assert!(exports.batch().is_none());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nothing_waits_for_company_and_what_has_not_arrived_is_counted() {
    let (metrics, exports) = (Metrics::new(), Arc::new(Exports::default()));
    let [dead, well] = ["dead", "well"].map(|name| provider(&metrics, name, "", 1));
    exports.push(span(&well, 1));
    let sender = Arc::clone(&exports);
    let sending = tokio::spawn(async move {
        sender.much.notified().await;
        let batch = sender.batch().unwrap();
        sender.done(&batch.to, batch.items.len());
    });
    let start = Instant::now();
    assert_eq!(exports.finish(Duration::from_secs(1)).await, 0);
    assert_eq!(start.elapsed(), Duration::ZERO, "all has arrived");
    sending.await.unwrap();

    (0..3).for_each(|_| exports.push(span(&dead, 1)));
    let stuck = exports.batch().unwrap();
    (0..2).for_each(|_| exports.push(span(&dead, 1)));
    assert_eq!(exports.finish(Duration::from_secs(1)).await, 5);
    assert_eq!((stuck.items.len(), counted(&metrics, "dead", "unreachable")), (3, 5));
}
