//! `sluice inject`: what the webhook does, done to files.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use routing::injection::{
    Settings,
    manifest::{Told, What, inject_file},
};

use crate::{cli::InjectFlags, source::bounded};

/// Largest file that is read.
const LARGEST: u64 = 64 << 20;

/// Injects and writes. Exit code 1 when a pod asks for what cannot be had (nothing is written then), 2 when a file cannot be
/// understood, else 0.
///
/// # Errors
/// The result cannot be written.
pub(crate) fn run(flags: &InjectFlags) -> Result<ExitCode> {
    let (text, told) = match inject(flags) {
        Ok(done) => done,
        Err(error) => {
            eprintln!("sluice: {error:#} (try `sluice help inject`)");
            return Ok(ExitCode::from(2));
        }
    };
    let mut refused = false;
    for Told { object, what, warnings } in &told {
        match what {
            What::Injected => {}
            What::Skipped(why) => eprintln!("{object}: no sidecar: {why}"),
            What::Refused(why) => {
                eprintln!("{object}: error: {why}");
                refused = true;
            }
        }
        warnings.iter().for_each(|warning| eprintln!("{object}: warning: {warning}"));
    }
    if refused {
        return Ok(ExitCode::FAILURE);
    }
    match &flags.output {
        Some(path) => fs::write(path, text).with_context(|| format!("writing {}", path.display()))?,
        // A reader that went away (`| head`) has seen enough.
        None => drop(io::stdout().lock().write_all(text.as_bytes())),
    }
    Ok(ExitCode::SUCCESS)
}

fn inject(flags: &InjectFlags) -> Result<(String, Vec<Told>)> {
    let settings = settings(flags)?;
    let (mut all, mut told) = (String::new(), Vec::new());
    for path in &flags.files {
        let name = path.display();
        let written = inject_file(&read(path)?, &settings).map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
        if !all.is_empty() {
            if !all.ends_with('\n') {
                all.push('\n');
            }
            all.push_str("---\n");
        }
        all.push_str(&written.text);
        told.extend(written.told);
    }
    Ok((all, told))
}

fn settings(flags: &InjectFlags) -> Result<Settings> {
    let text = |path: Option<&Path>| path.map(read).transpose().map(Option::unwrap_or_default);
    let (values, mesh) = (text(flags.values.as_deref())?, text(flags.mesh_config.as_deref())?);
    let (mut settings, unknown) = Settings::read(&values, &mesh).context("reading the settings")?;
    unknown.iter().for_each(|sentence| eprintln!("warning: {sentence}"));
    if let Some(revision) = &flags.revision {
        settings.revision.clone_from(revision);
    }
    Ok(settings)
}

fn read(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().lock().take(LARGEST).read_to_string(&mut text).context("reading stdin")?;
        return Ok(text);
    }
    let bytes = bounded::read(path, LARGEST).with_context(|| format!("reading {}", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))
}
