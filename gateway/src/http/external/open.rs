//! A request that goes on although nobody has given a verdict (`failOpen`): what applications believe of a provider is not said
//! by its client instead.

use http::HeaderName;
use routing::external::{Form, Provider};

use super::verdict::Grant;
use crate::http::{head::Head, name::Name};

/// What becomes of the request. `meant`: fields that a yes was about which could not be used.
///
/// Of `headersToUpstreamOnAllow` those names stay that clients and proxies have words of their own for: what a client proves
/// itself with, as `authorization` and `cookie`, an application checks by itself.
pub(super) fn grant(provider: &Provider, request: &Head, meant: Vec<HeaderName>) -> Grant {
    let mut remove = meant;
    if let Form::Http(form) = &provider.form {
        let names = request.fields().filter(|(_, name, _)| {
            // Many an application takes `_` for `-`.
            let dashed: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
            Name::of(&dashed) == Name::Other && form.to_upstream.has(&dashed)
        });
        remove.extend(names.filter_map(|(_, name, _)| HeaderName::from_bytes(name).ok()));
    }
    Grant { remove, ..Grant::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use routing::external::{HttpForm, Names};

    use super::*;

    fn provider(form: Form) -> Provider {
        Provider {
            name: "p".into(),
            cluster: routing::upstream::ClusterId(0),
            form,
            timeout: Duration::from_secs(1),
            fail_open: true,
            status_on_error: 403,
            body: None,
            reroutes: false,
        }
    }

    #[test]
    fn a_client_says_nothing_in_the_place_of_a_provider() {
        let mut head = Head::default();
        for name in ["x-auth-user", "X_Auth_Role", "x-other", "authorization", "cookie", "x-forwarded-for", "x-meant"] {
            head.push(name.as_bytes(), b"root");
        }
        let left = |form, meant: &[&'static str]| {
            let mut head = head.clone();
            let meant = meant.iter().map(|name| HeaderName::from_static(name)).collect();
            grant(&provider(form), &head, meant).apply(&mut head);
            let names = head.fields().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned());
            names.collect::<Vec<_>>()
        };
        let to_upstream = Names::new(["x-auth-*", "authorization", "cookie", "x-forwarded-*"]);
        let http = || Form::Http(Box::new(HttpForm { to_upstream: to_upstream.clone(), ..HttpForm::default() }));
        assert_eq!(left(http(), &[]), ["x-other", "authorization", "cookie", "x-forwarded-for", "x-meant"]);
        assert_eq!(left(http(), &["x-meant", "authorization"]), ["x-other", "cookie", "x-forwarded-for"]);
        assert_eq!(left(Form::Grpc, &["x-meant"]).len(), 6);
    }
}
