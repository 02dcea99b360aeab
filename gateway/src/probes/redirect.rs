//! Where a redirect of the application leads.

use http::Uri;

/// What is to be asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The application, there.
    Here { tls: bool, port: u16, path: String },
    /// Somebody else, which is as good as an answer.
    Elsewhere,
}

/// Where `location` leads from what was asked; `hosts` are names of the application itself.
pub(super) fn follow(location: &str, (tls, port): (bool, u16), path: &str, hosts: &[&str]) -> Next {
    // What stands behind # is for whoever reads the page.
    let location = location.split('#').next().unwrap_or_default();
    if let Some(rest) = location.strip_prefix("//") {
        return follow(&format!("{}://{rest}", if tls { "https" } else { "http" }), (tls, port), path, hosts);
    }
    if location.starts_with('/') {
        return Next::Here { tls, port, path: location.to_owned() };
    }
    if !has_scheme(location) {
        let asked = path.split('?').next().unwrap_or_default();
        if location.is_empty() || location.starts_with('?') {
            return Next::Here { tls, port, path: format!("{asked}{location}") };
        }
        // Beside the last part of the path.
        let folder = asked.rsplit_once('/').map_or("", |(folder, _)| folder);
        return Next::Here { tls, port, path: format!("{folder}/{location}") };
    }
    let Ok(uri) = location.parse::<Uri>() else { return Next::Elsewhere };
    let Some(host) = uri.host() else { return Next::Elsewhere };
    if !hosts.iter().any(|own| own.eq_ignore_ascii_case(host.trim_matches(['[', ']']))) {
        return Next::Elsewhere;
    }
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Next::Elsewhere,
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    Next::Here { tls: secure, port, path: path.to_owned() }
}

/// Whether it begins with one, as in `https:`; a host alone, which [`Uri`] would read as well, is a path here.
fn has_scheme(location: &str) -> bool {
    location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}
