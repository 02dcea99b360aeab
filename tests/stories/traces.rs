//! Traces: joined over every hop at a real collector, by all headers and protocols, and never at the cost of a request.

use std::net::SocketAddr;

use harness::{
    client::{Client, get},
    collector::Collector,
    eventually::eventually,
    mesh::{Mesh, SHOP},
    reply::Reply,
    yaml,
};
use http::Request;
use serde_json::Value;

/// A Telemetry stands above `enableTracing`.
fn config(provider: &str) -> String {
    crate::log_lines::config_map(&format!("enableTracing: false\nextensionProviders:\n- name: told\n  {provider}"))
}

/// What the mesh says of its collector `otel`, and Telemetry of who is traced.
pub(crate) fn traced(mesh: &Mesh, provider: &str, tracing: &str) -> [SocketAddr; 2] {
    let grpc = mesh.workload("otel").declare();
    let http = mesh.workload("zipkin").declare();
    mesh.write("otel.yaml", &yaml::service("shop", "otel", &[(8080, "grpc")]));
    mesh.write("zipkin.yaml", &yaml::service("shop", "zipkin", &[(8080, "http")]));
    mesh.write("mesh.yaml", &config(provider));
    mesh.write(
        "telemetry.yaml",
        &format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: mesh, namespace: istio-system}}\nspec:\n  \
             tracing:\n  - providers: [{{name: told}}]\n    {tracing}\n"
        ),
    );
    [grpc, http]
}

pub(crate) const OTEL: &str = "opentelemetry: {service: otel.shop.svc.cluster.local, port: 8080}";

