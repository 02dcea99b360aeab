//! The log for operators, on stderr: what happened to the process, its configuration and its connections. Stdout belongs
//! to the access log alone.

pub(crate) mod components;

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

/// Changes the level while the process runs (`POST /logging?level=debug`).
#[derive(Clone, Debug)]
pub(crate) struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
    chosen: Arc<Mutex<Chosen>>,
}

/// What was asked for.
#[derive(Clone, Debug)]
struct Chosen {
    /// For everything.
    base: String,
    /// For some components.
    own: BTreeMap<&'static str, String>,
}

/// Starts logging. The filter comes from `SLUICE_LOG`, else `RUST_LOG`, else it is `info`.
///
/// # Errors
/// A sentence: the filter cannot be read, or logging was started before.
pub(crate) fn start() -> Result<LogLevel, String> {
    let (variable, text) = ["SLUICE_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|variable| Some((variable, std::env::var(variable).ok().filter(|text| !text.trim().is_empty())?)))
        .unwrap_or(("SLUICE_LOG", "info".to_owned()));
    let (layer, filter) = reload::Layer::new(parse(&text).map_err(|error| format!("{variable}: {error}"))?);
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .try_init()
        .map_err(|error| format!("logging cannot start: {error}"))?;
    Ok(LogLevel { filter, chosen: Arc::new(Mutex::new(Chosen { base: text, own: BTreeMap::new() })) })
}

impl LogLevel {
    /// Takes a level (`debug`) or a filter (`info,sluice::net=trace`), for everything.
    ///
    /// # Errors
    /// A sentence that says what a filter looks like.
    pub(crate) fn set(&self, text: &str) -> Result<(), String> {
        self.change(Chosen { base: text.to_owned(), own: BTreeMap::new() })
    }

    /// Sets the levels of components; everything else stays. All of them, or none.
    ///
    /// # Errors
    /// A sentence that says which components and levels there are.
    pub(crate) fn set_components(&self, wanted: &[(&str, &str)]) -> Result<(), String> {
        let mut chosen = self.chosen();
        for (name, level) in wanted {
            let (name, level) = components::checked(name.trim(), level.trim())?;
            chosen.own.insert(name, level);
        }
        self.change(chosen)
    }

    fn chosen(&self) -> Chosen {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, chosen: Chosen) -> Result<(), String> {
        let filter = parse(&components::filter(&chosen.base, &chosen.own))?;
        self.filter.reload(filter).map_err(|error| error.to_string())?;
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = chosen;
        // Libraries that use `log` ask this before they format anything; it was set from the first filter.
        let widest = self.filter.with_current(tracing_subscriber::Layer::<Registry>::max_level_hint).ok().flatten();
        tracing_log::log::set_max_level(tracing_log::AsLog::as_log(
            &widest.unwrap_or(tracing::level_filters::LevelFilter::TRACE),
        ));
        Ok(())
    }

    /// The filter as it is now.
    pub(crate) fn current(&self) -> String {
        components::outwards(&self.filter.with_current(ToString::to_string).unwrap_or_default())
    }

    /// The level of every component: its own, else that of everything.
    pub(crate) fn levels(&self) -> BTreeMap<&'static str, String> {
        let chosen = self.chosen();
        let of = |name| chosen.own.get(name).unwrap_or(&chosen.base).clone();
        components::names().map(|name| (name, of(name))).collect()
    }
}

fn parse(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(components::inwards(text)).map_err(|_| {
        format!("`{text}` is no log filter; write error, warn, info, debug or trace, or a list such as info,sluice::net=debug")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_says_what_is_right() {
        assert!(parse("sluice=loud").unwrap_err().contains("write error, warn"));
    }
}
