//! A story while it is told.

use super::{Explanation, Mark, Outcome, Question, Step};

/// Why a request goes no further.
pub(super) struct End {
    pub(super) stage: &'static str,
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    pub(super) text: String,
    pub(super) source: String,
}

impl End {
    /// The proxy answers with an error.
    pub(super) fn refused(stage: &'static str, status: u16, text: impl Into<String>) -> Self {
        Self { stage, outcome: Outcome::Refused, status: Some(status), text: text.into(), source: String::new() }
    }

    /// The connection ends.
    pub(super) fn closed(stage: &'static str, text: impl Into<String>) -> Self {
        Self { stage, outcome: Outcome::Closed, status: None, text: text.into(), source: String::new() }
    }

    pub(super) fn by(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }
}

/// What has been told so far.
pub(super) struct Story {
    pub(super) told: Explanation,
}

impl Story {
    pub(super) fn of(question: &Question) -> Self {
        let path = question.target.split('?').next().unwrap_or_default().to_owned();
        Self { told: Explanation { path, ..Explanation::default() } }
    }

    pub(super) fn passed(&mut self, stage: &'static str, text: impl Into<String>, source: &str) {
        self.step(stage, Mark::Passed, text.into(), source);
    }

    pub(super) fn note(&mut self, stage: &'static str, text: impl Into<String>, source: &str) {
        self.step(stage, Mark::Note, text.into(), source);
    }

    /// The proxy answers here, as somebody wanted it to.
    pub(super) fn stopped(&mut self, stage: &'static str, text: impl Into<String>, source: &str) {
        self.step(stage, Mark::Stopped, text.into(), source);
    }

    fn step(&mut self, stage: &'static str, mark: Mark, text: String, source: &str) {
        self.told.steps.push(Step { stage, mark, text, source: source.to_owned() });
    }

    /// It goes no further.
    pub(super) fn end(&mut self, end: End) {
        self.step(end.stage, Mark::Stopped, end.text.clone(), &end.source);
        self.told.outcome = end.outcome;
        self.told.status = end.status;
        self.told.answer = match end.status {
            Some(status) => format!("The proxy answers {status}: {}", end.text),
            None => format!("The connection ends: {}", end.text),
        };
    }

    /// It got where it should.
    pub(super) fn arrive(&mut self, outcome: Outcome, status: Option<u16>, answer: impl Into<String>) {
        self.told.outcome = outcome;
        self.told.status = status;
        self.told.answer = answer.into();
    }
}
