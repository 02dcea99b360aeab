//! Whom the Gateways of a folder select: the labels of a gateway that was told none, and the Gateways that it leaves out.

use std::collections::BTreeMap;

use routing::{
    compile::{Proxy, selects},
    problem::{ObjectRef, Problem, Severity},
    resources::Resources,
};

/// A Gateway that is for another proxy.
const UNSELECTED: &str = "unselected-gateway";
/// More of them are counted.
const LISTED: usize = 20;

type Labels = BTreeMap<String, String>;

/// Labels that Gateways of the folder select: those of Istio's own ingress gateway as long as any Gateway goes with them,
/// and what other selectors add. Selectors that exclude each other (`istio: ingressgateway`, `istio: egressgateway`) are
/// for different proxies, and what is meant for an egress gateway has no place at the edge.
pub(crate) fn labels(resources: &Resources) -> Labels {
    let usual = joined(resources, Proxy::default().labels);
    let mut selectors = resources.gateways.iter().map(|it| &it.spec.selector).filter(|it| !it.is_empty()).peekable();
    let fits = selectors.peek().is_none() || selectors.any(|selector| selects(selector, &usual));
    if fits { usual } else { joined(resources, Labels::new()) }
}

/// `labels`, and those of every selector that they do not contradict.
fn joined(resources: &Resources, labels: Labels) -> Labels {
    let mut labels = labels;
    for gateway in &resources.gateways {
        let selector = &gateway.spec.selector;
        let fits = selector.iter().all(|(name, value)| labels.get(name).is_none_or(|own| own == value));
        if fits {
            labels.extend(selector.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    labels
}

/// The Gateways that do not select a proxy, each with the flag that would serve it. In a cluster that is nothing to tell
/// of, since others serve them there.
pub(crate) fn left_out(resources: &Resources, labels: &Labels) -> Vec<Problem> {
    let all = resources.gateways.iter();
    let (served, others): (Vec<_>, Vec<_>) = all.partition(|it| selects(&it.spec.selector, labels));
    let severity = if served.is_empty() { Severity::Warning } else { Severity::Info };
    let more = others.len().saturating_sub(LISTED);
    let told = others.into_iter().take(LISTED).map(|gateway| {
        let message = format!(
            "it selects {}, and the labels of this proxy are {}, so nothing of it is served here; start a gateway with \
             --labels {} for it",
            text(&gateway.spec.selector),
            if labels.is_empty() { "none".to_owned() } else { text(labels) },
            text(&gateway.spec.selector)
        );
        gateway.problem(severity, UNSELECTED, "spec.selector", message)
    });
    let mut told: Vec<Problem> = told.collect();
    if more > 0 {
        let message = format!("and {more} more Gateways do not select this proxy");
        let (object, field) = (ObjectRef::default(), String::new());
        told.push(Problem { code: UNSELECTED, severity, object, field, place: None, message });
    }
    told
}

pub(crate) fn text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(selectors: &[&str]) -> Resources {
        let one = |(index, selector): (usize, &&str)| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g{index}}}\nspec:\n  selector: {selector}\n  \
                 servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]\n---\n"
            )
        };
        let text: String = selectors.iter().enumerate().map(one).collect();
        let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
        assert_eq!(problems, []);
        resources
    }

    #[test]
    fn the_labels_are_what_the_gateways_select() {
        for (selectors, wanted, left) in [
            (&[][..], "istio=ingressgateway", 0),
            (&["{istio: ingressgateway}"], "istio=ingressgateway", 0),
            (&["{}"], "istio=ingressgateway", 0),
            (&["{app: istio-ingressgateway}"], "app=istio-ingressgateway,istio=ingressgateway", 0),
            (&["{app: edge, istio: ingressgateway}", "{app: edge}"], "app=edge,istio=ingressgateway", 0),
            (&["{istio: private}"], "istio=private", 0),
            (&["{istio: private}", "{istio: private, tier: public}", "{}"], "istio=private,tier=public", 0),
            (&["{istio: private}", "{tier: public}"], "istio=ingressgateway,tier=public", 1),
            (&["{istio: ingressgateway}", "{istio: egressgateway}"], "istio=ingressgateway", 1),
            (&["{istio: egressgateway}", "{istio: ingressgateway}"], "istio=ingressgateway", 1),
            (&["{istio: a}", "{istio: a, app: x}", "{istio: ingressgateway}"], "istio=ingressgateway", 2),
        ] {
            let resources = gateways(selectors);
            let labels = labels(&resources);
            assert_eq!((text(&labels).as_str(), left_out(&resources, &labels).len()), (wanted, left), "{selectors:?}");
        }
    }

    #[test]
    fn a_gateway_that_is_left_out_is_told_with_the_flag_that_serves_it() {
        let resources = gateways(&["{istio: egressgateway}"]);
        let told = left_out(&resources, &Proxy::default().labels);
        assert_eq!((told[0].severity, told[0].place.as_ref().unwrap().line), (Severity::Warning, 5));
        assert!(told[0].message.ends_with("start a gateway with --labels istio=egressgateway for it"), "{}", told[0]);
    }
}
