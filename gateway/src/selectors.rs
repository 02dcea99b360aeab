//! Whom the Gateways of a folder select: the labels of a gateway that was told none, and the Gateways that it leaves out.

use std::collections::BTreeMap;

use routing::{
    compile::{Proxy, selects},
    problem::{Problem, Severity},
    resources::Resources,
};

type Labels = BTreeMap<String, String>;

/// Labels that as many Gateways as possible select, beginning with those of Istio's own ingress gateway. Selectors that
/// exclude each other (`istio: ingressgateway`, `istio: egressgateway`) are for different proxies.
pub(crate) fn labels(resources: &Resources) -> Labels {
    let usual = joined(resources, Proxy::default().labels);
    let other = joined(resources, Labels::new());
    let served = |labels: &Labels| resources.gateways.iter().filter(|it| selects(&it.spec.selector, labels)).count();
    if served(&other) > served(&usual) { other } else { usual }
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
    let told = others.into_iter().map(|gateway| {
        let message = format!(
            "it selects {}, and the labels of this proxy are {}, so nothing of it is served here; start a gateway with \
             --labels {} for it",
            text(&gateway.spec.selector),
            if labels.is_empty() { "none".to_owned() } else { text(labels) },
            text(&gateway.spec.selector)
        );
        gateway.problem(severity, "unselected-gateway", "spec.selector", message)
    });
    told.collect()
}

fn text(labels: &Labels) -> String {
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
            (&["{istio: private}", "{tier: public}"], "istio=private,tier=public", 0),
            (&["{istio: ingressgateway}", "{istio: egressgateway}"], "istio=ingressgateway", 1),
            (&["{istio: egressgateway}", "{istio: ingressgateway}"], "istio=ingressgateway", 1),
            (&["{istio: a}", "{istio: a, app: x}", "{istio: ingressgateway}"], "app=x,istio=a", 1),
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
