//! Traffic that iptables sends to a sidecar: it must find the address the client meant.

use std::{
    fs,
    path::Path,
    process::{Command, id},
};

use harness::{
    binary,
    mesh::Mesh,
    pki::spiffe,
    process::Process,
    workload::service,
    yaml::{Pod, peer_authentication},
};

/// A network namespace with a loopback that holds the story's addresses; removed when dropped.
struct Network {
    name: String,
}

impl Network {
    /// `None` = not root, or `ip` or `iptables` is missing; said loudly.
    fn create(story: &str) -> Option<Self> {
        let network = Self { name: format!("sluice-{}", id()) };
        let made = runs("ip", &["netns", "add", &network.name]) && network.runs("iptables -t nat -L -n");
        if !made {
            eprintln!("SKIPPED story {story}: needs root, `ip` (iproute2) and `iptables`");
            return None;
        }
        for setup in [
            "ip link set lo up",
            "ip addr add 10.77.0.1/32 dev lo",
            "ip addr add 10.77.0.2/32 dev lo",
            "ip addr add 10.77.9.9/32 dev lo",
        ] {
            assert!(network.runs(setup), "{setup}");
        }
        Some(network)
    }

    fn arguments(&self, command: &str) -> Vec<String> {
        let inside = ["netns", "exec", &self.name].into_iter().chain(command.split_whitespace());
        inside.map(str::to_owned).collect()
    }

