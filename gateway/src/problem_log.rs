//! Problems as lines of the log: all of them where they are few, else the first of each object and of each file, and a count of
//! the rest. A folder of broken files, or a kind that the API server has lost, fills no disk.

use std::collections::HashMap;

use routing::problem::{ObjectRef, Problem, Severity};

/// Lines about one object in one reload.
const OF_OBJECT: usize = 5;
/// About one file; about one kind of problem where there are no files.
const OF_FILE: usize = 20;
/// In all.
const IN_ALL: usize = 200;
/// Files that the line about the rest names.
const NAMED: usize = 3;

/// What is written about new problems.
#[derive(Debug, Default)]
pub(crate) struct Lines<'p> {
    /// One line each, in the order of the problems.
    pub(crate) told: Vec<&'p Problem>,
    /// A sentence about the others, when there are any.
    pub(crate) rest: Option<String>,
}

/// Chooses among new problems: errors before warnings, so that these take no line away from those.
pub(crate) fn lines<'p>(problems: &[&'p Problem]) -> Lines<'p> {
    let mut by_severity: Vec<usize> = (0..problems.len()).collect();
    by_severity.sort_by_key(|index| problems[*index].severity);
    let (mut objects, mut files): (HashMap<&ObjectRef, usize>, HashMap<&str, usize>) = Default::default();
    let (mut told, mut rest) = (Vec::new(), Vec::new());
    for index in by_severity {
        let problem = problems[index];
        let of_file = files.entry(origin(problem)).or_default();
        let of_object = objects.entry(&problem.object).or_default();
        let much = problem.object.is_complete() && *of_object >= OF_OBJECT;
        if much || *of_file >= OF_FILE || told.len() >= IN_ALL {
            rest.push(problem);
            continue;
        }
        *of_file += 1;
        *of_object += 1;
        told.push(index);
    }
    told.sort_unstable();
    Lines { told: told.into_iter().map(|index| problems[index]).collect(), rest: sentence(&rest) }
}

/// The file a problem is in, else its kind.
fn origin(problem: &Problem) -> &str {
    problem.place.as_ref().map_or(problem.code, |place| &place.file)
}

fn sentence(rest: &[&Problem]) -> Option<String> {
    if rest.is_empty() {
        return None;
    }
    let errors = rest.iter().filter(|it| it.severity == Severity::Error).count();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for problem in rest {
        *counts.entry(origin(problem)).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut named: Vec<String> =
        counts.iter().take(NAMED).map(|(origin, count)| format!("{origin} ({count})")).collect();
    if counts.len() > NAMED {
        named.push("others".to_owned());
    }
    let noun = if rest.len() == 1 { "problem" } else { "problems" };
    Some(format!(
        "and {} more {noun}, {errors} of them errors, in {}; `sluice check` and the admin page /config_dump list them",
        rest.len(),
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use routing::problem::Place;

    use super::*;

    fn problem(severity: Severity, name: &str, file: Option<&str>, line: u32) -> Problem {
        Problem {
            code: "bad-value",
            severity,
            object: if name.is_empty() { ObjectRef::default() } else { ObjectRef::new("Gateway", "ns", name) },
            field: String::new(),
            place: file.map(|file| Place { file: file.into(), line, column: 1 }),
            message: line.to_string(),
        }
    }

    #[test]
    fn a_few_problems_are_told_each() {
        let all: Vec<Problem> = (0..5).map(|line| problem(Severity::Info, "a", Some("a.yaml"), line)).collect();
        let lines = lines(&all.iter().collect::<Vec<_>>());
        assert_eq!((lines.told.len(), lines.rest), (5, None));
    }

    #[test]
    fn one_object_and_one_file_leave_lines_to_the_others() {
        let many =
            |name: &'static str, file, count| (0..count).map(move |line| problem(Severity::Error, name, file, line));
        let mut all: Vec<Problem> = many("a", Some("a.yaml"), 5000).collect();
        all.extend(many("", Some("b.yaml"), 5000));
        all.extend(many("", None, 30));
        all.extend(many("z", Some("z.yaml"), 1));
        let lines = lines(&all.iter().collect::<Vec<_>>());
        let of = |origin: &str| lines.told.iter().filter(|it| super::origin(it) == origin).count();
        assert_eq!((of("a.yaml"), of("b.yaml"), of("bad-value"), of("z.yaml")), (OF_OBJECT, OF_FILE, OF_FILE, 1));
        assert_eq!(
            lines.rest.unwrap(),
            "and 9985 more problems, 9985 of them errors, in a.yaml (4995), b.yaml (4980), bad-value (10); `sluice check` and the \
             admin page /config_dump list them"
        );
    }

    #[test]
    fn warnings_take_no_line_away_from_errors() {
        let files: Vec<String> = (0..IN_ALL).map(|number| format!("{number}.yaml")).collect();
        let mut all: Vec<Problem> = files.iter().map(|file| problem(Severity::Warning, "", Some(file), 1)).collect();
        all.push(problem(Severity::Error, "late", Some("z.yaml"), 9));
        let lines = lines(&all.iter().collect::<Vec<_>>());
        assert_eq!(lines.told.len(), IN_ALL);
        assert_eq!(lines.told.last().map(|it| it.object.name.as_str()), Some("late"), "in the order of the files");
        assert!(lines.rest.unwrap().starts_with("and 1 more problem, 0 of them errors, in 199.yaml (1);"));
    }
}
