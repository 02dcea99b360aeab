//! What is wrong with the configuration, as much of it as can be read at once.

use routing::problem::Problem;

use super::asked::words;
use crate::admin::schema::problems::Problems;

/// Problems of one answer.
pub(super) const MOST: usize = 200;

/// Those that have each word of `wanted` in them, errors first; all when it is empty. `from`: so many of them are known already.
pub(crate) fn problems(all: &[Problem], generation: u64, (wanted, from): (&str, usize)) -> Problems {
    let wanted = words(wanted);
    let mut found: Vec<&Problem> = all.iter().filter(|problem| has(problem, &wanted)).collect();
    found.sort_by_key(|problem| problem.severity);
    let named = found.iter().skip(from).take(MOST).map(|problem| (*problem).clone()).collect();
    Problems {
        generation,
        problems: named,
        found: found.len(),
        left_out: found.len().saturating_sub(from.saturating_add(MOST)),
    }
}

fn has(problem: &Problem, wanted: &[String]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let text = format!("{problem} {} {}", problem.code, problem.field).to_ascii_lowercase();
    wanted.iter().all(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use routing::problem::{ObjectRef, Severity};

    use super::*;

    fn problem(number: usize) -> Problem {
        let severity = if number.is_multiple_of(2) { Severity::Warning } else { Severity::Error };
        Problem {
            code: "unknown-host",
            severity,
            object: ObjectRef::new("VirtualService", "shop", &format!("vs-{number:03}")),
            field: "spec.http[0]".to_owned(),
            place: None,
            message: "nobody has this host".to_owned(),
        }
    }

    #[test]
    fn they_come_in_parts_errors_first() {
        let all: Vec<Problem> = (0..500).map(problem).collect();
        let told = |wanted, from| problems(&all, 3, (wanted, from));
        let first = told("", 0);
        assert_eq!((first.problems.len(), first.found, first.left_out), (MOST, 500, 300));
        assert!(first.problems.iter().all(|it| it.severity == Severity::Error));
        let mut names: Vec<String> = Vec::new();
        for from in [0, 200, 400] {
            names.extend(told("", from).problems.into_iter().map(|it| it.object.name));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 500, "each once");
        assert_eq!(told("", 400).left_out, 0);
        assert_eq!(told("", usize::MAX).problems.len(), 0);
        let some = told("VS-49 virtualservice", 0);
        assert_eq!((some.found, some.problems.len()), (10, 10));
        assert_eq!(told("unknown-host", 0).found, 500, "by its code");
    }
}
