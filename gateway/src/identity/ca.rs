//! An identity from a CA, by Istio's `istio.v1.auth.IstioCertificateService`: asked for when half of the last one's life has
//! passed, and again and again while there is no answer.

mod ask;

use tls::{
    csr::{Grant, Granted},
    identity::SpiffeId,
};
use tracing::{info, warn};

use super::{
    board::{Board, now, until},
    lists::{self, Lists},
    schedule,
};
use crate::{settings::CaSettings, source::identity::FileWatch, telemetry::metrics::Attempt};

/// See the module.
pub(super) struct Ca {
    settings: CaSettings,
    board: Board,
    /// The roots and the token, either of which may be what was missing.
    files: FileWatch,
    held: Option<Grant>,
    /// Who it was asked for last.
    asked_for: Option<SpiffeId>,
    due: Due,
    /// Length of the life of the last certificate, milliseconds.
    life: Option<i64>,
    /// Who is revoked.
    lists: Lists,
    /// Why the last certificate was had without a token.
    without_token: Option<String>,
}

/// What is to be done, and when.
enum Due {
    /// Ask.
    Ask(i64),
    /// Use what was given for a time to come: the CA's clock is ahead of ours, and what is held is good until then.
    Use(i64, Box<Grant>),
}

impl Due {
    fn at(&self) -> i64 {
        match self {
            Self::Ask(at) | Self::Use(at, _) => *at,
        }
    }
}

impl Ca {
    /// Has asked nobody yet.
    pub(super) fn new(settings: CaSettings, board: Board) -> Self {
        let files = FileWatch::new(vec![settings.root.clone(), settings.token.clone(), settings.crl.clone()]);
        let lists = Lists::of(&settings.crl.display());
        Self {
            settings,
            board,
            files,
            held: None,
            asked_for: None,
            due: Due::Ask(now()),
            life: None,
            lists,
            without_token: None,
        }
    }

    /// Asks as long as this lives.
    pub(super) async fn run(mut self) {
        loop {
            let id = self.board.expected().await;
            if self.asked_for.as_ref() != Some(&id) {
                self.asked_for = Some(id.clone());
                self.due = Due::Ask(now());
            }
            tokio::select! {
                () = until(self.due.at()) => self.act(&id).await,
                () = self.files.changed() => self.files_changed(),
                () = self.board.expects_another() => {}
            }
        }
    }

    async fn act(&mut self, id: &SpiffeId) {
        match std::mem::replace(&mut self.due, Due::Ask(0)) {
            Due::Use(_, grant) => self.take(*grant),
            Due::Ask(_) => {
                let held = self.board.identity();
                // What is revoked cannot be the CA either.
                let asked = match self.look(held.is_some()) {
                    Ok(()) => ask::ask(&self.settings, id, held.as_deref(), self.lists.good()).await,
                    Err(why) => Err(ask::refusal(Attempt::Unprepared, why)),
                };
                self.board.count(asked.as_ref().map_or_else(|refusal| refusal.counts, |_| Attempt::Given));
                match asked {
                    Ok(answered) => {
                        self.tell_of_token(answered.without_token);
                        self.given(answered.grant);
                    }
                    Err(refusal) => {
                        let failures = self.board.failures().saturating_add(1);
                        let next = now() + schedule::pause(failures, self.life, fastrand::f64());
                        self.board.failed(&refusal.text, Some(next));
                        self.due = Due::Ask(next);
                    }
                }
            }
        }
    }

    /// Says once that the token is of no use: whoever has to begin anew gets nothing by it.
    fn tell_of_token(&mut self, without: Option<String>) {
        match &without {
            Some(why) if self.without_token.is_none() => {
                warn!("the workload identity is renewed by the certificate that is held, and not by the token: {why}");
            }
            None if self.without_token.is_some() => info!("the token for the CA is believed again"),
            _ => {}
        }
        self.without_token = without;
    }

    /// A certificate that has not begun would be refused by everybody whose clock is right: what is held, and is good
    /// until then, stays. Without such a one ours is the clock that may be wrong.
    fn given(&mut self, grant: Grant) {
        let (begin, _) = grant.validity();
        let held = self.board.identity().filter(|held| held.not_after > begin);
        if begin > now() / 1000 && held.is_some() {
            warn!(ahead_s = begin - now() / 1000, "the CA's clock is ahead: its certificate is used when it has begun");
            self.due = Due::Use(begin * 1000, Box::new(grant));
            return;
        }
        self.take(grant);
    }

    fn take(&mut self, grant: Grant) {
        let (begin, end) = grant.validity();
        let begin = (begin * 1000).max(now());
        let renewal = schedule::renewal(begin, end * 1000, fastrand::f64());
        self.life = Some(end * 1000 - begin);
        let (granted, trust) = self.trusted(&grant);
        self.held = Some(grant);
        match granted {
            Ok(granted) => {
                self.due = Due::Ask(renewal);
                self.board.took(granted.identity, Some(renewal), trust);
            }
            // It was assembled when it was checked: the revocation lists have broken meanwhile.
            Err(error) => {
                let failures = self.board.failures().saturating_add(1);
                let next = now() + schedule::pause(failures, self.life, fastrand::f64());
                self.due = Due::Ask(next);
                self.board.failed(&error, Some(next));
            }
        }
    }

    /// What is given, with the roots that are mounted beside those that the CA gave; and a sentence where they differ.
    fn trusted(&mut self, grant: &Grant) -> (Result<Granted, String>, Option<String>) {
        let file = self.settings.root.display();
        let mounted =
            ask::roots(&self.settings).and_then(|roots| grant.with(Some(&roots)).map_err(|it| it.to_string()));
        let trust = match &mounted {
            Ok(Granted { only_given: 0, only_mounted: 0, .. }) => None,
            Ok(Granted { only_given, only_mounted, .. }) => Some(format!(
                "the roots that the CA gave and those in {file} are both trusted: {only_given} are the CA's alone, {only_mounted} \
                 the file's alone"
            )),
            Err(why) => Some(format!("only the roots that the CA gave are trusted: {why}")),
        };
        let granted = mounted.map_or_else(|_| grant.with(None), Ok);
        let looked = self.look(self.board.identity().is_some());
        let granted = looked.and_then(|()| {
            let with = |granted: Granted| Ok(Granted { identity: self.lists.on(granted.identity)?, ..granted });
            granted.and_then(with).map_err(|error: tls::Error| error.to_string())
        });
        let remarks = self.lists.remarks(granted.as_ref().ok().map(|granted| &granted.identity));
        let said: Vec<String> = trust.into_iter().chain(remarks).collect();
        (granted, (!said.is_empty()).then(|| said.join("; ")))
    }

    fn look(&mut self, in_use: bool) -> Result<(), String> {
        self.lists.take(lists::in_file(&self.settings.crl), in_use)
    }

    /// Other roots are trusted at once; and what has failed may succeed now.
    fn files_changed(&mut self) {
        if let Some(grant) = self.held.take() {
            let (granted, trust) = self.trusted(&grant);
            self.held = Some(grant);
            if let Err(error) = &granted {
                warn!("what is trusted stays as it was: {error}");
            }
            if let Ok(granted) = granted
                && self.board.is_news(&granted.identity, trust.as_deref())
            {
                self.board.trusts(granted.identity, trust);
            }
        }
        if let Due::Ask(_) = self.due
            && self.board.failures() > 0
        {
            self.due = Due::Ask(now());
        }
    }
}