    fn runs(&self, command: &str) -> bool {
        let arguments = self.arguments(command);
        runs("ip", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn start(&self, name: &str, command: &str) -> Process {
        let command = format!("{} {command}", binary::sluice().display());
        Process::start(name, Path::new("ip"), self.arguments(&command))
    }

    /// What curl prints for these arguments, tried until it succeeds.
    async fn curl(&self, arguments: &str) -> String {
        let mut printed = String::new();
        harness::eventually::eventually(&format!("curl {arguments}"), async || {
            let output = Command::new("ip").args(self.arguments(&format!("curl -sS -m 5 {arguments}"))).output();
            let output = output.expect("curl is installed");
            printed = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success()
        })
        .await;
        printed
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        runs("ip", &["netns", "del", &self.name]);
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The pods `reviews` (10.77.0.1, with a sidecar) and `ratings` (10.77.0.2, without) and their Services; `ratings` has
/// the cluster address 10.77.9.9.
fn mesh() -> Mesh {
    let mesh = Mesh::new();
    let ratings = service("ratings").replace("\"selector\"", "\"clusterIP\":\"10.77.9.9\",\"selector\"");
    mesh.write("services.yaml", &(service("reviews") + &ratings));
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    for (app, ip, sidecar) in [("reviews", "10.77.0.1", true), ("ratings", "10.77.0.2", false)] {
        let name = format!("{app}-v1");
        let (namespace, app, version, ip) = ("shop".into(), app.into(), "v1".into(), ip.into());
        let pod = Pod { namespace, name: name.clone(), app, version, ip, ports: vec![8080], sidecar };
        mesh.write(&format!("pod-{name}.yaml"), &pod.yaml());
    }
    mesh
}

const SIDECAR: &str = "sidecar --workload shop/reviews-v1 --app-address 127.0.0.1 --inbound 0.0.0.0:15006 \
     --outbound 0.0.0.0:15001 --workers 1";

#[tokio::test]
async fn captured_connections_reach_the_port_and_the_service_they_were_meant_for() {
    let story = "captured_connections_reach_the_port_and_the_service_they_were_meant_for";
    let Some(network) = Network::create(story) else { return };
    let mesh = mesh();
    let identity = mesh.identity("shop", "reviews", "reviews");
    let caller = mesh.pki.workload(&spiffe("shop", "ratings"));
    let (chain, key) = (identity.join("caller.pem"), identity.join("caller.key"));
    fs::write(&chain, &caller.chain_pem).expect("written");
    fs::write(&key, &caller.key_pem).expect("written");
    let flags = format!("{SIDECAR} --config {} --identity-dir {}", mesh.config.path().display(), identity.display());
    let _app = network.start("app", "echo --address 127.0.0.1 --port 8080 --service reviews --pod reviews-v1");
    let _peer = network.start("peer", "echo --address 10.77.0.2 --port 8080 --service ratings --pod ratings-v1");
    let _sidecar = network.start("sidecar", &flags);
    let redirect = "iptables -t nat -A OUTPUT -p tcp --dport 8080";
    assert!(network.runs(&format!("{redirect} -d 10.77.0.1 -j REDIRECT --to-ports 15006")));
    assert!(network.runs(&format!("{redirect} -d 10.77.9.9 -j REDIRECT --to-ports 15001")));

    let certificates = format!("-k --cert {} --key {}", chain.display(), key.display());
    let inbound = network.curl(&format!("{certificates} https://10.77.0.1:8080/in")).await;
    let outbound = network.curl("-H Host:ratings:8080 http://10.77.9.9:8080/out").await;

    assert!(inbound.contains("\"service\": \"reviews\"") && inbound.contains("sa/ratings"), "{inbound}");
    assert!(outbound.contains("\"service\": \"ratings\"") && outbound.contains("/out"), "{outbound}");
}

#[tokio::test]
async fn what_has_no_addresses_goes_where_it_was_meant_to_go_and_the_rest_is_refused() {
    let story = "what_has_no_addresses_goes_where_it_was_meant_to_go_and_the_rest_is_refused";
    let Some(network) = Network::create(story) else { return };
    let mesh = mesh();
    mesh.write(
        "mesh.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    \
         outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
    );
    mesh.write(
        "none.yaml",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: none, namespace: shop}\nspec: {hosts: \
         ['*.legacy.test'], ports: [{number: 8080, name: http, protocol: HTTP}], resolution: NONE}\n",
    );
    let identity = mesh.identity("shop", "reviews", "reviews");
    let flags = format!("{SIDECAR} --config {} --identity-dir {}", mesh.config.path().display(), identity.display());
    let _peer = network.start("peer", "echo --address 10.77.0.2 --port 8080 --service ratings --pod ratings-v1");
    let _sidecar = network.start("sidecar", &flags);
    // The sidecar's own connections come from the peer's address, so that they pass.
    let redirect = "iptables -t nat -A OUTPUT -p tcp --dport 8080 -s 10.77.0.1 -d 10.77.0.2";
    assert!(network.runs(&format!("{redirect} -j REDIRECT --to-ports 15001")));

    let known = network.curl("--interface 10.77.0.1 -H Host:old.legacy.test http://10.77.0.2:8080/known").await;
    let status = "--interface 10.77.0.1 -o /dev/null -w %{http_code} -H Host:www.unknown.test http://10.77.0.2:8080/";
    let unknown = network.curl(status).await;

    assert!(known.contains("\"service\": \"ratings\"") && known.contains("/known"), "{known}");
    assert_eq!(unknown, "502");
}

#[tokio::test]
async fn passthrough_leads_where_the_client_connected_to_whatever_else_the_service_has() {
    let story = "passthrough_leads_where_the_client_connected_to_whatever_else_the_service_has";
    let Some(network) = Network::create(story) else { return };
    let mesh = mesh();
    mesh.write(
        "rule.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: ratings, namespace: shop}\nspec: {host: \
         ratings, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}\n",
    );
    // The other one, which nobody connects to.
    let pod = |name: &str, ip: &str| Pod {
        namespace: "shop".into(),
        name: name.into(),
        app: "ratings".into(),
        version: "v1".into(),
        ip: ip.into(),
        ports: vec![8080],
        sidecar: false,
    };
    mesh.write("pod-ratings-other.yaml", &pod("ratings-other", "10.77.9.9").yaml());
    let identity = mesh.identity("shop", "reviews", "reviews");
    let flags = format!("{SIDECAR} --config {} --identity-dir {}", mesh.config.path().display(), identity.display());
    let _peer = network.start("peer", "echo --address 10.77.0.2 --port 8080 --service ratings --pod ratings-v1");
    let _other = network.start("other", "echo --address 10.77.9.9 --port 8080 --service ratings --pod ratings-other");
    let _sidecar = network.start("sidecar", &flags);
    // The sidecar's own connections come from elsewhere, so that they pass.
    let redirect = "iptables -t nat -A OUTPUT -p tcp --dport 8080 -s 10.77.0.1";
    assert!(network.runs(&format!("{redirect} -j REDIRECT --to-ports 15001")));

    for (address, pod) in [("10.77.0.2", "ratings-v1"), ("10.77.9.9", "ratings-other")] {
        for _ in 0..6 {
            let answer =
                network.curl(&format!("--interface 10.77.0.1 -H Host:ratings:8080 http://{address}:8080/")).await;
            assert!(answer.contains(&format!("\"pod\": \"{pod}\"")), "{address}: {answer}");
        }
    }
}
