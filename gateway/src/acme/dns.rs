//! TXT records that prove to a CA that a host is ours (RFC 8555 section 8.4): published, and withdrawn afterwards.

mod exec;
mod rfc2136;

use std::path::Path;

use routing::acme::{Dns01, Publisher};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// One value of a name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct TxtRecord {
    /// As `_acme-challenge.example.com`, without a dot at its end.
    pub(crate) name: String,
    /// What the CA wants to read there.
    pub(crate) value: String,
}

/// What is done with a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    /// It is added to whatever else is there: `example.com` and `*.example.com` are proven under the same name.
    Publish,
    /// It is deleted, and nothing else.
    Withdraw,
}

/// Publishes a record, and waits until it can be expected to be seen everywhere (`spec.dns01.propagation`). Nothing is
/// wrong when it is there already. `hooks` is the folder of `--acme-hooks`.
///
/// # Errors
/// A sentence that says who refused and what to do.
pub(crate) async fn publish(dns01: &Dns01, record: &TxtRecord, hooks: Option<&Path>) -> Result<(), String> {
    change(&dns01.publisher, record, Change::Publish, hooks).await?;
    sleep(dns01.propagation).await;
    Ok(())
}

/// Withdraws a record. Nothing is wrong when it is not there. `hooks` is the folder of `--acme-hooks`.
///
/// # Errors
/// As [`publish`].
pub(crate) async fn withdraw(dns01: &Dns01, record: &TxtRecord, hooks: Option<&Path>) -> Result<(), String> {
    change(&dns01.publisher, record, Change::Withdraw, hooks).await
}

async fn change(publisher: &Publisher, record: &TxtRecord, change: Change, hooks: Option<&Path>) -> Result<(), String> {
    match publisher {
        Publisher::Rfc2136(server) => rfc2136::update(server, record, change).await,
        Publisher::Exec(program) => exec::run(program, record, change, hooks).await,
    }
}
