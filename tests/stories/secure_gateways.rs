//! Istio's page "Secure Gateways", step by step, with the commands of that page: certificates that `openssl` makes without
//! an extension file, which are of X.509 version 1, and `curl`. From files and from an API server.

use std::{fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{
    binary, eventually::eventually, gateway::Proxy, mesh::Mesh, program, shell::shell, workload::Workload, yaml,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the page has one type before anything else.
const CERTIFICATES: &str = r#"
mkdir example_certs1
openssl req -x509 -sha256 -nodes -days 365 -newkey rsa:2048 -subj '/O=example Inc./CN=example.com' -keyout example_certs1/example.com.key -out example_certs1/example.com.crt
openssl req -out example_certs1/httpbin.example.com.csr -newkey rsa:2048 -nodes -keyout example_certs1/httpbin.example.com.key -subj "/CN=httpbin.example.com/O=httpbin organization"
openssl x509 -req -sha256 -days 365 -CA example_certs1/example.com.crt -CAkey example_certs1/example.com.key -set_serial 0 -in example_certs1/httpbin.example.com.csr -out example_certs1/httpbin.example.com.crt
mkdir example_certs2
openssl req -x509 -sha256 -nodes -days 365 -newkey rsa:2048 -subj '/O=example Inc./CN=example.com' -keyout example_certs2/example.com.key -out example_certs2/example.com.crt
openssl req -out example_certs2/httpbin.example.com.csr -newkey rsa:2048 -nodes -keyout example_certs2/httpbin.example.com.key -subj "/CN=httpbin.example.com/O=httpbin organization"
openssl x509 -req -sha256 -days 365 -CA example_certs2/example.com.crt -CAkey example_certs2/example.com.key -set_serial 0 -in example_certs2/httpbin.example.com.csr -out example_certs2/httpbin.example.com.crt
openssl req -out example_certs1/helloworld.example.com.csr -newkey rsa:2048 -nodes -keyout example_certs1/helloworld.example.com.key -subj "/CN=helloworld.example.com/O=helloworld organization"
openssl x509 -req -sha256 -days 365 -CA example_certs1/example.com.crt -CAkey example_certs1/example.com.key -set_serial 1 -in example_certs1/helloworld.example.com.csr -out example_certs1/helloworld.example.com.crt
openssl req -out example_certs1/client.example.com.csr -newkey rsa:2048 -nodes -keyout example_certs1/client.example.com.key -subj "/CN=client.example.com/O=client organization"
openssl x509 -req -sha256 -days 365 -CA example_certs1/example.com.crt -CAkey example_certs1/example.com.key -set_serial 1 -in example_certs1/client.example.com.csr -out example_certs1/client.example.com.crt
"#;

const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: mygateway
  namespace: default
spec:
  selector:
    istio: ingressgateway # use istio default ingress gateway
  servers:
  - port:
      number: 443
      name: https
      protocol: HTTPS
    tls:
      mode: SIMPLE
      credentialName: httpbin-credential # must be the same as secret
    hosts:
    - httpbin.example.com
"#;

const TWO_HOSTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: mygateway
  namespace: default
spec:
  selector:
    istio: ingressgateway # use istio default ingress gateway
  servers:
  - port:
      number: 443
      name: https-httpbin
      protocol: HTTPS
    tls:
      mode: SIMPLE
      credentialName: httpbin-credential
    hosts:
    - httpbin.example.com
  - port:
      number: 443
      name: https-helloworld
      protocol: HTTPS
    tls:
      mode: SIMPLE
      credentialName: helloworld-credential
    hosts:
    - helloworld.example.com
"#;

const HTTPBIN: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: httpbin
  namespace: default
spec:
  hosts:
  - "httpbin.example.com"
  gateways:
  - mygateway
  http:
  - match:
    - uri:
        prefix: /status
    - uri:
        prefix: /delay
    route:
    - destination:
        port:
          number: 8000
        host: httpbin
"#;

const HELLOWORLD: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: helloworld
  namespace: default
spec:
  hosts:
  - helloworld.example.com
  gateways:
  - mygateway
  http:
  - match:
    - uri:
        exact: /hello
    route:
    - destination:
        host: helloworld
        port:
          number: 5000
"#;

/// Who follows the page.
struct Reader {
    mesh: Mesh,
    /// Where the certificates are.
    folder: TempDir,
    curl: PathBuf,
    /// Whether `openssl` makes certificates of version 1 here: later ones add extensions by themselves.
    old: bool,
    _apps: [Workload; 2],
}

impl Reader {
    /// With httpbin and helloworld running, and all certificates made. `None`: skipped.
    async fn begin(mesh: Mesh, story: &str) -> Option<Self> {
        let curl = program::executable(story, "curl")?;
        let folder = TempDir::with_prefix("sluice-page-").expect("a temporary folder can be made");
        let (code, said) = shell(&format!("set -e\ncd {}\n{CERTIFICATES}", folder.path().display())).await;
        if said.contains("openssl: not found") {
            eprintln!("SKIPPED story {story}: no openssl");
            return None;
        }
        assert_eq!(code, 0, "{said}");
        let mut apps = Vec::new();
        for (name, port) in [("httpbin", 8000), ("helloworld", 5000)] {
            mesh.write(&format!("{name}.yaml"), &yaml::service("default", name, &[(port, "http")]));
            apps.push(mesh.workload(name).namespace("default").ports(&[port]).start().await);
        }
        mesh.write("httpbin-route.yaml", HTTPBIN);
        let apps = apps.try_into().ok()?;
        let version = format!(
            "cd {}; openssl x509 -in example_certs1/httpbin.example.com.crt -noout -text",
            folder.path().display()
        );
        let old = shell(&version).await.1.contains("Version: 1 ");
        if !old {
            eprintln!("SKIPPED a part of story {story}: this openssl writes no certificates of version 1");
        }
        Some(Self { mesh, folder, curl, old, _apps: apps })
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("openssl wrote it")
    }

    /// `kubectl create -n istio-system secret ... NAME --from-file=KEY=FILE ...`
    fn create_secret(&self, name: &str, files: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> = files
            .iter()
            .map(|(key, file)| ((*key).to_owned(), BASE64_STANDARD.encode(self.file(file)).into()))
            .collect();
        let metadata = json!({"name": name, "namespace": "istio-system"});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
        self.mesh.write(&format!("{name}.yaml"), &format!("{secret}\n"));
    }

    /// `kubectl create -n istio-system secret tls HOST-credential --key=... --cert=...`
    fn create_pair(&self, folder: &str, host: &str) {
        let [key, certificate] = ["key", "crt"].map(|ending| format!("{folder}/{host}.example.com.{ending}"));
        self.create_secret(&format!("{host}-credential"), &[("tls.key", &key), ("tls.crt", &certificate)]);
    }

    /// The page's `curl` for this host and path; what `-v` and the body say.
    async fn curl(&self, host: &str, path: &str, trust: &str, more: &str) -> String {
        let folder = self.folder.path().display();
        let tools = self.curl.parent().expect("curl is in a folder").display();
        let command = format!(
            r#"cd {folder}; PATH={tools}:$PATH INGRESS_HOST={} SECURE_INGRESS_PORT=8443
curl -v -m 20 -HHost:{host} --resolve "{host}:$SECURE_INGRESS_PORT:$INGRESS_HOST" --cacert {trust}/example.com.crt {more} "https://{host}:$SECURE_INGRESS_PORT{path}""#,
            self.mesh.block.ip(1),
        );
        shell(&command).await.1
    }

    /// Asks for a teapot until there is one, trusting this folder's CA.
    async fn teapot(&self, trust: &str, more: &str) {
        let what = format!("a teapot, trusting {trust} {more}");
        eventually(&what, async || self.curl("httpbin.example.com", "/status/418", trust, more).await.contains(" 418"))
            .await;
    }
}

const CLIENT: &str = "--cert example_certs1/client.example.com.crt --key example_certs1/client.example.com.key";
/// The same client as the other CA of that name would know it.
const STRANGER: &str = "--cert example_certs2/httpbin.example.com.crt --key example_certs2/httpbin.example.com.key";

/// "Configure a TLS ingress gateway for a single host", and its rotation.
async fn single_host(reader: &Reader, gateway: &Proxy) {
    reader.create_pair("example_certs1", "httpbin");
    reader.mesh.write("gateway.yaml", GATEWAY);
    reader.teapot("example_certs1", "").await;
    // Version 1 is told, and why one should not have it.
    if reader.old {
        gateway.logs("is of X.509 version 1, which has no subjectAltName").await;
    }

    reader.mesh.remove("httpbin-credential.yaml");
    reader.create_pair("example_certs2", "httpbin");
    reader.teapot("example_certs2", "").await;
    let old = reader.curl("httpbin.example.com", "/status/418", "example_certs1", "").await;
    // Whatever words this OpenSSL has for a CA of the same name with another key.
    assert!(old.contains("curl: (35)") || old.contains("curl: (60)"), "{old}");
    assert!(!old.contains(" 418"), "{old}");
}

/// "Configure a TLS ingress gateway for multiple hosts".
async fn several_hosts(reader: &Reader) {
    reader.create_pair("example_certs1", "httpbin");
    reader.create_pair("example_certs1", "helloworld");
    reader.mesh.write("gateway.yaml", TWO_HOSTS);
    reader.mesh.write("helloworld-route.yaml", HELLOWORLD);
    eventually("HTTP/2 200 for helloworld", async || {
        let said = reader.curl("helloworld.example.com", "/hello", "example_certs1", "").await;
        said.contains("HTTP/2 200") && said.contains("CN=helloworld.example.com")
    })
    .await;
    reader.teapot("example_certs1", "").await;
}

/// "Configure a mutual TLS ingress gateway".
async fn mutual(reader: &Reader, gateway: &Proxy) {
    let files = ["httpbin.example.com.key", "httpbin.example.com.crt", "example.com.crt"]
        .map(|file| format!("example_certs1/{file}"));
    let keys = ["tls.key", "tls.crt", "ca.crt"];
    let pairs: Vec<(&str, &str)> = keys.into_iter().zip(files.iter().map(String::as_str)).collect();
    reader.create_secret("httpbin-credential", &pairs);
    reader.mesh.write("gateway.yaml", &GATEWAY.replace("SIMPLE", "MUTUAL"));
    eventually("a client without a certificate is refused", async || {
        let said = reader.curl("httpbin.example.com", "/status/418", "example_certs1", "").await;
        said.contains("alert certificate required") && !said.contains(" 418")
    })
    .await;
    gateway.logs("the client sent no certificate, and one is required").await;
    reader.teapot("example_certs1", CLIENT).await;
    reader.teapot("example_certs1", &format!("{CLIENT} --tls-max 1.2")).await;

    if reader.old {
        gateway.logs("a client's certificate is of X.509 version 1 and was accepted").await;
    }
    let told = reader.curl("httpbin.example.com", "/status/200", "example_certs1", CLIENT).await;
    assert!(told.contains(r#"Subject=\"O=client organization,CN=client.example.com\""#), "{told}");

    // Another CA of the same name has not signed this one.
    let said = reader.curl("httpbin.example.com", "/status/418", "example_certs1", STRANGER).await;
    assert!(said.contains("alert unknown ca") && !said.contains(" 418"), "{said}");
    gateway.logs("was not issued by a trusted CA").await;
    let refused = gateway.metrics().await;
    for reason in ["CertificateRequired", "UnknownCa"] {
        assert!(refused.sum("sluice_tls_handshake_failures_total", &[("reason", reason)]) >= 1.0, "{reason}");
    }
}

/// "Troubleshooting": what the page has one look for, and where we tell it.
async fn troubleshooting(reader: &Reader, gateway: &Proxy) {
    // "Verify that the secrets are successfully created": the certificates that are served, each with its Secret.
    let certificates =
        shell(&format!("{} certs --admin {}", binary::sluice().display(), gateway.addresses().admin)).await.1;
    assert!(certificates.contains("istio-system/httpbin-credential"), "{certificates}");
    // "Check the log": what is wrong is named, be it the key of another certificate or a request in its place.
    let wrong = [
        ("example_certs2/httpbin.example.com.key", "example_certs1/httpbin.example.com.crt", "does not belong to the"),
        (
            "example_certs1/httpbin.example.com.key",
            "example_certs1/httpbin.example.com.csr",
            "a certificate request stands",
        ),
    ];
    for (key, certificate, told) in wrong {
        let files = [("tls.key", key), ("tls.crt", certificate), ("ca.crt", "example_certs1/example.com.crt")];
        reader.create_secret("httpbin-credential", &files);
        gateway.logs(told).await;
    }
    // The last good one serves all the time.
    reader.teapot("example_certs1", CLIENT).await;
}

async fn follow(mesh: Mesh, story: &str) -> Option<Reader> {
    let reader = Reader::begin(mesh, story).await?;
    let gateway = reader.mesh.gateway().await;
    single_host(&reader, &gateway).await;
    several_hosts(&reader).await;
    mutual(&reader, &gateway).await;
    troubleshooting(&reader, &gateway).await;
    Some(reader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_from_files() {
    let Some(reader) = follow(Mesh::new(), "the_page_works_from_files").await else { return };
    // What check says of the page's own files: nothing is wrong, and one thing should be known.
    reader.create_pair("example_certs1", "httpbin");
    reader.mesh.write("gateway.yaml", GATEWAY);
    reader.mesh.remove("helloworld-route.yaml");
    let (code, said) =
        shell(&format!("{} check {}", binary::sluice().display(), reader.mesh.config.path().display())).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.contains("X.509 version 1") && said.contains("[odd-certificate]"), reader.old, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_from_an_api_server() {
    follow(Mesh::in_cluster().await, "the_page_works_from_an_api_server").await;
}

/// A CA as old tutorials make one, of version 1, in files next to the gateway.
const OLD_CA: &str = r#"
openssl req -new -newkey rsa:2048 -nodes -keyout old.key -out old.csr -subj "/CN=old CA"
openssl x509 -req -days 365 -in old.csr -signkey old.key -out old.crt
openssl req -new -newkey rsa:2048 -nodes -keyout visitor.key -out visitor.csr -subj "/CN=visitor"
openssl x509 -req -days 365 -CA old.crt -CAkey old.key -set_serial 2 -in visitor.csr -out visitor.crt
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_of_version_1_in_a_file_serves_and_is_told() {
    let Some(reader) = Reader::begin(Mesh::new(), "a_ca_of_version_1_in_a_file_serves_and_is_told").await else {
        return;
    };
    if !reader.old {
        return;
    }
    let folder = reader.folder.path().display();
    let (code, said) = shell(&format!("set -e\ncd {folder}\n{OLD_CA}")).await;
    assert_eq!(code, 0, "{said}");
    let files = format!(
        "serverCertificate: {folder}/example_certs1/httpbin.example.com.crt\n      privateKey: \
         {folder}/example_certs1/httpbin.example.com.key\n      caCertificates: {folder}/old.crt"
    );
    let gateway = GATEWAY.replace("SIMPLE", "MUTUAL").replace("credentialName: httpbin-credential", &files);
    reader.mesh.write("gateway.yaml", &gateway);
    let proxy = reader.mesh.gateway().await;

    reader.teapot("example_certs1", "--cert visitor.crt --key visitor.key").await;
    proxy.logs("CA certificate 1 (CN=old CA) is of X.509 version 1: it cannot say that it is a CA").await;
    proxy.logs("certificate 1 of the chain is of X.509 version 1").await;
    // What a leaf of that CA has signed is nobody.
    let sign = "openssl x509 -req -days 9 -CA visitor.crt -CAkey visitor.key -set_serial 3 -in old.csr -out forged.crt; \
                cat visitor.crt >> forged.crt";
    assert_eq!(shell(&format!("cd {folder}; {sign}")).await.0, 0);
    let forged = "--cert forged.crt --key old.key";
    let said = reader.curl("httpbin.example.com", "/status/418", "example_certs1", forged).await;
    assert!(said.contains("alert") && !said.contains(" 418"), "{said}");
    proxy.logs("is of X.509 version 1 and was not issued by one of the trusted CAs directly").await;
}
