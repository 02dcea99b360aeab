//! `sluice inject`: what the webhook does, done to files.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use routing::{
    api::ProxyConfig,
    injection::{
        Settings,
        manifest::{Told, What, inject_file},
    },
    resources::{Resources, Table},
};

use crate::{
    cli::InjectFlags,
    settings::SourceSettings,
    source::{self, bounded},
};

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
    let mut texts = Vec::new();
    for path in &flags.files {
        texts.push((path.display().to_string(), read(path)?));
    }
    let settings = settings(flags)?.with_proxy_configs(proxy_configs(flags, &texts)?);
    let (mut all, mut told) = (String::new(), Vec::new());
    for (name, text) in &texts {
        let written = inject_file(text, &settings).map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
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

/// What is said of proxies, in the configuration and beside the pods.
fn proxy_configs(flags: &InjectFlags, texts: &[(String, String)]) -> Result<Table<ProxyConfig>> {
    let said = match flags.config.as_slice() {
        [] => Table::default(),
        paths => source::once(&SourceSettings::Files(paths.to_vec())).context("reading --config")?.0.proxy_configs,
    };
    // Manifests of an application may have placeholders and kinds that are not ours: what cannot be read is none.
    let beside = Resources::read(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))).0.proxy_configs;
    Ok(said.and(beside))
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
