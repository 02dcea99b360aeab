//! Routes by host, with what was counted.

use std::{collections::BTreeMap, sync::Arc};

use routing::{
    explain::when,
    rule::{Action, Destination, Rule},
    snapshot::Snapshot,
    table::{Route, RouteTable, VirtualHost},
};

use super::asked::words;
use crate::admin::schema::routes::{self as schema, Group, Routes, Table};

/// Groups of one answer.
const MOST_GROUPS: usize = 200;
/// Hosts that a group names.
const MOST_HOSTS: usize = 8;
/// Routes that a group names.
const MOST_ROUTES: usize = 100;

/// Those groups that have each word of `wanted` in a host, a VirtualService or a destination; all when it is empty. `from`: so many of them are
/// known already.
pub(crate) fn routes(snapshot: &Snapshot, generation: u64, (wanted, from): (&str, usize)) -> Routes {
    let mut told = Told { wanted: words(wanted), skip: from, room: MOST_GROUPS, found: 0, left_out: 0, snapshot };
    let gateway = snapshot.listeners.iter().map(|it| ("gateway", it.port, it.tls.is_some(), &it.routes));
    let mut outbound: Vec<_> = snapshot.outbound.iter().flat_map(|it| &it.by_port).collect();
    outbound.sort_unstable_by_key(|(port, _)| **port);
    let outbound = outbound.into_iter().map(|(port, table)| ("outbound", *port, false, table));
    let tables = gateway.chain(outbound).map(|(side, port, tls, table)| {
        let groups = told.groups(table);
        Table { side, port, tls, groups }
    });
    let tables: Vec<Table> = tables.filter(|table| !table.groups.is_empty()).collect();
    Routes { generation, tables, found: told.found, left_out: told.left_out }
}

struct Told<'a> {
    wanted: Vec<String>,
    skip: usize,
    room: usize,
    found: usize,
    left_out: usize,
    snapshot: &'a Snapshot,
}

impl Told<'_> {
    fn groups(&mut self, table: &RouteTable) -> Vec<Group> {
        // Hosts that share their routes share the list itself.
        let mut shared: BTreeMap<(usize, bool), Vec<&VirtualHost>> = BTreeMap::new();
        for (_, host) in table.hosts.iter() {
            shared.entry((Arc::as_ptr(&host.routes) as usize, host.https_redirect)).or_default().push(host);
        }
        let mut groups: Vec<Vec<&VirtualHost>> = shared.into_values().filter(|hosts| self.is_wanted(hosts)).collect();
        for hosts in &mut groups {
            hosts.sort_unstable_by(|a, b| a.domain.cmp(&b.domain));
        }
        groups.sort_unstable_by(|a, b| a[0].domain.cmp(&b[0].domain));
        self.found += groups.len();
        let known = groups.len().min(self.skip);
        self.skip -= known;
        let named = (groups.len() - known).min(self.room);
        self.room -= named;
        self.left_out += groups.len() - known - named;
        groups[known..known + named].iter().map(|hosts| self.group(hosts)).collect()
    }

    fn is_wanted(&self, hosts: &[&VirtualHost]) -> bool {
        self.wanted.iter().all(|word| {
            let has = |text: &str| text.to_ascii_lowercase().contains(word);
            let to = |rule: &Rule| match &rule.action {
                Action::Route(to) => to.all.iter().any(|one| has(&one.cluster_name)),
                _ => false,
            };
            hosts.iter().any(|host| has(&host.domain))
                || hosts.first().is_some_and(|host| {
                    host.routes.routes().iter().any(|it| has(&it.rule.source) || has(&it.rule.name) || to(&it.rule))
                })
        })
    }

    fn group(&self, hosts: &[&VirtualHost]) -> Group {
        let routes = hosts.first().map(|host| host.routes.routes()).unwrap_or_default();
        Group {
            hosts: hosts.iter().take(MOST_HOSTS).map(|host| host.domain.to_string()).collect(),
            more_hosts: hosts.len().saturating_sub(MOST_HOSTS),
            https_redirect: hosts.first().is_some_and(|host| host.https_redirect),
            routes: routes.iter().take(MOST_ROUTES).map(|it| self.route(it)).collect(),
            more_routes: routes.len().saturating_sub(MOST_ROUTES),
        }
    }

    fn route(&self, route: &Route) -> schema::Route {
        let (rule, counts) = (&route.rule, route.rule.tally.counts());
        let share = |one: &Destination, total: u32| {
            let name = one.cluster.map_or(&one.cluster_name, |id| &self.snapshot.cluster(id).name);
            let percent = u64::from(one.weight) * 100 / u64::from(total.max(1));
            if percent == 100 { name.to_string() } else { format!("{name} {percent} %") }
        };
        let (action, to) = match &rule.action {
            Action::Route(to) => ("route", to.all.iter().map(|one| share(one, to.total)).collect()),
            Action::Redirect(redirect) => ("redirect", vec![redirect.code.to_string()]),
            Action::Direct(response) => ("direct", vec![response.status.to_string()]),
        };
        schema::Route {
            name: rule.name.to_string(),
            source: rule.source.to_string(),
            when: when(&route.when),
            action,
            to,
            requests: counts.requests,
            client_errors: counts.client_errors,
            server_errors: counts.server_errors,
        }
    }
}
