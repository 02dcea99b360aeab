//! Rules for extension providers, as far as one of them says something wrong by itself.

mod telemetry;

use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD, NO_EFFECT, names};
use crate::{
    api::extension_provider::{ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, RequestBody},
    external::MOST_BODY,
};

/// All of them: names are unique.
pub(super) fn check_all(findings: &mut Findings, all: &[ExtensionProvider]) {
    findings.each("extensionProviders", all, |findings, index, one| {
        if one.name.is_empty() {
            findings.error_at("name", MISSING_FIELD, "a name is wanted here, by which policies name the provider");
        } else if all[..index].iter().any(|other| other.name == one.name) {
            findings.error_at("name", CONFLICT, format!("another provider is named `{}`, too", one.name));
        }
        one.check(findings);
    });
}

impl ExtensionProvider {
    fn check(&self, findings: &mut Findings) {
        match self.kinds() {
            0 => findings.error(
                MISSING_FIELD,
                "no kind of provider; give one, as envoyExtAuthzGrpc or opentelemetry, with service and port",
            ),
            1 => {}
            _ => findings.error(CONFLICT, "a provider has one kind; write several providers"),
        }
        for kind in self.unused() {
            findings.warn(NO_EFFECT, format!("nothing is given to a provider of the kind `{kind}`: {}", instead(kind)));
        }
        if let Some(spans) = &self.opentelemetry {
            findings.within("opentelemetry", |findings| spans.check(findings));
        }
        if let Some(spans) = &self.zipkin {
            findings.within("zipkin", |findings| spans.check(findings));
        }
        if let Some(log) = &self.envoy_file_access_log {
            findings.within("envoyFileAccessLog", |findings| log.check(findings));
        }
        if let Some(log) = &self.envoy_otel_als {
            findings.within("envoyOtelAls", |findings| log.check(findings));
        }
        if let Some(http) = &self.envoy_ext_authz_http {
            findings.within("envoyExtAuthzHttp", |findings| http.check(findings));
        }
        if let Some(grpc) = &self.envoy_ext_authz_grpc {
            findings.within("envoyExtAuthzGrpc", |findings| grpc.check(findings));
        }
    }
}

/// What to give instead of a kind that is not served.
fn instead(kind: &str) -> &'static str {
    match kind {
        "envoyHttpAls" | "envoyTcpAls" => "access logs go out by OTLP, to a provider of the kind envoyOtelAls",
        "sds" => "certificates come from Secrets, and from the workload's own CA",
        _ => "spans go out by OTLP, which collectors of every kind take, to a provider of the kind opentelemetry",
    }
}

impl ExtAuthzHttp {
    fn check(&self, findings: &mut Findings) {
        service(findings, &self.service, self.port);
        findings.positive("timeout", self.timeout, "leave it out for the default of 600s");
        status(findings, self.status_on_error.as_deref());
        body(findings, self.include_request_body_in_check.as_ref());
        if let Some(prefix) = &self.path_prefix {
            let good = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
            if !prefix.starts_with('/') || !good {
                let message =
                    format!("`{prefix}` is no beginning of a path; `/` and letters that paths have are wanted");
                findings.error_at("pathPrefix", BAD_VALUE, message);
            }
        }
        if !self.include_headers_in_check.is_empty() {
            let message = if self.include_request_headers_in_check.is_empty() {
                "the newer name is includeRequestHeadersInCheck"
            } else {
                "includeRequestHeadersInCheck says it anew, and this is passed over"
            };
            findings.warn_at("includeHeadersInCheck", DEPRECATED_FIELD, message);
        }
        for (field, list) in [
            ("includeHeadersInCheck", &self.include_headers_in_check),
            ("includeRequestHeadersInCheck", &self.include_request_headers_in_check),
            ("headersToUpstreamOnAllow", &self.headers_to_upstream_on_allow),
            ("headersToDownstreamOnDeny", &self.headers_to_downstream_on_deny),
            ("headersToDownstreamOnAllow", &self.headers_to_downstream_on_allow),
        ] {
            findings.each(field, list, |findings, _, name| {
                if let Some(fault) = name_fault(name) {
                    findings.error(BAD_VALUE, fault);
                }
            });
        }
        findings.each_key(
            "includeAdditionalHeadersInCheck",
            &self.include_additional_headers_in_check,
            |it, name, value| {
                if let Some(fault) = names::header_name_fault(name) {
                    it.error(BAD_VALUE, fault);
                } else if http::HeaderValue::from_str(value).is_err() {
                    it.error(BAD_VALUE, format!("`{value}` is no value of a header"));
                }
            },
        );
    }
}

impl ExtAuthzGrpc {
    fn check(&self, findings: &mut Findings) {
        service(findings, &self.service, self.port);
        findings.positive("timeout", self.timeout, "leave it out for the default of 600s");
        status(findings, self.status_on_error.as_deref());
        body(findings, self.include_request_body_in_check.as_ref());
    }
}

fn service(findings: &mut Findings, service: &str, port: u32) {
    let (namespace, host) = service.split_once('/').unwrap_or(("default", service));
    if service.is_empty() {
        let message = "the service is missing; write its host, or its namespace, `/` and its host";
        findings.error_at("service", MISSING_FIELD, message);
    } else if !names::is_dns_label(namespace) || host.is_empty() || host.contains(['/', '*']) {
        let message = format!("`{service}` is no service; `auth.shop.svc.cluster.local` or `shop/auth...` is wanted");
        findings.error_at("service", BAD_VALUE, message);
    }
    if !(1..=65535).contains(&port) {
        findings.error_at("port", BAD_VALUE, format!("{port} is no port; one of the service's is wanted, 1 to 65535"));
    }
}

fn status(findings: &mut Findings, status: Option<&str>) {
    let Some(text) = status else { return };
    if !text.parse().is_ok_and(|status: u16| (200..=599).contains(&status)) {
        findings.error_at("statusOnError", BAD_VALUE, format!("`{text}` is no status; one as \"503\" is wanted"));
    }
}

fn body(findings: &mut Findings, body: Option<&RequestBody>) {
    let Some(body) = body else { return };
    findings.within("includeRequestBodyInCheck", |findings| match body.max_request_bytes {
        0 => findings.error_at("maxRequestBytes", MISSING_FIELD, "how many bytes of a body are shown? more than 0"),
        size if size > MOST_BODY => {
            let message = format!("{size} is more than is held of a body; {MOST_BODY} bytes are shown");
            findings.warn_at("maxRequestBytes", BAD_VALUE, message);
        }
        _ => {}
    });
}

/// A name, `prefix*` or `*suffix`.
fn name_fault(name: &str) -> Option<String> {
    let bare = name.strip_prefix('*').or_else(|| name.strip_suffix('*')).unwrap_or(name);
    if bare.is_empty() && !name.is_empty() {
        return Some("`*` alone would be every header, which Istio refuses; name them, or write `x-auth-*`".to_owned());
    }
    names::header_name_fault(bare)
}
