//! What the admin pages tell of the control plane.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use serde_json::{Value, json};
use tls::authority::signer::Signer;
use tokio::sync::Notify;

use super::ca::{
    in_force::{Current, InForce, Origin},
    record::{Phase, Record},
    rotation,
};
use crate::admin::{
    Readiness, View,
    schema::{SCHEMA, overview::Proxy},
    tell,
};

/// See the module.
pub(crate) struct ControlStatus {
    current: Arc<Current>,
    draining: AtomicBool,
    /// Somebody asked for the end.
    pub(crate) quit_asked: Notify,
}

impl ControlStatus {
    /// Of a process that has nothing yet.
    pub(crate) fn new(current: Arc<Current>) -> Self {
        Self { current, draining: AtomicBool::new(false), quit_asked: Notify::new() }
    }
}

impl View for ControlStatus {
    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Acquire) {
            return Readiness::NotReady("draining: new requests belong elsewhere".to_owned());
        }
        let unready = |why: &str| Readiness::NotReady(why.to_owned());
        match self.current.get() {
            None => unready(self.current.trouble().as_deref().unwrap_or("the CA is not read yet")),
            Some(now) if now.signer.ends() <= SystemTime::now() => {
                unready("the CA's certificate, or one above it, has ended")
            }
            Some(_) if !self.current.is_fresh() => {
                let why = self.current.trouble().map(|why| format!(": {why}")).unwrap_or_default();
                unready(&format!("it is not known whether the CA is still the one of the mesh{why}"))
            }
            Some(_) if !self.current.is_handed_out() => unready("the roots are not written yet"),
            Some(_) => match self.current.trouble() {
                Some(why) => {
                    Readiness::ReadyBut(format!("the last good CA signs, until {}: {why}", self.current.signs_until()))
                }
                None => Readiness::Ready,
            },
        }
    }

    fn config_dump(&self) -> Value {
        let now = self.current.get();
        let trouble = self.current.trouble();
        let until = (now.is_some() && trouble.is_some()).then(|| self.current.signs_until());
        json!({"schema": SCHEMA, "ca": now.map(|now| told(&now)), "trouble": trouble, "signsUntil": until})
    }

    fn summary(&self) -> Proxy {
        let (ready, readiness) = tell::told(&self.readiness());
        let ca = json!({"ca": self.current.get().map(|now| told(&now)), "trouble": self.current.trouble()});
        let name = "sluice control".to_owned();
        Proxy {
            kind: "control",
            name,
            version: env!("CARGO_PKG_VERSION"),
            ready,
            readiness,
            ca: Some(ca),
            ..Proxy::default()
        }
    }

    fn clusters(&self) -> String {
        "a control plane has no clusters; GET /certs tells of its CA\n".to_owned()
    }

    fn certificates(&self) -> Value {
        self.config_dump()
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn quit(&self) {
        self.quit_asked.notify_one();
    }
}

/// What signs; never a key.
fn told(now: &InForce) -> Value {
    let origin = match &now.origin {
        Origin::SelfSigned => "self-signed",
        Origin::PlugIn(whose) => whose,
    };
    described(origin, &now.signer, now.record.as_ref())
}

/// What signs, as pages and `sluice ca status` tell it.
pub(crate) fn described(origin: &str, signer: &Signer, record: Option<&Record>) -> Value {
    let roots = signer.roots().facts().into_iter();
    let roots: Vec<Value> = roots
        .map(|root| json!({"serial": root.serial, "issuer": root.issuer, "notAfter": text(root.not_after)}))
        .collect();
    json!({
        "origin": origin, "serial": signer.serial(), "notAfter": time(signer.ends()), "root": signer.root().serial,
        "rootNotAfter": time(signer.root_ends()), "roots": roots,
        "rotation": record.and_then(turning),
    })
}

/// Where a rotation stands, and when it goes on.
fn turning(record: &Record) -> Option<Value> {
    let (phase, since) = record.rotation?;
    let words = match phase {
        Phase::Announced => "both roots are handed out, the old one signs",
        Phase::Signing => "both roots are handed out, the new one signs",
    };
    let next = rotation::next(record);
    Some(json!({"phase": words, "since": time(since), "next": next.map(time)}))
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

fn text(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}