fn with<B>(mut request: Request<B>, headers: &[(&'static str, &str)]) -> Request<B> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    request
}

/// The one that has this tag, or this name.
fn span(spans: &[Value], so: impl Fn(&Value) -> bool) -> &Value {
    let found: Vec<&Value> = spans.iter().filter(|span| so(span)).collect();
    assert_eq!(found.len(), 1, "of {spans:#?}");
    found[0]
}

#[tokio::test]
async fn one_trace_joins_gateway_and_sidecars_with_istios_names_parents_and_tags() {
    let mesh = Mesh::with_edge();
    let [grpc, http] = traced(
        &mesh,
        OTEL,
        "randomSamplingPercentage: 100\n    customTags: {zone: {literal: {value: north}}, user: {header: {name: x-user, \
         defaultValue: nobody}}, cert: {header: {name: x-forwarded-client-cert, defaultValue: none}}, code: {formatter: {value: '%RESPONSE_CODE%'}}}",
    );
    let Some(collector) = Collector::start("traces", grpc, http).await else { return };
    mesh.write("strict.yaml", &yaml::peer_authentication("shop", "STRICT"));
    mesh.route_all_to("reviews");
    let _ratings = mesh.workload("ratings").sidecar().start().await;
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let _gateway = mesh.gateway().await;

    let said = [("x-user", "mary"), ("x-forwarded-client-cert", "By=forged")];
    let reply = mesh.browser().call(with(get(&format!("{SHOP}/cart?id=1")), &said)).await;
    assert_eq!(reply.code(), 200, "{}", reply.text());
    let parent = reply.saw("traceparent");
    let app = Client::plain(reviews.outbound());
    let onward = app.call(with(get("http://ratings:8080/stars"), &[("traceparent", &parent)])).await;
    assert_eq!(onward.code(), 200, "{}", onward.text());

    let spans = collector.wait("grpc", 5).await;
    let trace = &parent[3..35];
    assert!(spans.iter().all(|span| span["trace"] == trace), "{spans:#?}");
    let of = |service: &str, kind: u64| {
        span(&spans, |span| span["resource"]["service.name"] == service && span["kind"] == kind)
    };
    let edge = of("istio-ingressgateway.istio-system", 2);
    let call = of("istio-ingressgateway.istio-system", 3);
    let (into, out, last) = (of("reviews.shop", 2), of("reviews.shop", 3), of("ratings.shop", 2));
    assert_eq!(edge["parent"], "");
    for (child, parent) in [(call, edge), (into, call), (out, into), (last, out)] {
        assert_eq!(child["parent"], parent["id"], "{spans:#?}");
    }
    assert_eq!(edge["name"], "reviews.shop.svc.cluster.local:8080/*");
    assert_eq!(call["name"], "router outbound|8080||reviews.shop.svc.cluster.local egress");
    assert_eq!(into["name"], "reviews.shop.svc.cluster.local:8080/*");
    assert_eq!(last["name"], "ratings.shop.svc.cluster.local:8080/*");
    let tags = &edge["tags"];
    for (tag, value) in [
        ("http.url", "https://shop.example.com/cart?id=1"),
        ("http.method", "GET"),
        ("http.status_code", "200"),
        ("http.protocol", "HTTP/1.1"),
        ("upstream_cluster", "outbound|8080||reviews.shop.svc.cluster.local"),
        ("response_flags", "-"),
        ("component", "proxy"),
        ("istio.namespace", "istio-system"),
        ("istio.cluster_id", "Kubernetes"),
        ("zone", "north"),
        ("user", "mary"),
        ("cert", "none"),
        ("code", "200"),
    ] {
        assert_eq!(tags[tag], value, "{tag} in {tags:#}");
    }
    assert_eq!(into["tags"]["istio.canonical_service"], "reviews");
    assert_eq!(last["tags"]["user"], "nobody");
    assert_eq!(tags["guid:x-request-id"], reply.saw("x-request-id"));
    assert!(
        edge["start"].as_u64() <= call["start"].as_u64()
            && call["end"].as_u64() <= edge["end"].as_u64().map(|end| end + 2_000_000)
    );
}

async fn ask(mesh: &Mesh, headers: &[(&'static str, &str)]) -> Reply {
    let reply = mesh.browser().call(with(get(SHOP), headers)).await;
    assert_eq!(reply.code(), 200, "{}", reply.text());
    reply
}

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn what_the_sender_has_decided_holds_in_every_form() {
    let mesh = Mesh::with_edge();
    let [grpc, http] = traced(&mesh, OTEL, "randomSamplingPercentage: 0");
    let Some(collector) = Collector::start("traces", grpc, http).await else { return };
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    let undecided = ask(&mesh, &[]).await.saw("traceparent");
    assert!(undecided.starts_with("00-") && undecided.ends_with("-00"), "{undecided}");
    let not = ask(&mesh, &[("traceparent", &format!("00-{ID}-00f067aa0ba902b7-00"))]).await.saw("traceparent");
    assert!(not.starts_with(&format!("00-{ID}-")) && not.ends_with("-00"), "{not}");
    assert_eq!(ask(&mesh, &[("x-envoy-force-trace", "1")]).await.saw("traceparent").len(), 55);

    let state = [("traceparent", format!("00-{ID}-00000000000000a1-01")), ("tracestate", "vendor=1".to_owned())];
    let state: Vec<(&'static str, &str)> = state.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(ask(&mesh, &state).await.saw("tracestate"), "vendor=1");
    let many = [("x-b3-traceid", ID), ("x-b3-spanid", "00000000000000a2"), ("x-b3-sampled", "1")];
    let out = ask(&mesh, &many).await.saw("traceparent");
    assert!(out.starts_with(&format!("00-{ID}-")) && out.ends_with("-01"), "{out}");
    ask(&mesh, &[("b3", &format!("{ID}-00000000000000a3-1"))]).await;
    ask(&mesh, &[("x-client-trace-id", "mine")]).await;

    let spans = collector.wait("grpc", 8).await;
    let whole: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 2).collect();
    let mut parents: Vec<&str> = whole.iter().filter_map(|span| span["parent"].as_str()).collect();
    parents.sort_unstable();
    assert_eq!(parents, ["", "00000000000000a1", "00000000000000a2", "00000000000000a3"], "{spans:#?}");
    let sent =
        async || gateway.metrics().await.sum("sluice_exports_total", &[("provider", "told"), ("result", "sent")]);
    eventually("what was sent is counted", async || (sent().await - 8.0).abs() < 0.5).await;
}

#[tokio::test]
async fn spans_go_by_http_and_to_zipkin_with_its_headers() {
    let mesh = Mesh::with_edge();
    let provider = "opentelemetry: {service: zipkin.shop.svc.cluster.local, port: 8080, http: {path: /v1/traces}}";
    let [grpc, http] = traced(&mesh, provider, "randomSamplingPercentage: 100");
    let Some(collector) = Collector::start("traces", grpc, http).await else { return };
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    ask(&mesh, &[]).await;
    let spans = collector.wait("http", 2).await;
    assert_eq!(spans[0]["resource"]["telemetry.sdk.name"], "sluice");

    let provider =
        "zipkin: {service: zipkin.shop.svc.cluster.local, port: 8080, headers: [{name: x-key, value: open}]}";
    mesh.write("mesh.yaml", &config(provider));
    eventually("Zipkin's headers are passed on", async || !ask(&mesh, &[]).await.saw("x-b3-traceid").is_empty()).await;
    let reply = ask(&mesh, &[]).await;
    assert_eq!((reply.saw("x-b3-sampled"), reply.saw("traceparent")), ("1".to_owned(), String::new()));
    let (trace, id) = (reply.saw("x-b3-traceid"), reply.saw("x-b3-spanid"));
    eventually("Zipkin is told", async || {
        let told = collector.told();
        told.iter().any(|one| one["span"]["traceId"] == *trace && one["span"]["id"] == *id && one["key"] == "open")
    })
    .await;
    let told = collector.told();
    let call = told.iter().find(|one| one["span"]["id"] == *id).expect("it was there");
    assert_eq!(
        (&call["span"]["kind"], &call["span"]["parentId"]),
        (&"CLIENT".into(), &reply.saw("x-b3-parentspanid").into())
    );

    mesh.write("mesh.yaml", &config(&provider.replace("headers:", "enable64bitTraceId: true, headers:")));
    eventually("ids are short", async || ask(&mesh, &[]).await.saw("x-b3-traceid").len() == 16).await;
    let trace = ask(&mesh, &[]).await.saw("x-b3-traceid");
    let told = async || collector.told().iter().filter(|one| one["span"]["traceId"] == *trace).count() == 2;
    eventually("Zipkin is told under the id that was passed on", told).await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_request() {
    let mesh = Mesh::with_edge();
    traced(&mesh, OTEL, "randomSamplingPercentage: 100");
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    for _ in 0..20 {
        ask(&mesh, &[]).await;
    }

    let lost = async || gateway.metrics().await.sum("sluice_exports_total", &[("result", "unreachable")]);
    eventually("what is lost is counted", async || lost().await >= 40.0).await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    eventually("the log tells of it", async || gateway.log().contains("provider `told` takes nothing")).await;
}

#[tokio::test]
async fn nothing_is_said_of_traces_without_a_provider_or_where_that_is_turned_off() {
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    assert_eq!(ask(&mesh, &[]).await.saw("traceparent"), "");
    let given = format!("00-{ID}-00f067aa0ba902b7-01");
    assert_eq!(ask(&mesh, &[("traceparent", &given)]).await.saw("traceparent"), given);

    let told = async || ask(&mesh, &[]).await.saw("traceparent");
    traced(&mesh, OTEL, "randomSamplingPercentage: 100");
    eventually("traces are passed on", async || !told().await.is_empty()).await;
    traced(&mesh, OTEL, "disableContextPropagation: true");
    eventually("they are not", async || told().await.is_empty()).await;
}

#[tokio::test]
async fn each_try_of_a_gateway_has_a_span_of_its_own() {
    let mesh = Mesh::with_edge();
    let [grpc, http] = traced(&mesh, OTEL, "randomSamplingPercentage: 100");
    let Some(collector) = Collector::start("traces", grpc, http).await else { return };
    let _reviews = mesh.workload("reviews").start().await;
    mesh.routes(
        "- {retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: reviews, port: {number: 8080}}}]}",
    );
    let _gateway = mesh.gateway().await;

    let reply = mesh.browser().get(&format!("{SHOP}/status/503")).await;
    assert_eq!(reply.code(), 503, "{}", reply.text());

    let spans = collector.wait("grpc", 4).await;
    let whole = span(&spans, |span| span["kind"] == 2);
    let mut tries: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 3).collect();
    tries.sort_by_key(|span| span["start"].as_u64());
    let counts: Vec<&Value> = tries.iter().map(|span| &span["tags"]["retry.count"]).collect();
    assert_eq!(counts, [&Value::Null, &"1".into(), &"2".into()], "{spans:#?}");
    for one in &tries {
        assert_eq!((&one["parent"], &one["trace"]), (&whole["id"], &whole["trace"]));
        assert_eq!((&one["tags"]["http.status_code"], &one["tags"]["error"]), (&"503".into(), &"true".into()));
    }
    assert_eq!(whole["tags"]["response_flags"], "URX");
    // What an endpoint is sent is the span of its own try.
    assert_eq!(&tries[2]["id"], &reply.saw("traceparent")[36..52]);
    assert!(tries[0]["id"] != tries[1]["id"] && tries[1]["id"] != tries[2]["id"]);
}
