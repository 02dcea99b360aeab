//! Rules for Telemetry.

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, NO_EFFECT, target_reference};
use crate::{
    api::{
        Telemetry,
        telemetry::{
            AccessLogging, CustomTag, Metrics, MetricsOverrides, ProviderRef, TagOperation, TagOverride, Tracing,
        },
    },
    attributes::Expression,
    template::Template,
};

impl Telemetry {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        let selector = self.selector.as_ref();
        target_reference::attachment(findings, selector, self.target_ref.as_ref(), &self.target_refs);
        findings.each("tracing", &self.tracing, |findings, index, one| {
            if index > 0 {
                findings.warn(NO_EFFECT, "one entry of tracing counts, the first; this one has no effect");
            }
            one.check(findings);
        });
        findings.each("metrics", &self.metrics, |findings, _, one| one.check(findings));
        findings.each("accessLogging", &self.access_logging, |findings, _, one| one.check(findings));
    }
}

fn providers(findings: &mut Findings, all: &[ProviderRef]) {
    findings.each("providers", all, |findings, _, one| {
        if one.name.is_empty() {
            let message = "the name of an extension provider is wanted, as `prometheus`";
            findings.error_at("name", MISSING_FIELD, message);
        }
    });
}

impl Tracing {
    fn check(&self, findings: &mut Findings) {
        providers(findings, &self.providers);
        if self.providers.len() > 1 {
            findings.warn_at("providers", NO_EFFECT, "spans go to one provider, the first; the others get none");
        }
        if let Some(share) = self.random_sampling_percentage.filter(|share| !(0.0..=100.0).contains(share)) {
            let message = format!("{share} is no percentage; 0 to 100 is wanted");
            findings.error_at("randomSamplingPercentage", BAD_VALUE, message);
        }
        findings.each_key("customTags", &self.custom_tags, |findings, name, tag| {
            if name.is_empty() {
                findings.error(MISSING_FIELD, "a tag needs a name");
            }
            tag.check(findings);
        });
    }
}

impl CustomTag {
    fn check(&self, findings: &mut Findings) {
        let given =
            [self.literal.is_some(), self.environment.is_some(), self.header.is_some(), self.formatter.is_some()];
        match given.iter().filter(|given| **given).count() {
            1 => {}
            0 => findings.error(MISSING_FIELD, "one of literal, environment, header and formatter is wanted"),
            _ => findings.error(CONFLICT, "a tag is one thing; keep one of literal, environment, header and formatter"),
        }
        for (field, tag) in [("literal", &self.literal), ("formatter", &self.formatter)] {
            if tag.as_ref().is_some_and(|tag| tag.value.is_empty()) {
                findings.within(field, |findings| findings.error_at("value", MISSING_FIELD, "a value is wanted"));
            }
        }
        for (field, tag) in [("environment", &self.environment), ("header", &self.header)] {
            if tag.as_ref().is_some_and(|tag| tag.name.is_empty()) {
                findings.within(field, |findings| findings.error_at("name", MISSING_FIELD, "a name is wanted"));
            }
        }
        match self.formatter.as_ref().map(|tag| Template::parse_for_log(&tag.value)) {
            None => {}
            Some(Err(fault)) => {
                findings.within("formatter", |findings| findings.error_at("value", BAD_VALUE, fault.to_string()));
            }
            Some(Ok((_, passed))) => findings.within("formatter", |findings| {
                for fault in passed {
                    findings.warn_at("value", NO_EFFECT, format!("{fault}; the tag has `-` there"));
                }
            }),
        }
        if let Some(fault) = self.header.as_ref().and_then(|tag| super::names::header_name_fault(&tag.name))
            && self.header.as_ref().is_some_and(|tag| !tag.name.is_empty())
        {
            findings.within("header", |findings| findings.error_at("name", BAD_VALUE, fault));
        }
    }
}

impl Metrics {
    fn check(&self, findings: &mut Findings) {
        providers(findings, &self.providers);
        findings.positive("reportingInterval", self.reporting_interval, "leave it out");
        if self.reporting_interval.is_some() {
            let message = "everything is counted as it passes, which is earlier than any interval; leave it out";
            findings.warn_at("reportingInterval", NO_EFFECT, message);
        }
        findings.each("overrides", &self.overrides, |findings, _, one| one.check(findings));
    }
}

impl MetricsOverrides {
    fn check(&self, findings: &mut Findings) {
        if let Some(matches) = &self.matches
            && matches.metric.is_some()
            && matches.custom_metric.is_some()
        {
            findings.within("match", |findings| {
                findings.error_at("customMetric", CONFLICT, "metric and customMetric are both given; keep one of them");
            });
        }
        findings.each_key("tagOverrides", &self.tag_overrides, |findings, name, tag| {
            if !is_label(name) {
                let message = format!(
                    "`{name}` is no name of a label; letters, digits and `_` are wanted, not beginning with a digit or `__`"
                );
                findings.error(BAD_VALUE, message);
            } else if ["le", "quantile"].contains(&name.as_str()) {
                findings.error(BAD_VALUE, format!("`{name}` tells the parts of a histogram; choose another name"));
            }
            tag.check(findings);
        });
    }
}

/// Whether Prometheus takes a name for a label that may be set.
fn is_label(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins && !name.starts_with("__") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl TagOverride {
    fn check(&self, findings: &mut Findings) {
        match self.operation {
            TagOperation::Upsert if self.value.is_empty() => {
                let message = "UPSERT needs the expression whose value the label gets, as `request.host`";
                findings.error_at("value", MISSING_FIELD, message);
            }
            TagOperation::Remove if !self.value.is_empty() => {
                findings.error_at("value", CONFLICT, "a label that is removed has no value; leave it out");
            }
            TagOperation::Upsert => {
                if let Err(fault) = Expression::parse(&self.value) {
                    findings.error_at("value", BAD_VALUE, fault.to_string());
                }
            }
            TagOperation::Remove => {}
        }
    }
}

impl AccessLogging {
    fn check(&self, findings: &mut Findings) {
        providers(findings, &self.providers);
        let Some(filter) = &self.filter else { return };
        findings.within("filter", |findings| match Expression::condition(&filter.expression) {
            _ if filter.expression.is_empty() => {
                let message = "an expression is wanted, as `response.code >= 400`";
                findings.error_at("expression", MISSING_FIELD, message);
            }
            Err(fault) => findings.error_at("expression", BAD_VALUE, fault.to_string()),
            Ok(_) => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tag_of_a_command_that_is_not_served_is_told() {
        let found = |text: &str| {
            let spec = json!({"tracing": [{"customTags": {"a": {"formatter": {"value": text}}}}]});
            let spec: Telemetry = serde_json::from_value(spec).unwrap();
            let mut findings = Findings::default();
            spec.check(&mut findings);
            findings.into_vec().into_iter().map(|it| (it.field, it.code)).collect::<Vec<_>>()
        };
        assert_eq!(found("%RESPONSE_CODE%"), []);
        let told = found("%VIRTUAL_CLUSTER_NAME%");
        assert!(
            matches!(&told[..], [(field, code)] if field.ends_with("formatter.value") && *code == NO_EFFECT),
            "{told:?}"
        );
    }
}
