//! Programs that some configuration uses: a new one compiles only what is new in it, and two that live at the same time
//! share the rest.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use super::{Expression, Fault, Program};

/// How much of a text an expression has to match.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Reach {
    /// The whole of it.
    Whole,
    /// Any part.
    Part,
}

#[derive(Default)]
struct InUse {
    programs: HashMap<(Box<str>, Reach), Weak<Program>>,
    /// At as many programs those are forgotten that nobody uses any more.
    full: usize,
}

static IN_USE: LazyLock<Mutex<InUse>> = LazyLock::new(Mutex::default);

/// The expression that is in use, else a new one.
pub(super) fn or_made(
    text: &str,
    reach: Reach,
    make: impl FnOnce() -> Result<Program, Fault>,
) -> Result<Expression, Fault> {
    let key = (text.into(), reach);
    // Nothing panics while it is locked.
    let in_use = || IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = in_use().programs.get(&key).and_then(Weak::upgrade) {
        return Ok(Expression(known));
    }
    let made = Arc::new(make()?);
    let mut in_use = in_use();
    if in_use.programs.len() >= in_use.full {
        in_use.programs.retain(|_, program| program.strong_count() > 0);
        in_use.full = 2 * in_use.programs.len() + 100;
    }
    in_use.programs.insert(key, Arc::downgrade(&made));
    Ok(Expression(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_shared_and_what_is_not_is_forgotten() {
        let (one, other) = (Expression::whole("in-use").unwrap(), Expression::whole("in-use").unwrap());
        assert!(Arc::ptr_eq(&one.0, &other.0));
        let part = Expression::part("in-use").unwrap();
        assert!(part.is_match("not in-use") && !one.is_match("not in-use"));

        for number in 0..1_000 {
            assert!(Expression::whole(&format!("unused{number}")).unwrap().is_match(format!("unused{number}")));
        }

        let in_use = IN_USE.lock().unwrap();
        assert!(in_use.programs.len() < 900, "{} are kept", in_use.programs.len());
        assert!(in_use.programs.contains_key(&("in-use".into(), Reach::Whole)));
    }
}
