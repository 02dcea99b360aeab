//! `sluice check`: what the proxies would make of some YAML. It compiles the way they do, once for each proxy that the
//! files speak of, and prints every problem once.

pub(crate) mod proxies;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use routing::{
    compile::compile,
    problem::{Problem, Problems, Severity},
    resources::{Extent, Resources},
};

use crate::{
    cli::{CheckFlags, CheckOutput},
    source::{audit::Audit, files::FileSource},
};

/// What was found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// By file and line, each once.
    pub(crate) problems: Vec<Problem>,
    /// Objects in the files, broken ones included.
    pub(crate) objects: usize,
}

/// Checks and prints. Exit code 1 when there is an error, 2 when the paths cannot be read, else 0.
pub(crate) fn run(flags: &CheckFlags) -> ExitCode {
    let extent = if flags.complete { Extent::Whole } else { Extent::Part };
    let findings = match check(flags.paths.clone(), extent) {
        Ok(findings) => findings,
        Err(sentence) => {
            eprintln!("sluice: {sentence} (try `sluice help check`)");
            return ExitCode::from(2);
        }
    };
    let out = io::stdout().lock();
    // A reader that went away (`| head`) has seen enough.
    let _ = match flags.output {
        CheckOutput::Text => text(out, &findings, &flags.paths),
        CheckOutput::Json => json(out, &findings),
    };
    ExitCode::from(u8::from(count(&findings.problems, Severity::Error) > 0))
}

/// Reads the files and compiles them for every proxy they speak of.
///
/// # Errors
/// A sentence: a path cannot be reached.
pub(crate) fn check(paths: Vec<PathBuf>, extent: Extent) -> Result<Findings, String> {
    let mut source = FileSource::once(paths).map_err(|error| error.to_string())?;
    let (resources, found) = source.load();
    let problems = findings(&resources.with_extent(extent), found);
    Ok(Findings { problems, objects: source.objects() })
}

/// Compiles resources for every proxy they speak of; `found` is what was found when they were read.
pub(crate) fn findings(resources: &Resources, found: Vec<Problem>) -> Vec<Problem> {
    let mut problems = Problems::from(found);
    problems.extend(Audit::default().run(resources, now()));
    for candidate in proxies::of(resources) {
        let compiled = compile(resources, &candidate.proxy);
        problems.extend(compiled.problems.into_iter().filter(|it| candidate.is_about_files(it)));
    }
    problems.into_sorted()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn count(problems: &[Problem], severity: Severity) -> usize {
    problems.iter().filter(|it| it.severity == severity).count()
}

fn json(mut out: impl Write, findings: &Findings) -> io::Result<()> {
    for problem in &findings.problems {
        serde_json::to_writer(&mut out, problem)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn text(mut out: impl Write, findings: &Findings, paths: &[PathBuf]) -> io::Result<()> {
    for problem in &findings.problems {
        writeln!(out, "{problem}")?;
    }
    let (errors, warnings) = (count(&findings.problems, Severity::Error), count(&findings.problems, Severity::Warning));
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let summary = format!(
        "{}, {} in {}",
        counted(errors, "error"),
        counted(warnings, "warning"),
        counted(findings.objects, "object")
    );
    let flags: String = paths.iter().map(|path| format!(" --config {}", path.display())).collect();
    let next = match (errors, warnings) {
        _ if findings.objects == 0 => {
            "There is nothing to serve: name files or folders with .yaml, .yml or .json.".to_owned()
        }
        (0, 0) => format!("Serve it: sluice gateway{flags}"),
        (0, _) => format!("It can be served, perhaps not as meant: sluice gateway{flags}"),
        _ => "Correct the errors: what they name will not work, everything else will.".to_owned(),
    };
    writeln!(out, "{summary}\n{next}")?;
    out.flush()
}
