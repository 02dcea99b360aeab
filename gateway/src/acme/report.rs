//! How orders are doing, for people: problems at the Gateways that ask, and one line per certificate.

use std::sync::Arc;

use jiff::Timestamp;
use routing::{
    acme::{Current, ISSUER, Ordered},
    problem::{Problem, Severity},
    resources::Resources,
};
use serde_json::{Value, json};

use super::{Progress, Wanted, now, record::Record};

/// Code of the problem that there is no certificate, since ordering one failed.
pub(crate) const ORDER_FAILED: &str = "certificate-order-failed";
/// Code of the problem that a certificate which is there could not be renewed.
pub(crate) const RENEWAL_FAILED: &str = "certificate-renewal-failed";

/// What is wrong with orders, told at each Gateway that asks for the certificate. No times are in it: the problem is the
/// same until something else goes wrong.
pub(crate) fn problems(wanted: &Wanted, progress: &Progress, resources: &Resources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for ordered in wanted {
        let Some(error) = progress.get(&ordered.secret).and_then(|record| record.last_error.as_ref()) else { continue };
        let (severity, code, what) = match ordered.current {
            // Nothing is ordered any more.
            Current::Foreign(_) => continue,
            Current::Nothing => (Severity::Error, ORDER_FAILED, "gives no certificate"),
            _ => (Severity::Warning, RENEWAL_FAILED, "gives no new certificate, the old one keeps serving"),
        };
        let message = format!(
            "issuer `{}` {what} (Secret `{}`): {}; it is tried again, see `sluice certs`",
            ordered.issuer.name, ordered.secret, error.text
        );
        for reference in &ordered.gateways {
            let Some(gateway) = resources.gateways.get(&reference.namespace, &reference.name) else { continue };
            let field = format!("metadata.annotations[\"{ISSUER}\"]");
            problems.push(gateway.problem(severity, code, &field, message.clone()));
        }
    }
    problems
}

/// How many certificates were tried without success the last time.
pub(crate) fn failing(wanted: &Wanted, progress: &Progress) -> usize {
    let failed = |ordered: &Ordered| {
        let foreign = matches!(ordered.current, Current::Foreign(_));
        !foreign && progress.get(&ordered.secret).is_some_and(|record| record.last_error.is_some())
    };
    wanted.iter().filter(|ordered| failed(ordered)).count()
}

/// How the order of a certificate is doing, for the admin pages.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// `namespace/name` of the Secret.
    pub(crate) secret: String,
    /// The Gateways that ask, `namespace/name`, joined by commas.
    pub(crate) gateways: String,
    /// Names that it has to have.
    pub(crate) hosts: Vec<String>,
    /// As [`json`] gives it.
    pub(crate) json: Value,
}

/// All of them.
pub(crate) fn told(namespace: &str, wanted: &Wanted, progress: &Progress) -> Vec<Told> {
    let one = |ordered: &Arc<Ordered>| {
        let gateways: Vec<String> = ordered.gateways.iter().map(|it| format!("{}/{}", it.namespace, it.name)).collect();
        let empty = Record::default();
        let record = progress.get(&ordered.secret).unwrap_or(&empty);
        let foreign = matches!(ordered.current, Current::Foreign(_));
        let there = !matches!(ordered.current, Current::Nothing);
        let mut json = json(record, there);
        json["issuer"] = ordered.issuer.name.as_str().into();
        json["server"] = ordered.issuer.server.as_str().into();
        if foreign {
            json["state"] = "foreign".into();
        }
        Told {
            secret: format!("{namespace}/{}", ordered.secret),
            gateways: gateways.join(","),
            hosts: ordered.hosts.clone(),
            json,
        }
    };
    wanted.iter().map(one).collect()
}

/// How the order of a certificate is doing, for programs; `there`: a certificate is in its Secret. Never holds keys or
/// tokens.
pub(crate) fn json(record: &Record, there: bool) -> Value {
    let time = |at: i64| Timestamp::from_second(at).ok().map(|at| at.to_string());
    let plan = record.renewal.as_ref();
    let state = match &record.order {
        _ if record.next_attempt > now() => "waiting",
        Some(_) => "ordering",
        None if there => "issued",
        None => "pending",
    };
    json!({
        "issuer": record.issuer,
        "state": state,
        "nextRenewal": plan.and_then(|plan| time(plan.at)),
        "renewalBecause": plan.map(|plan| plan.why.as_str()),
        "failures": record.failures,
        "lastError": record.last_error.as_ref().map(|error| error.text.as_str()),
        "lastErrorAt": record.last_error.as_ref().and_then(|error| time(error.at)),
        "nextAttempt": Some(record.next_attempt).filter(|at| *at > now()).and_then(time),
    })
}
