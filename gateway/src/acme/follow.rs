//! What every replica does: it follows the records, answers the challenges in them, and tells how the orders are doing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use routing::acme::Challenge;
use tls::challenge::ChallengeTls;
use tracing::warn;

use super::{
    Acme,
    record::{LABEL, LABEL_VALUE, LiveChallenge, Record},
    replicas::short,
    vault::{FileVault, Vault},
};
use crate::{challenges::Challenges, source::identity::FileWatch, stored::Stored};

/// Certificates for challenges that were made: the same one as long as the challenge lives.
type Made = HashMap<String, ChallengeTls>;

impl Acme {
    /// Follows the records until dropped, once something is to be ordered.
    pub(crate) async fn follow(&self, vault: &Vault) {
        self.something_wanted().await;
        match vault {
            Vault::Kubernetes(secrets) => {
                let made = std::cell::RefCell::default();
                secrets.follow((LABEL, LABEL_VALUE), |all| self.take(all, &mut made.borrow_mut())).await;
            }
            Vault::Files(files) => self.follow_files(vault, files).await,
        }
    }

    async fn follow_files(&self, vault: &Vault, files: &FileVault) {
        let mut watch = FileWatch::new(vec![files.orders()]);
        let mut made = Made::default();
        loop {
            match vault.list((LABEL, LABEL_VALUE)).await {
                Ok(all) => self.take(&all, &mut made),
                Err(error) => warn!(%error, "the orders of certificates cannot be read"),
            }
            watch.changed().await;
        }
    }

    fn take(&self, all: &BTreeMap<String, Stored>, made: &mut Made) {
        let records: Vec<Record> = all.values().filter_map(Record::read).collect();
        let orders = records.iter().filter_map(|record| record.order.as_ref());
        let live: Vec<&LiveChallenge> = orders.flat_map(|order| &order.challenges).collect();
        made.retain(|key, _| live.iter().any(|it| it.key_authorization == *key));
        let (mut challenges, mut tokens) = (Challenges::default(), BTreeSet::new());
        for it in live {
            match it.kind {
                Challenge::Http01 => challenges.add_http(&it.host, &it.token, &it.key_authorization),
                Challenge::TlsAlpn01 => match certificate(it, made) {
                    Ok(tls) => challenges.add_tls(&it.host, tls),
                    Err(error) => {
                        warn!(host = it.host, %error, "the certificate of a challenge cannot be made");
                        continue;
                    }
                },
                Challenge::Dns01 => continue,
            }
            tokens.insert(short(&it.token).to_owned());
        }
        self.live.challenges.install(challenges);
        self.answered.send_if_modified(|before| std::mem::replace(before, tokens.clone()) != tokens);
        self.progress.recorded(records.into_iter().map(|it| (it.secret.clone(), it)).collect());
    }
}

fn certificate(challenge: &LiveChallenge, made: &mut Made) -> Result<ChallengeTls, tls::Error> {
    if let Some(known) = made.get(&challenge.key_authorization) {
        return Ok(known.clone());
    }
    let tls = ChallengeTls::new(&challenge.host, &challenge.key_authorization)?;
    made.insert(challenge.key_authorization.clone(), tls.clone());
    Ok(tls)
}
