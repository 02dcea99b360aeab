//! What whoever is told wants kept while requests pass.

use super::{Telemetry, access_log::To, metrics, tracing::Tag};
use crate::{api::telemetry::WorkloadMode, snapshot::Snapshot, template::Demands};

/// What logs, labels and tags of a configuration ask for.
pub fn demands(snapshot: &Snapshot) -> Demands {
    let mesh = snapshot.mesh.log_format().map(|format| format.demands());
    let told = snapshot.telemetry.as_deref().map(Telemetry::demands);
    Demands::of(mesh.into_iter().chain(told))
}

impl Telemetry {
    fn demands(&self) -> Demands {
        let sides = [WorkloadMode::Client, WorkloadMode::Server];
        Demands::of(sides.into_iter().map(|side| self.logs(side).and(self.labels(side)).and(self.tags(side))))
    }

    fn logs(&self, side: WorkloadMode) -> Demands {
        let logs = self.logged.as_ref().and_then(|logged| logged.get(side));
        Demands::of(logs.into_iter().flatten().map(|log| {
            let filter = log.filter.as_ref().map(|filter| filter.demands());
            let format = log.format.as_ref().map(|format| format.demands());
            let attributes = match &log.to {
                To::Otlp { attributes, .. } => &**attributes,
                To::File(_) => &[],
            };
            let attributes = attributes.iter().map(|(_, template)| template.demands());
            Demands::of(filter.into_iter().chain(format).chain(attributes))
        }))
    }

    fn labels(&self, side: WorkloadMode) -> Demands {
        let rules = self.metrics(side).map(|rules| &rules.metrics);
        let tags = rules.into_iter().flatten().flat_map(|rule| rule.tags.values());
        Demands::of(tags.map(|tag| match tag {
            metrics::Tag::Set(expression) => expression.demands(),
            metrics::Tag::Removed => Demands::default(),
        }))
    }

    fn tags(&self, side: WorkloadMode) -> Demands {
        let tags = self.traced.get(side).map(|tracing| &tracing.tags);
        Demands::of(tags.into_iter().flatten().map(|(_, tag)| match tag {
            Tag::Format(template) => template.demands(),
            Tag::Literal(_) | Tag::Environment(..) | Tag::Header(..) => Demands::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        attributes::Expression,
        log_format::LogFormat,
        telemetry::{Sides, access_log::Log},
    };

    fn logging(text: &str, filter: Option<&str>) -> Snapshot {
        let (format, _) = LogFormat::parse(text, text.starts_with('{')).unwrap();
        let filter = filter.map(|text| Expression::condition(text).unwrap());
        let log = Log { filter, format: Some(format), to: To::File("/dev/stdout".into()) };
        let logged = Some(Sides { client: None, server: Some([log].into()) });
        Snapshot { telemetry: Some(Box::new(Telemetry { logged, ..Telemetry::default() })), ..Snapshot::default() }
    }

    #[test]
    fn whoever_is_told_says_what_is_kept() {
        let none = Demands::default();
        assert_eq!(demands(&Snapshot::default()), none);
        assert_eq!(demands(&logging("%REQ(:PATH)%", None)), none);
        assert_eq!(demands(&logging("%REQUEST_DURATION%", None)), Demands { moments: true, ..none });
        let trailers = Demands { trailers: true, ..none };
        assert_eq!(demands(&logging(r#"{"a": ["%TRAILER(x)% b"]}"#, None)), trailers);
        assert_eq!(demands(&logging("", Some("'x' in response.trailers"))), trailers);
        let expression = Arc::new(Expression::parse("response.trailers['x']").unwrap());
        let mut rules = metrics::Rules::default();
        rules.metrics[0].tags.insert("x".to_owned(), metrics::Tag::Set(expression));
        let telemetry = Telemetry { client: Some(Arc::new(rules)), ..Telemetry::default() };
        let snapshot = Snapshot { telemetry: Some(Box::new(telemetry)), ..Snapshot::default() };
        assert_eq!(demands(&snapshot), trailers);
    }
}
