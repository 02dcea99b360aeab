//! Names, hosts, labels and header names.

use super::punycode::ascii_host;

/// Lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit (RFC 1123).
pub(super) fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Kubernetes' rule for most names (RFC 1123 subdomain).
pub(crate) fn is_object_name(name: &str) -> bool {
    let part = |part: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = part.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// Labels in any case joined by dots, at most 253 letters, perhaps with a dot at the end.
pub(crate) fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    // Istio's labels may hold `_`, which real host names outside DNS do.
    let label = |label: &str| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
    };
    !text.is_empty() && text.len() <= 253 && text.split('.').all(label)
}

/// Letters in any case, digits and `-`, at most 63: what Istio takes for the name of a subset or a port.
pub(super) fn is_istio_label(text: &str) -> bool {
    is_dns_label(&text.to_ascii_lowercase())
}

/// Says what is wrong with a host that may be `*`, `*.suffix` or, as Istio has it, `*suffix` and `*-suffix`; `None` when it
/// is right. IP addresses are fine.
pub(super) fn wildcard_host_fault(host: &str) -> Option<String> {
    if host == "*" || host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    if host.is_empty() {
        return Some("the host is empty; a DNS name, `*.suffix` or `*` is wanted".to_owned());
    }
    let rest = host.strip_prefix('*').unwrap_or(host);
    if rest.contains('*') {
        return Some(format!("`{host}` has `*` further on; it may only be the beginning, as in `*.example.com`"));
    }
    if host.contains("://") || host.contains('/') {
        return Some(format!("`{host}` is a URL or a path; write the host name alone, as `example.com`"));
    }
    if let Some((name, port)) = host.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Some(format!("`{host}` has a port; hosts match on any port, write `{name}`"));
    }
    if let Some(ascii) = ascii_host(host).filter(|_| !host.is_ascii()) {
        return Some(format!("`{host}` is not in the letters of DNS, which clients send; write it as `{ascii}`"));
    }
    let suffix = if rest.len() < host.len() { rest.trim_start_matches(['.', '-']) } else { host };
    // One dot or dash may stand between the `*` and a name.
    if rest.len() > suffix.len() + 1 || !is_host_name(suffix) {
        return Some(format!("`{host}` is not a DNS name; letters, digits, `-` and dots are wanted"));
    }
    let last = suffix.strip_suffix('.').unwrap_or(suffix).rsplit_once('.').map(|(_, last)| last);
    last.filter(|last| last.bytes().all(|b| b.is_ascii_digit()))
        .map(|_| format!("`{host}` is neither an IP address nor a DNS name, whose last part is never a number"))
}

/// Says what is wrong with a host without wildcard.
pub(super) fn plain_host_fault(host: &str) -> Option<String> {
    if host.contains('*') {
        return Some(format!("`{host}` is a wildcard; the full name of one service is wanted"));
    }
    wildcard_host_fault(host)
}

/// Whether a wildcard takes a part of the first label only.
pub(super) fn is_partial_wildcard(host: &str) -> bool {
    host.starts_with('*') && host != "*" && !host.starts_with("*.")
}

/// Says what is wrong with the address of a unix socket, which begins with `unix://`.
pub(super) fn unix_fault(address: &str) -> Option<String> {
    let path = address.strip_prefix("unix://").unwrap_or_default();
    if path.len() > 107 {
        return Some(format!("`{address}` is too long for a unix socket; its path has 107 bytes at most"));
    }
    let good = (path.starts_with('/') && !path.ends_with('/')) || (path.starts_with('@') && path.len() > 1);
    (!good).then(|| {
        format!("`{address}` is not a unix socket; write its whole path, as `unix:///run/app.sock`, or `unix://@name`")
    })
}

/// Says what is wrong with a header name (RFC 9110 token, or a pseudo-header).
pub(super) fn header_name_fault(name: &str) -> Option<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let bare = name.strip_prefix(':').unwrap_or(name);
    if bare.is_empty() {
        return Some("the header name is empty; write one as `x-version`".to_owned());
    }
    (!bare.bytes().all(token))
        .then(|| format!("`{name}` is not a header name; letters, digits and `-` are wanted, without spaces or colon"))
}

/// Says what is wrong with labels of a workload: DNS-like keys with an optional prefix, short values.
pub(super) fn label_fault(key: &str, value: &str) -> Option<String> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let part = |text: &str| {
        let bytes = text.as_bytes();
        bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    if !part(name) {
        return Some(format!("`{key}` is not a label name; letters, digits, `-`, `_` and `.` are wanted, at most 63"));
    }
    if value.contains('*') {
        return Some(format!("`{value}` has a wildcard; label values are compared as they are, write the whole value"));
    }
    (!value.is_empty() && !part(value))
        .then(|| format!("`{value}` is not a label value; letters, digits, `-`, `_` and `.` are wanted, at most 63"))
}

/// Says what is wrong with `exportTo` of an object of a namespace.
pub(super) fn export_to(findings: &mut super::Findings, namespaces: &[String], own: &str, none_allowed: bool) {
    export_list(findings, "exportTo", (namespaces, own), none_allowed);
}

/// As [`export_to`], for a list of another name.
pub(super) fn export_list(
    findings: &mut super::Findings,
    field: &'static str,
    (namespaces, own): (&[String], &str),
    none_allowed: bool,
) {
    let mut seen = std::collections::BTreeSet::new();
    findings.each(field, namespaces, |findings, _, namespace| {
        let special = matches!(namespace.as_str(), "." | "*") || (none_allowed && namespace == "~");
        if !special && !is_dns_label(namespace) {
            findings.error(super::BAD_VALUE, format!("`{namespace}` is not a namespace; `.`, `*` or a name is wanted"));
        }
        let meant = if namespace == "." { own } else { namespace.as_str() };
        if !seen.insert(meant) {
            findings.error(super::BAD_VALUE, format!("`{namespace}` is listed twice (`.` is `{own}`); keep one"));
        }
    });
    if namespaces.len() > 1 && namespaces.iter().any(|namespace| namespace == "*" || namespace == "~") {
        findings.error_at(field, super::CONFLICT, "`*` and `~` stand alone; remove the other entries");
    }
}

/// Says what is wrong with an address that must be an IP or a CIDR block.
pub(super) fn subnet_fault(text: &str) -> Option<String> {
    let good = text.parse::<std::net::IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok();
    (!good).then(|| format!("`{text}` is neither an IP address nor a CIDR block as `10.0.0.0/8`"))
}

/// Checks a label selector field; wildcards and empty names are errors.
pub(super) fn labels(
    findings: &mut super::Findings,
    field: &'static str,
    labels: &std::collections::BTreeMap<String, String>,
) {
    findings.each_key(field, labels, |findings, key, value| {
        if let Some(fault) = label_fault(key, value) {
            findings.error(super::BAD_VALUE, fault);
        }
    });
}

/// Checks a selector. As Istio does, wildcards and empty names are refused; what no label can be only selects nobody.
pub(super) fn selector(
    findings: &mut super::Findings,
    field: &'static str,
    labels: &std::collections::BTreeMap<String, String>,
) {
    findings.each_key(field, labels, |findings, key, value| {
        let Some(fault) = label_fault(key, value) else { return };
        if key.is_empty() || key.contains('*') || value.contains('*') {
            findings.error(super::BAD_VALUE, fault);
        } else {
            findings.warn(super::BAD_VALUE, format!("{fault}; as it is nothing is selected"));
        }
    });
}
