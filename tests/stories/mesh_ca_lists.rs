//! A plugged-in CA that is exchanged under its root while revocation lists are in force, and one that they revoke.

use std::{fs, path::PathBuf, time::Duration};

use harness::{
    ca_mesh::CaMesh,
    control_plane::{ControlPlane, Folder},
    eventually::within,
    load::Load,
    mesh::SHOP,
    pki::authority,
};
use tls::authority::Authority;

/// The folder of a plugged-in CA, and those that may be put there.
struct PlugIn {
    folder: PathBuf,
    root: Authority,
    one: Authority,
    two: Authority,
}

impl PlugIn {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("a folder can be made");
        let root = authority("root of a mesh");
        let [one, two] = ["one", "two"].map(|name| root.below(name).expect("a CA can be made"));
        Self { folder, root, one, two }
    }

    /// The list of one of them, with these on it.
    fn list(of: &Authority, revoked: &[&Authority]) -> String {
        let revoked: Vec<&str> = revoked.iter().map(|it| it.root_pem()).collect();
        of.revocation_list(&revoked).expect("a list can be made")
    }

    /// The CA signs, and these are the lists; as a Secret is mounted, all at once.
    fn put(&self, ca: &Authority, lists: &[&str]) {
        let data = self.folder.join(format!("..{}", fastrand::u64(..)));
        fs::create_dir(&data).expect("a folder can be made");
        let files = [
            ("ca-cert.pem", ca.root_pem().to_owned()),
            ("ca-key.pem", ca.key_pem()),
            ("cert-chain.pem", ca.root_pem().to_owned()),
            ("root-cert.pem", self.root.root_pem().to_owned()),
            ("ca-crl.pem", lists.concat()),
        ];
        for (name, text) in files {
            fs::write(data.join(name), text).expect("a file can be written");
            let link = self.folder.join(name);
            if fs::symlink_metadata(&link).is_err() {
                std::os::unix::fs::symlink(format!("..data/{name}"), link).expect("a link can be made");
            }
        }
        std::os::unix::fs::symlink(&data, self.folder.join("..next")).expect("a link can be made");
        fs::rename(self.folder.join("..next"), self.folder.join("..data")).expect("a link can be renamed");
    }

    /// What the CA's own port takes for itself: serial of what signs.
    async fn serial(control: &ControlPlane) -> String {
        control.certs().await["ca"]["serial"].as_str().unwrap_or_default().to_owned()
    }

    fn serial_of(ca: &Authority) -> String {
        tls::facts::facts(ca.root_pem().as_bytes()).expect("is a certificate").serial
    }

    async fn signs(control: &ControlPlane, ca: &Authority) {
        within(Duration::from_secs(60), "the CA signs", async || Self::serial(control).await == Self::serial_of(ca))
            .await;
    }
}

/// Waits for this line after what the log held before.
async fn logs_anew(control: &ControlPlane, before: usize, text: &str) {
    let anew = async || control.log().get(before..).is_some_and(|log| log.contains(text));
    within(Duration::from_secs(60), &format!("the log says `{text}` again"), anew).await;
}

#[tokio::test]
async fn a_ca_is_exchanged_while_lists_are_in_force_and_a_revoked_one_does_not_come_back() {
    let folder = Folder::new();
    let plug_in = PlugIn::new(folder.path("cacerts"));
    let (root, one, two) =
        (PlugIn::list(&plug_in.root, &[]), PlugIn::list(&plug_in.one, &[]), PlugIn::list(&plug_in.two, &[]));
    plug_in.put(&plug_in.one, &[&root, &one]);
    let place = folder.path("cacerts").display().to_string();
    let scene = CaMesh::start(folder, "6s", &["--ca-dir", &place]).await;
    let (folder, control) = (scene.folder(), &scene.control);
    let handed_out = || fs::read_to_string(folder.path("state/ca-crl.pem")).unwrap_or_default();
    let load = Load::start(&scene.mesh.browser(), 2, SHOP);

    // In one step it would cut off whoever has the lists of before.
    plug_in.put(&plug_in.two, &[&root, &two]);
    control.logs(&format!("have none of the CA {}", PlugIn::serial_of(&plug_in.two))).await;
    control.logs("with that list (`openssl ca -gencrl`) beside its own in ca-crl.pem").await;
    assert_eq!(PlugIn::serial(control).await, PlugIn::serial_of(&plug_in.one));

    // The list first, then the CA: nobody notices.
    plug_in.put(&plug_in.one, &[&root, &one, &two]);
    within(Duration::from_secs(60), "three lists are handed out", async || handed_out().matches("BEGIN").count() == 3)
        .await;
    // Whoever has renewed has read them.
    scene.renewed(1.0).await;
    plug_in.put(&plug_in.two, &[&root, &one, &two]);
    PlugIn::signs(control, &plug_in.two).await;
    scene.renewed(2.0).await;

    // Nobody needs the old one any more.
    let gone = PlugIn::list(&plug_in.root, &[&plug_in.one]);
    plug_in.put(&plug_in.two, &[&gone, &one, &two]);
    within(Duration::from_secs(60), "it is revoked", async || handed_out().contains(gone.trim())).await;
    scene.renewed(2.0).await;
    let result = load.stop().await;
    assert_eq!((result.failed, result.sent > 100), (0, true), "{result:?}");

    // Neither with the lists of before nor without any.
    for lists in [&[root.as_str(), &one, &two][..], &[]] {
        let before = control.log().len();
        plug_in.put(&plug_in.one, lists);
        logs_anew(control, before, "revoke ca-cert.pem or a CA above it").await;
        assert_eq!(PlugIn::serial(control).await, PlugIn::serial_of(&plug_in.two));
        plug_in.put(&plug_in.two, &[&gone, &one, &two]);
        logs_anew(control, before, "the CA is as it is kept").await;
    }
    // Nor after a start.
    plug_in.put(&plug_in.one, &[]);
    let CaMesh { control, mesh, .. } = scene;
    control.stop().await;
    let folder = &mesh.control.as_ref().unwrap().folder;
    let strange = ControlPlane::begin(&mesh.block, 8, &folder.flags(&["--ca-dir", &place]));
    strange.logs("revoke ca-cert.pem or a CA above it").await;
    assert_eq!(strange.readiness().await.map(|(code, _)| code), Some(503));
    plug_in.put(&plug_in.two, &[&gone, &one, &two]);
    strange.ready().await;
    strange.stop().await;
}
