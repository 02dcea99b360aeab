//! How single values of annotations are written.

use ipnet::IpNet;

use crate::injection::Refusal;

/// Go's booleans, as far as YAML writers use them.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Some(true),
        "false" | "0" | "f" => Some(false),
        _ => None,
    }
}

/// A list of ports, `*` for all, or nothing.
pub(super) fn ports(text: &str) -> Result<(), String> {
    if text == "*" { Ok(()) } else { excluded_ports(text) }
}

/// A list of ports, or nothing.
pub(super) fn excluded_ports(text: &str) -> Result<(), String> {
    let wrong = list(text).find(|port| !port.parse::<u16>().is_ok_and(|port| port > 0));
    wrong.map_or(Ok(()), |port| Err(format!("`{port}` is not a port; write numbers with commas between, as in 80,443")))
}

/// A list of networks, `*` for all, or nothing.
pub(super) fn ranges(text: &str) -> Result<(), String> {
    if text == "*" { Ok(()) } else { excluded_ranges(text) }
}

/// A list of networks, or nothing.
pub(super) fn excluded_ranges(text: &str) -> Result<(), String> {
    let wrong = list(text).find(|range| range.parse::<IpNet>().is_err());
    let right = "write networks with commas between, as in 10.0.0.0/8,fd00::/8";
    wrong.map_or(Ok(()), |range| Err(format!("`{range}` is not a network; {right}")))
}

/// Names of interfaces as the kernel takes them, `+` at the end for any rest; or nothing.
pub(super) fn interfaces(text: &str) -> Result<(), String> {
    let allowed = |it: char| it.is_ascii_alphanumeric() || "._-@:".contains(it);
    let is_name = |name: &str| {
        let stem = name.strip_suffix('+').unwrap_or(name);
        name.len() <= 15 && !stem.is_empty() && stem.chars().all(allowed)
    };
    let right = "write names of interfaces with commas between, as in eth1,net+, of at most 15 letters each";
    list(text).find(|name| !is_name(name)).map_or(Ok(()), |name| Err(format!("`{name}` is not an interface; {right}")))
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty())
}

/// An amount of Kubernetes: a number with an optional unit.
pub(super) fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit() || it == '.');
    let number = &text[..text.len() - unit.len()];
    let exponent = || unit.strip_prefix(['e', 'E']).is_some_and(|it| it.parse::<i32>().is_ok());
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].contains(&unit)
        || exponent();
    known && number.parse::<f64>().is_ok()
}

/// Envoy's names of levels as those of `SLUICE_LOG`; a list of levels by module as it is.
pub(super) fn log_level(text: &str) -> Result<String, Refusal> {
    let level = match text.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warning" | "warn" => "warn",
        "error" | "critical" => "error",
        "off" => "off",
        _ => {
            return Err(Refusal(format!(
                "annotation sidecar.istio.io/logLevel cannot be `{text}`: it is one of trace, debug, info, warning, error, critical, off"
            )));
        }
    };
    Ok(level.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_those_of_kubernetes() {
        for right in ["100m", "1", "0.5", "128Mi", "1Gi", "2e3", "1E3"] {
            assert!(is_quantity(right), "{right}");
        }
        for wrong in ["", "m", "one", "1MiB", "-1", "1 Gi"] {
            assert!(!is_quantity(wrong), "{wrong}");
        }
    }

    #[test]
    fn lists_name_what_is_wrong_with_them() {
        assert_eq!(ports("*"), Ok(()));
        assert_eq!(ports(" 80, 443 "), Ok(()));
        assert!(excluded_ports("*").is_err());
        assert!(excluded_ports("80,0").unwrap_err().starts_with("`0` is not a port"));
        assert_eq!(ranges("10.0.0.0/8,fd00::/8"), Ok(()));
        assert_eq!((interfaces("eth1, net+"), interfaces("")), (Ok(()), Ok(())));
        for wrong in ["+", "a-name-of-16-lett", "eth/1", "eth0;x"] {
            assert!(interfaces(wrong).is_err(), "{wrong}");
        }
        assert!(ranges("10.0.0.0").unwrap_err().starts_with("`10.0.0.0` is not a network"));
    }
}
