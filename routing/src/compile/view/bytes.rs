//! Where connections go that are no HTTP, for those who explain the configuration.

use std::{collections::BTreeSet, sync::Arc};

use super::{GatewayServer, View, servers};
use crate::{
    compile::{
        gateways, listeners, opaque,
        virtual_hosts::Attached,
        virtual_services::{self, MESH},
    },
    host::HostPattern,
    opaque::{OpaqueRoute, OpaqueRule, OpaqueTable, Subnet},
    snapshot::Content,
};

/// A server of a gateway whose connections are no HTTP.
pub struct BytesServer<'a> {
    /// The port, as the Gateway names it.
    pub port: u16,
    /// The server.
    pub server: GatewayServer<'a>,
    /// Where its TLS ends.
    pub ends: TlsEnds,
    /// Its routes, each with its place among all of the port.
    pub routes: Vec<(usize, OpaqueRoute)>,
}

/// Where TLS ends that comes to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsEnds {
    /// There is none, or nobody looks.
    Nowhere,
    /// Here.
    Here,
    /// Behind: `PASSTHROUGH`.
    Behind,
    /// Behind, at the mesh's own: `AUTO_PASSTHROUGH`.
    AtTheMesh,
}

/// A route of a service's port that is no HTTP, as a sidecar has it.
pub struct BytesRoute {
    /// The port.
    pub port: u16,
    /// The service whose connections these are, in full.
    pub host: Arc<str>,
    /// Its place among the routes of that service on the port.
    pub position: usize,
    /// TLS is spoken on the port, and its server name looked at.
    pub tls: bool,
    /// Nothing tells the protocol: HTTP that is seen goes elsewhere.
    pub sniffed: bool,
    /// Server names; empty = all.
    pub names: Vec<HostPattern>,
    /// Destinations narrower than the service's own; empty = all of them.
    pub subnets: Vec<Subnet>,
    /// What then.
    pub rule: Arc<OpaqueRule>,
}

impl<'a> View<'a> {
    /// The gateway's servers for connections that are no HTTP.
    pub fn gateway_bytes(&self) -> Vec<BytesServer<'a>> {
        let ports = gateways::select(&self.context);
        let mut attached = Attached::default();
        let mut found = Vec::new();
        for (port, _) in listeners::opened(&self.context, &ports) {
            let servers = servers(port);
            if !port.tls {
                let plain = opaque::plain(&self.context, port, &self.bound, &mut attached);
                let served = plain.zip(servers.into_iter().next());
                found.extend(served.map(|(table, server)| self.served(port.number, server, TlsEnds::Nowhere, &table)));
                continue;
            }
            let contents = opaque::contents(&self.context, port, &self.bound, &mut attached);
            for (server, content) in servers.into_iter().zip(contents) {
                let (ends, table) = match content {
                    Content::Http => continue,
                    Content::Bytes(table) => (TlsEnds::Here, table),
                    Content::Passed(table) => (TlsEnds::Behind, table),
                    Content::Mesh(table) => (TlsEnds::AtTheMesh, table),
                };
                found.push(self.served(port.number, server, ends, &table));
            }
        }
        found
    }

    fn served(&self, port: u16, server: GatewayServer<'a>, ends: TlsEnds, table: &OpaqueTable) -> BytesServer<'a> {
        // All PASSTHROUGH servers of a port have one table.
        let is_own = |route: &&OpaqueRoute| ends != TlsEnds::Behind || self.passes(&server, route);
        let routes = table.routes().iter().enumerate().filter(|(_, route)| is_own(route));
        let routes = routes.map(|(position, route)| (position, route.clone())).collect();
        BytesServer { port, server, ends, routes }
    }

    /// Whether a server is one by which connections come to a route.
    fn passes(&self, server: &GatewayServer<'_>, route: &OpaqueRoute) -> bool {
        let Some((namespace, name)) = route.rule.source.split_once('/') else { return false };
        let gateway = format!("{}/{}", server.gateway.namespace(), server.gateway.name());
        let mut own = self.bound.iter().filter(|it| it.object.namespace() == namespace && it.object.name() == name);
        own.any(|bound| bound.binds(&gateway)) && route.names.iter().any(|domain| server.admits(domain, namespace))
    }

    /// A sidecar's routes for connections that are no HTTP.
    pub fn mesh_bytes(&self) -> Vec<BytesRoute> {
        let visible = virtual_services::visible(&self.context);
        let bound: Vec<_> = visible.into_iter().filter(|service| service.binds(MESH)).collect();
        opaque::owned(&self.context, &bound, &BTreeSet::new())
    }
}
