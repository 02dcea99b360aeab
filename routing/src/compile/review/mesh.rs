//! The mesh configuration: which document counts, what of it is not honoured yet, and the settings that a pod carries.

use crate::{
    api::{
        MeshDocument, MeshProxyConfig, check::Finding, gateway::TlsVersion, mesh_config::MeshTls,
        proxy_config::MetadataExchangeMode,
    },
    compile::{
        context::Context,
        networks,
        report::{BAD_VALUE, UNKNOWN_HOST, UNSUPPORTED},
    },
    mesh::{self, ANNOTATION, Annotated},
    problem::Severity,
    resources::Object,
};

pub(super) fn review(context: &Context<'_>) {
    let own = mesh::document(context.resources, context.proxy);
    for object in &context.resources.meshes {
        match own {
            Some(own) if std::ptr::eq(own, &**object) => document(context, object),
            Some(own) => {
                let message = format!("it is not this proxy's mesh configuration, which is {}", own.reference());
                context.report.info(object, "no-effect", "", message);
            }
            None => {
                let root = &context.proxy.mesh_namespace;
                let message = format!("the mesh configuration is `istio` in `{root}`, and nothing here holds");
                context.report.warning(object, "no-effect", "metadata.name", message);
            }
        }
    }
    if let Some((carrier, text)) = mesh::annotation(context.resources, context.proxy) {
        for finding in mesh::read_annotation(&text).1 {
            match &carrier {
                Annotated::Pod(pod) => annotated(context, pod, "metadata", finding),
                Annotated::Template(owner) => annotated(context, owner, "spec.template.metadata", finding),
            }
        }
    }
}

fn document(context: &Context<'_>, object: &Object<MeshDocument>) {
    let (mesh, proxy) = (&object.spec.mesh, &context.proxy.mesh.proxy);
    let note = |used: bool, field: &str, message: &str| {
        if used {
            context.report.warning(object, UNSUPPORTED, &object.spec.field(field), message);
        }
    };
    let old = |tls: &Option<MeshTls>| {
        tls.as_ref().is_some_and(|tls| matches!(tls.min_protocol_version, TlsVersion::V1_0 | TlsVersion::V1_1))
    };
    let lowest = "TLS 1.0 and 1.1 are not supported; the lowest version is TLS 1.2";
    note(old(&mesh.tls_defaults), "tlsDefaults.minProtocolVersion", lowest);
    note(old(&mesh.mesh_mtls), "meshMTLS.minProtocolVersion", lowest);
    gateways(context, object);
    settings(proxy, &mut |used, field, message| note(used, &format!("defaultConfig.{field}"), message));
}

/// Gateways of networks that are named by Services which nobody can reach.
fn gateways(context: &Context<'_>, object: &Object<MeshDocument>) {
    for (name, network) in &object.spec.networks.networks {
        for (index, gateway) in network.gateways.iter().enumerate() {
            let Some(host) = gateway.registry_service_name.as_deref() else { continue };
            if networks::written_ways(context.resources, context.proxy, gateway).is_empty() {
                let field = format!("data.meshNetworks.networks.{name}.gateways[{index}].registryServiceName");
                let message = format!(
                    "no Service with an external address (externalIPs, or a balancer's in its status) has the host `{host}`, so \
                     the network is not reached by it"
                );
                context.report.warning(object, UNKNOWN_HOST, &field, message);
            }
        }
    }
}

/// Settings of a proxy that are not honoured.
fn settings(proxy: &MeshProxyConfig, note: &mut dyn FnMut(bool, &str, &str)) {
    let Some(headers) = &proxy.proxy_headers else { return };
    let chain = headers.set_current_client_cert_details.is_some_and(|details| details.chain == Some(true));
    let leaf = "the chain of a client's certificate is not kept; `cert` tells the certificate itself";
    note(chain, "proxyHeaders.setCurrentClientCertDetails.chain", leaf);
    let everybody = headers.metadata_exchange_headers.is_some_and(|to| to.mode == MetadataExchangeMode::Undefined);
    let exchanged = "who this workload is, is told to endpoints of the mesh alone, as mode IN_MESH says";
    note(everybody, "proxyHeaders.metadataExchangeHeaders", exchanged);
    let spelt = "names of HTTP/1.1 headers always keep their spelling";
    note(headers.preserve_http1_header_case == Some(false), "proxyHeaders.preserveHttp1HeaderCase", spelt);
}

fn annotated<T>(context: &Context<'_>, object: &Object<T>, metadata: &str, finding: Finding) {
    let field = format!("{metadata}.annotations[{ANNOTATION:?}]");
    let Finding { severity, field: inner, message, .. } = finding;
    let message = match inner.as_str() {
        "" => message,
        inner => format!("{inner}: {message}"),
    };
    match severity {
        Severity::Error => {
            let message = format!("{message}; the annotation is passed over");
            context.report.error(object, BAD_VALUE, &field, message);
        }
        severity => context.report.add(object, (severity, "no-effect"), &field, message),
    }
}
