//! What signs now, for all that use it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tls::authority::signer::{Material, Signer};
use tokio::{sync::watch, time::Instant};

use super::record::{Phase, Record, SELF_SIGNED};

/// Where what signs comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// It was made here.
    SelfSigned,
    /// Somebody has plugged it in, there.
    PlugIn(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfSigned => write!(f, "Secret {SELF_SIGNED}"),
            Self::PlugIn(whose) => f.write_str(whose),
        }
    }
}

/// What signs, and what is handed out with it.
#[derive(Debug)]
pub(crate) struct InForce {
    /// The CA.
    pub(crate) signer: Signer,
    /// All roots, as PEM.
    pub(crate) roots: String,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// What it was made of.
    pub(crate) material: Material,
    /// With a self-signed one: what is kept of it.
    pub(crate) record: Option<Record>,
}

impl InForce {
    /// Which CAs of its chain are revoked, as PEM; empty: nobody says.
    pub(crate) fn crl(&self) -> String {
        String::from_utf8_lossy(&self.material.crl).into_owned()
    }

    /// Where a rotation stands.
    pub(crate) fn rotation(&self) -> Option<(Phase, SystemTime)> {
        self.record.as_ref()?.rotation
    }

    /// Lifetimes up to this one are known to the record, so that a rotation waits for them.
    pub(crate) fn granted(&self, lifetime: Duration) -> bool {
        self.record.as_ref().is_none_or(|record| lifetime <= record.longest)
    }
}

/// The CA, as it changes.
#[derive(Debug)]
pub(crate) struct Current {
    now: watch::Sender<Option<Arc<InForce>>>,
    /// When it was last seen to be the one that is kept, and for how long that is good.
    confirmed: Mutex<Instant>,
    good_for: Duration,
    /// Why what is kept is not what signs.
    trouble: Mutex<Option<String>>,
    /// Whoever is to trust what is signed can find the roots.
    handed_out: AtomicBool,
}

impl Current {
    /// Nothing signs yet.
    pub(crate) fn new(good_for: Duration) -> Self {
        Self {
            now: watch::Sender::new(None),
            confirmed: Mutex::new(Instant::now()),
            good_for,
            trouble: Mutex::default(),
            handed_out: AtomicBool::new(false),
        }
    }

    /// The roots lie where workloads look for them, or whoever starts workloads waits for them.
    pub(crate) fn hand_out(&self) {
        self.handed_out.store(true, Ordering::Release);
    }

    /// Whether they do.
    pub(crate) fn is_handed_out(&self) -> bool {
        self.handed_out.load(Ordering::Acquire)
    }

    /// What signs now.
    pub(crate) fn get(&self) -> Option<Arc<InForce>> {
        self.now.borrow().clone()
    }

    /// What signs, as it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<InForce>>> {
        self.now.subscribe()
    }

    /// This signs from now on.
    pub(crate) fn set(&self, in_force: InForce) {
        self.now.send_replace(Some(Arc::new(in_force)));
    }

    /// It was compared with what is kept.
    pub(crate) fn confirm(&self) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether it was compared so lately that a rotation cannot have passed it by.
    pub(crate) fn is_fresh(&self) -> bool {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).elapsed() <= self.good_for
    }

    /// How long it still signs without being compared.
    pub(crate) fn lasts(&self) -> Duration {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        self.good_for.saturating_sub(confirmed.elapsed())
    }

    /// Until when it signs, in words.
    pub(crate) fn signs_until(&self) -> String {
        let end = jiff::Timestamp::try_from(SystemTime::now() + self.lasts());
        end.ok().and_then(|end| end.round(jiff::Unit::Second).ok()).map(|end| end.to_string()).unwrap_or_default()
    }

    /// When it was compared last.
    #[cfg(test)]
    pub(crate) fn confirmed(&self) -> Instant {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why what is kept does not sign; `None`: it does. Gives whether that is news.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *told != trouble;
        *told = trouble;
        news
    }

    /// What was said last of it.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
