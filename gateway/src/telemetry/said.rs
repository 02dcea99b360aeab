//! What expressions say of one request, each once.

use std::sync::Arc;

use routing::{attributes::Expression, template::Values};

use super::plan::UNKNOWN;

/// The longest value that an expression gives a label, in bytes.
const MOST_VALUE: usize = 256;

/// The beginning of a value, as long as one may be.
pub(super) fn cut(text: &str) -> &str {
    let end = (0..=MOST_VALUE.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// Values, one behind the other.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Said {
    text: String,
    ends: Vec<usize>,
}

impl Said {
    /// What all of them say, in place of what was said before.
    pub(super) fn evaluate(&mut self, expressions: &[Arc<Expression>], values: &dyn Values) {
        self.text.clear();
        self.ends.clear();
        for expression in expressions {
            let mut bytes = Vec::new();
            if expression.write(values, &mut bytes) {
                self.text.push_str(cut(&String::from_utf8_lossy(&bytes)));
            } else {
                self.text.push_str(UNKNOWN);
            }
            self.ends.push(self.text.len());
        }
    }

    /// What one of them says.
    pub(super) fn value(&self, at: usize) -> &str {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin..self.ends[at]]
    }
}
