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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use routing::acme::{Exec, Rfc2136};
    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn record() -> TxtRecord {
        TxtRecord { name: "_acme-challenge.example.com".to_owned(), value: "value".to_owned() }
    }

    fn exec(command: &str, propagation: Duration) -> Dns01 {
        let publisher = Publisher::Exec(Exec { command: command.to_owned(), timeout: Duration::from_secs(20) });
        Dns01 { publisher, propagation }
    }

    #[tokio::test]
    async fn a_published_record_is_given_time_to_be_seen() {
        let propagation = Duration::from_millis(100);
        let start = Instant::now();
        publish(&exec("true", propagation), &record(), Some(Path::new("/bin"))).await.unwrap();
        assert!(start.elapsed() >= propagation);
    }

    #[tokio::test]
    async fn nothing_is_waited_for_after_a_failure_or_when_a_record_is_withdrawn() {
        let error = publish(&exec("false", LONG), &record(), Some(Path::new("/bin"))).await.unwrap_err();
        assert!(error.contains("false present _acme-challenge.example.com failed (exit status: 1)"), "{error}");
        withdraw(&exec("true", LONG), &record(), Some(Path::new("/bin"))).await.unwrap();
    }

    #[tokio::test]
    async fn a_name_server_needs_no_folder_of_hooks() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = Rfc2136 { nameserver: gone.to_string(), zone: None, tsig: None };
        let dns01 = Dns01 { publisher: Publisher::Rfc2136(server), propagation: LONG };
        let error = publish(&dns01, &record(), None).await.unwrap_err();
        assert!(error.contains(" is not published at the name server 127.0.0.1:"), "{error}");
    }
}
