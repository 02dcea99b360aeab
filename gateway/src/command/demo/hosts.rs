//! The names that an application of a pod may call, in the place of a cluster's DNS.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use routing::resources::Resources;

use super::plan::Plan;

/// `/etc/hosts` of a pod in `namespace`: every Service under the names that DNS gives it, each host of a ServiceEntry, and what the
/// demo plays outside of the mesh. `address` gives the address number N; nobody has it, so only a sidecar can make something of it.
pub(crate) fn file(resources: &Resources, plan: &Plan, namespace: &str, address: impl Fn(usize) -> IpAddr) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    let services = resources.services.iter().map(|service| {
        let (name, home) = (service.name(), service.namespace());
        let mut names =
            vec![format!("{name}.{home}.svc.cluster.local"), format!("{name}.{home}.svc"), format!("{name}.{home}")];
        if home == namespace {
            names.push(name.to_owned());
        }
        names.join(" ")
    });
    let entries = resources.service_entries.iter().flat_map(|entry| &entry.spec.hosts);
    let played = plan.pods.iter().filter_map(|pod| pod.application.tls.as_ref()).flat_map(|tls| &tls.hosts);
    let outside: BTreeSet<&String> = entries.chain(played).filter(|host| !host.contains('*')).collect();
    for (number, names) in services.chain(outside.into_iter().cloned()).enumerate() {
        let _ = writeln!(text, "{} {names}", address(number));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_service_has_its_short_name_at_home_alone() {
        let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: orders, namespace: shop}\nspec: {ports: [{port: 80}]}\n---\n\
                    apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: pay, namespace: shop}\n\
                    spec: {hosts: [pay.example.com, '*.example.org'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}\n";
        let (resources, _) = Resources::read([("all.yaml", yaml)]);
        let text = |namespace: &str| {
            file(&resources, &Plan::default(), namespace, |number| {
                Ipv4Addr::new(10, 180, 254, u8::try_from(number + 1).unwrap()).into()
            })
        };
        assert_eq!(
            text("shop"),
            "127.0.0.1 localhost\n10.180.254.1 orders.shop.svc.cluster.local orders.shop.svc orders.shop orders\n10.180.254.2 pay.example.com\n"
        );
        assert!(!text("other").lines().any(|line| line.ends_with(" orders")));
    }
}
