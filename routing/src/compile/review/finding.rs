//! Unsupported fields of one object, each told once however often it is used.

use crate::compile::{context::Context, report::UNSUPPORTED};
use crate::resources::Object;

/// What was found in one object, in the order it was found.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

struct Finding {
    message: &'static str,
    first: String,
    count: usize,
}

impl Findings {
    /// A field that is left out without harm, if it is `used`.
    pub(super) fn note(&mut self, used: bool, message: &'static str, field: impl FnOnce() -> String) {
        if !used {
            return;
        }
        match self.0.iter_mut().find(|known| known.message == message) {
            Some(known) => known.count += 1,
            None => self.0.push(Finding { message, first: field(), count: 1 }),
        }
    }

    /// Report everything, with the place of its first use.
    pub(super) fn tell<T>(self, context: &Context<'_>, object: &Object<T>) {
        for finding in self.0 {
            let message = match finding.count {
                1 => finding.message.to_owned(),
                count => format!("{} (used {count} times in this object)", finding.message),
            };
            context.report.warning(object, UNSUPPORTED, &finding.first, message);
        }
    }
}
