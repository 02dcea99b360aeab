use tls::authority::signer::self_signed;

use super::*;
use crate::acme::vault::FileVault;

const LIFETIMES: Lifetimes = Lifetimes {
    usual: Duration::from_secs(86_400),
    longest: Duration::from_secs(864_000),
    root: Duration::from_secs(8_640_000),
    propagation: Duration::from_secs(3600),
};

struct Scene {
    state: tempfile::TempDir,
    plug_in: tempfile::TempDir,
    leads: watch::Sender<bool>,
}

impl Scene {
    fn new() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        Self { state: folder(), plug_in: folder(), leads: watch::Sender::new(true) }
    }

    /// One whose CA is good for no time: what the last look has not confirmed does not sign.
    fn keeper(&self, plugged_in: bool) -> Keeper {
        let vault = FileVault::of_ca(self.state.path().to_owned(), "istio-system".to_owned());
        vault.create().unwrap();
        Keeper {
            current: Arc::new(Current::new(Duration::ZERO)),
            folder: plugged_in.then(|| self.plug_in.path().to_owned()),
            vault: Vault::Files(vault),
            trusted: Trusted::Machine(self.state.path().join("root-cert.pem")),
            trust_domain: "td".to_owned(),
            lifetimes: LIFETIMES,
            leading: self.leads.subscribe(),
            look: Arc::default(),
            metrics: Arc::new(CaMetrics::new()),
            memory: Memory::default(),
        }
    }

    fn plug_in(&self, (certificate, key): &(String, String), more: &str) {
        let write = |name: &str, text: &str| std::fs::write(self.plug_in.path().join(name), text).unwrap();
        write("ca-cert.pem", certificate);
        write("ca-key.pem", key);
        write("root-cert.pem", &format!("{certificate}{more}"));
    }

    fn hand_out(&self, roots: &str) {
        std::fs::write(self.state.path().join("root-cert.pem"), roots).unwrap();
    }
}

fn root() -> (String, String) {
    self_signed("td", None, LIFETIMES.root, SystemTime::now()).unwrap()
}

fn serial(keeper: &Keeper) -> String {
    keeper.current.get().unwrap().signer.serial().to_owned()
}

async fn settled(keeper: &Keeper) {
    while keeper.turn().await.unwrap() == Turn::Again {}
}

async fn replace(keeper: &Keeper, record: &Record) {
    let stored = keeper.vault.get(SELF_SIGNED).await.unwrap();
    keeper.vault.put(SELF_SIGNED, &record.stored(stored)).await.unwrap();
}

#[tokio::test]
async fn only_the_leader_makes_a_root() {
    let scene = Scene::new();
    let keeper = scene.keeper(false);
    scene.leads.send_replace(false);
    assert!(matches!(keeper.turn().await.unwrap(), Turn::Waits(what) if what.contains("the replica that leads")));
    assert!(keeper.vault.get(SELF_SIGNED).await.unwrap().is_none());
    scene.leads.send_replace(true);
    settled(&keeper).await;
    assert!(keeper.current.get().is_some());
}

#[tokio::test]
async fn another_ca_in_the_secret_is_neither_taken_nor_signed_beside() {
    let scene = Scene::new();
    let keeper = scene.keeper(false);
    settled(&keeper).await;
    let mesh = keeper.current.get().unwrap();
    let confirmed = keeper.current.confirmed();
    let other = rotation::fresh("td", LIFETIMES, SystemTime::now()).unwrap();
    replace(&keeper, &other).await;
    let told = keeper.turn().await.unwrap_err().to_string();
    assert!(told.starts_with("Secret istio-ca-secret: the change is not taken"), "{told}");
    assert_eq!(serial(&keeper), mesh.signer.serial());
    assert_eq!(keeper.current.confirmed(), confirmed, "who refuses it must not sign for ever");
    // What is no CA at all, and would be renewed if it were ours: nothing is written.
    let mut broken = other.clone();
    broken.material.key.clone_from(&mesh.material.key);
    replace(&keeper, &broken).await;
    let told = keeper.turn().await.unwrap_err().to_string();
    assert!(told.contains("the key does not belong"), "{told}");
    assert_eq!(keeper.current.confirmed(), confirmed);
    let kept = keeper.vault.get(SELF_SIGNED).await.unwrap().unwrap();
    assert_eq!(Record::read(&kept).unwrap(), broken);
    // With the root of before beside its own nobody is cut off.
    let mut both = other.clone();
    both.material.roots.extend_from_slice(&mesh.material.certificate);
    replace(&keeper, &both).await;
    settled(&keeper).await;
    assert_ne!(serial(&keeper), mesh.signer.serial());
    assert!(keeper.current.confirmed() > confirmed);
}

#[tokio::test]
async fn a_plugged_in_ca_that_is_broken_gone_or_strange_is_treated_alike() {
    let scene = Scene::new();
    let keeper = scene.keeper(true);
    let (mesh, other) = (root(), root());
    scene.plug_in(&mesh, "");
    settled(&keeper).await;
    let (first, confirmed) = (serial(&keeper), keeper.current.confirmed());
    let refuses = async |what: &str| {
        let told = keeper.turn().await.unwrap_err().to_string();
        assert!(told.contains(what), "{told}");
        assert_eq!((serial(&keeper), keeper.current.confirmed()), (first.clone(), confirmed));
    };
    scene.plug_in(&(mesh.0.clone(), other.1.clone()), "");
    refuses("the key does not belong to ca-cert.pem").await;
    std::fs::remove_file(scene.plug_in.path().join("ca-key.pem")).unwrap();
    refuses("cannot be read").await;
    scene.plug_in(&other, "");
    refuses("the change is not taken").await;
    scene.plug_in(&mesh, "");
    settled(&keeper).await;
    assert!(keeper.current.confirmed() > confirmed);
}

#[tokio::test]
async fn a_replica_that_was_away_follows_the_mesh() {
    let scene = Scene::new();
    let keeper = scene.keeper(true);
    let (mesh, other) = (root(), root());
    scene.plug_in(&mesh, "");
    settled(&keeper).await;
    scene.plug_in(&other, "");
    scene.hand_out(&format!("{}{}", mesh.0, other.0));
    keeper.turn().await.unwrap_err();
    // The others have taken it, step by step.
    scene.hand_out(&other.0);
    keeper.turn().await.expect_err("what was refused just now is not judged again");
    keeper.memory.forget();
    settled(&keeper).await;
    assert_eq!(serial(&keeper), tls::facts::facts(other.0.as_bytes()).unwrap().serial);
}
