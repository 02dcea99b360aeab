//! Parts of the proxy whose level can be set by a short name, as Envoy's loggers can.

use std::collections::BTreeMap;

/// Name and module. A module within another one's overrides it.
const COMPONENTS: [(&str, &str); 18] = [
    ("acme", "gateway::acme"),
    ("admin", "gateway::admin"),
    ("authorization", "gateway::telemetry::verdicts"),
    ("ca", "gateway::control_plane::ca"),
    ("config", "gateway::source"),
    ("connection", "gateway::net"),
    ("control", "gateway::control"),
    ("ext_authz", "gateway::http::external"),
    ("grpc", "gateway::grpc"),
    ("http", "gateway::http"),
    ("http2", "gateway::http::h2"),
    ("identity", "gateway::identity"),
    ("jwt", "gateway::keys"),
    ("kubernetes", "gateway::kubernetes"),
    ("rate_limit", "gateway::http::limit"),
    ("tcp", "gateway::opaque"),
    ("tls", "tls"),
    ("upstream", "gateway::upstream"),
];

/// Levels that a component can have.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

/// Names of all components.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMPONENTS.iter().map(|(name, _)| *name)
}

/// A component and its level, as they were asked for.
///
/// # Errors
/// A sentence that says which there are.
pub(super) fn checked(name: &str, level: &str) -> Result<(&'static str, String), String> {
    let known = names().find(|known| *known == name).ok_or_else(|| {
        let all: Vec<&str> = names().collect();
        format!("there is no component `{name}`; there are {}", all.join(", "))
    })?;
    let level = match level.to_ascii_lowercase() {
        // As Envoy names it.
        level if level == "warning" => "warn".to_owned(),
        level => level,
    };
    match LEVELS.contains(&level.as_str()) {
        true => Ok((known, level)),
        false => Err(format!("`{level}` is no level; write one of {}", LEVELS.join(", "))),
    }
}

/// The filter of a level for everything and of some components' own.
pub(super) fn filter(base: &str, own: &BTreeMap<&'static str, String>) -> String {
    let mut filter = base.to_owned();
    for (name, level) in own {
        if let Some((_, module)) = COMPONENTS.iter().find(|(known, _)| known == name) {
            filter.push_str(&format!(",{module}={level}"));
        }
    }
    filter
}

/// The program's name stands for the crate that it is made of.
pub(super) fn inwards(text: &str) -> String {
    renamed(text, "sluice", "gateway")
}

/// The other way round.
pub(super) fn outwards(text: &str) -> String {
    renamed(text, "gateway", "sluice")
}

fn renamed(text: &str, from: &str, to: &str) -> String {
    let one = |directive: &str| match directive.trim().strip_prefix(from) {
        Some(rest) if rest.is_empty() || rest.starts_with([':', '=', '[']) => format!("{to}{rest}"),
        _ => directive.trim().to_owned(),
    };
    text.split(',').map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_stands_for_its_crate() {
        assert_eq!(inwards("info,sluice::net=debug, sluice=warn"), "info,gateway::net=debug,gateway=warn");
        assert_eq!(outwards("gateway::net=debug,info"), "sluice::net=debug,info");
        assert_eq!(inwards("sluices=info"), "sluices=info");
    }

    #[test]
    fn what_is_no_component_or_level_is_said() {
        assert_eq!(checked("http", "Warning"), Ok(("http", "warn".to_owned())));
        assert!(checked("nothing", "info").unwrap_err().contains("there are acme, admin"));
        assert!(checked("http", "loud").unwrap_err().contains("`loud` is no level; write one of trace"));
    }

    #[test]
    fn every_component_is_a_module_of_ours() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for (name, module) in COMPONENTS {
            let Some(path) = module.strip_prefix("gateway::") else { continue };
            let path = source.join(path.replace("::", "/"));
            assert!(path.is_dir() || path.with_extension("rs").is_file(), "{name}: {module}");
        }
        assert_eq!(filter("info", &BTreeMap::from([("http", "debug".to_owned())])), "info,gateway::http=debug");
    }
}
