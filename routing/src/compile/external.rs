//! Extension providers that authorize, to what is asked of whom.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{
    clusters::Carries,
    context::Context,
    destinations::{self, Lookup, Missing},
    report::UNKNOWN_HOST,
};
use crate::{
    api::{
        ProtoDuration,
        extension_provider::{ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, RequestBody},
    },
    external::{Body, External, FORBIDDEN, Form, HttpForm, MOST_BODY, Names, Provider},
    host::strip_port,
    mesh,
    upstream::ClusterId,
};

/// Istio's, where a provider does not say.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What the providers that policies name are; `None`: policies name nobody. One that the mesh does not have is no provider.
pub(super) fn compile(context: &Context<'_>, named: &BTreeSet<&Arc<str>>) -> Option<External> {
    if named.is_empty() {
        return None;
    }
    let all = context.proxy.mesh.config.extension_providers.iter().enumerate();
    let providers = all.filter(|(_, one)| named.iter().any(|name| ***name == *one.name)).filter_map(|(index, one)| {
        let provider = provider(context, one, index)?;
        Some((Arc::clone(&provider.name), provider))
    });
    Some(External { providers: providers.collect() })
}

/// Whether the mesh configuration has a provider of this name that authorizes.
pub(super) fn is_defined(context: &Context<'_>, name: &str) -> bool {
    let all = &context.proxy.mesh.config.extension_providers;
    all.iter().any(|one| one.name == name && one.authorizes())
}

/// `None`: it has no service that could be asked.
fn provider(context: &Context<'_>, one: &ExtensionProvider, index: usize) -> Option<Provider> {
    match (&one.envoy_ext_authz_grpc, &one.envoy_ext_authz_http) {
        (Some(grpc), _) => of_grpc(context, (&one.name, index), grpc),
        (None, Some(http)) => of_http(context, (&one.name, index), http),
        (None, None) => None,
    }
}

fn of_grpc(context: &Context<'_>, (name, index): (&str, usize), grpc: &ExtAuthzGrpc) -> Option<Provider> {
    let field = format!("extensionProviders[{index}].envoyExtAuthzGrpc");
    let cluster = service(context, (&grpc.service, grpc.port), &field, &lost(name))?;
    Some(Provider {
        name: name.into(),
        cluster,
        form: Form::Grpc,
        timeout: timeout(grpc.timeout),
        fail_open: grpc.fail_open,
        status_on_error: status(grpc.status_on_error.as_deref()),
        body: grpc.include_request_body_in_check.map(body),
        reroutes: grpc.clear_route_cache,
    })
}

fn of_http(context: &Context<'_>, (name, index): (&str, usize), http: &ExtAuthzHttp) -> Option<Provider> {
    let field = format!("extensionProviders[{index}].envoyExtAuthzHttp");
    let cluster = service(context, (&http.service, http.port), &field, &lost(name))?;
    let names = |list: &[String]| Names::new(list.iter().map(String::as_str));
    let shown = match http.include_request_headers_in_check.as_slice() {
        [] => &http.include_headers_in_check,
        _ => &http.include_request_headers_in_check,
    };
    let said = http.include_additional_headers_in_check.iter().filter_map(|(name, value)| {
        Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?))
    });
    let form = HttpForm {
        path_prefix: http.path_prefix.clone().unwrap_or_default().into(),
        shown: names(shown),
        said: said.collect(),
        to_upstream: names(&http.headers_to_upstream_on_allow),
        to_client_on_deny: names(&http.headers_to_downstream_on_deny),
        to_client_on_allow: names(&http.headers_to_downstream_on_allow),
    };
    Some(Provider {
        name: name.into(),
        cluster,
        form: Form::Http(Box::new(form)),
        timeout: timeout(http.timeout),
        fail_open: http.fail_open,
        status_on_error: status(http.status_on_error.as_deref()),
        body: http.include_request_body_in_check.map(body),
        reroutes: http.clear_route_cache,
    })
}

fn timeout(timeout: Option<ProtoDuration>) -> Duration {
    timeout.map_or(TIMEOUT, Duration::from)
}

fn status(status: Option<&str>) -> u16 {
    status.and_then(|status| status.parse().ok()).unwrap_or(FORBIDDEN)
}

fn body(body: RequestBody) -> Body {
    let most = usize::try_from(body.max_request_bytes.min(MOST_BODY)).unwrap_or(usize::MAX);
    Body { most, partial: body.allow_partial_message, bytes: body.pack_as_bytes }
}

fn lost(name: &str) -> String {
    format!("so `{name}` cannot be asked, and what CUSTOM policies would ask of it is denied")
}

/// The cluster of `host` or `namespace/host`. `lost`: what it means when there is none.
pub(super) fn service(
    context: &Context<'_>,
    (service, port): (&str, u32),
    field: &str,
    lost: &str,
) -> Option<ClusterId> {
    let (namespace, host) = match service.split_once('/') {
        Some((namespace, host)) => (namespace, host),
        None => (context.proxy.root_namespace.as_str(), service),
    };
    // A namespace says where a short name belongs, and of a full one whose it is: hosts are unique here.
    let short = strip_port(host).split_once('.').is_none();
    let full = if short { context.full_host(host, namespace) } else { host.to_ascii_lowercase() };
    let number = u16::try_from(port).unwrap_or_default();
    let lookup = Lookup { host: full, port: Some(number), subset: None, listener: number, carries: Carries::Http };
    match destinations::find(context, &lookup) {
        Ok(cluster) => Some(cluster),
        Err(missing) => {
            tell(context, (field, lost), &lookup.host, (port, &missing));
            None
        }
    }
}

fn tell(context: &Context<'_>, (field, lost): (&str, &str), host: &str, (port, missing): (u32, &Missing<'_, '_>)) {
    let Some(object) = mesh::document(context.resources, context.proxy) else { return };
    let (below, code, what) = match missing {
        Missing::Port(service) => {
            let ports = service.ports_in_words();
            ("port", "unknown-port", format!("`{host}` has no port {port}, {lost}; its ports are {ports}"))
        }
        Missing::Host | Missing::Subset(_) => {
            let near = context.services.similar(host).map(|near| format!("; `{near}` exists")).unwrap_or_default();
            ("service", UNKNOWN_HOST, format!("no service has the host `{host}`, {lost}{near}"))
        }
    };
    let field = object.spec.field(&format!("{field}.{below}"));
    context.report.error(object, code, &field, what);
}
