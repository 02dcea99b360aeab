//! Rules for providers that are told of requests.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, NO_EFFECT, service};
use crate::{
    api::extension_provider::{FileAccessLog, HttpHeader, LogForm, OpenTelemetry, OtelAccessLog, Zipkin},
    log_format::LogFormat,
};

impl OpenTelemetry {
    pub(super) fn check(&self, findings: &mut Findings) {
        service(findings, &self.service, self.port);
        if let Some(http) = &self.http {
            findings.within("http", |findings| {
                path(findings, &http.path);
                findings.positive("timeout", http.timeout, "leave it out for 3s");
                headers(findings, "headers", &http.headers);
            });
        }
        if let Some(grpc) = &self.grpc {
            findings.within("grpc", |findings| {
                findings.positive("timeout", grpc.timeout, "leave it out for 3s");
                headers(findings, "initialMetadata", &grpc.initial_metadata);
            });
            if self.http.is_some() {
                findings.error_at("grpc", CONFLICT, "http is given as well; spans go one way, keep one of the two");
            }
        }
        for name in self.resource_detectors.iter().flat_map(|detectors| detectors.keys()) {
            if name != "environment" {
                let message = format!(
                    "there is no detector `{name}` here; `environment` reads OTEL_RESOURCE_ATTRIBUTES, which may say the same"
                );
                findings.warn_at("resourceDetectors", NO_EFFECT, message);
            }
        }
        if self.dynatrace_sampler.is_some() {
            let message =
                "Dynatrace's sampler is not here; randomSamplingPercentage of a Telemetry says how much is traced";
            findings.warn_at("dynatraceSampler", NO_EFFECT, message);
        }
    }
}

impl Zipkin {
    pub(super) fn check(&self, findings: &mut Findings) {
        service(findings, &self.service, self.port);
        if let Some(written) = &self.path {
            path(findings, written);
        }
        findings.positive("timeout", self.timeout, "leave it out for 5s");
        headers(findings, "headers", &self.headers);
    }
}

impl FileAccessLog {
    pub(super) fn check(&self, findings: &mut Findings) {
        if let Some(path) = self.path.as_deref().filter(|path| !path.starts_with('/')) {
            findings.error_at(
                "path",
                BAD_VALUE,
                format!("`{path}` is no path from the root; one as `/dev/stdout` is wanted"),
            );
        }
        form(findings, self.log_format.as_ref());
        if self.omit_empty_values == Some(true) {
            findings.warn_at("omitEmptyValues", NO_EFFECT, "what is not known is told as `-`, and in objects as null");
        }
    }
}

impl OtelAccessLog {
    pub(super) fn check(&self, findings: &mut Findings) {
        service(findings, &self.service, self.port);
        let Some(form) = &self.log_format else { return };
        findings.within("logFormat", |findings| {
            commands(findings, "text", form.text.as_deref(), false);
            commands(findings, "labels", object(form).as_deref(), true);
            // The object itself, when it is none, has been told of.
            for (key, _) in form.labels.iter().filter_map(Value::as_object).flatten().filter(|(_, it)| !it.is_string())
            {
                let message = format!("`{key}` is no text, and records do not have it: attributes are texts; quote it");
                findings.warn_at("labels", NO_EFFECT, message);
            }
        });
    }
}

fn form(findings: &mut Findings, form: Option<&LogForm>) {
    let Some(form) = form else { return };
    findings.within("logFormat", |findings| {
        if form.text.is_some() && form.labels.is_some() {
            findings.error_at("labels", CONFLICT, "text is given as well; a line is one of the two");
        }
        commands(findings, "text", form.text.as_deref(), false);
        commands(findings, "labels", object(form).as_deref(), true);
    });
}

fn object(form: &LogForm) -> Option<String> {
    form.labels.as_ref().map(Value::to_string)
}

fn commands(findings: &mut Findings, field: &'static str, text: Option<&str>, json: bool) {
    match text.map(|text| LogFormat::parse(text, json)) {
        None => {}
        Some(Err(wrong)) => findings.error_at(field, BAD_VALUE, wrong.to_string()),
        Some(Ok((_, passed))) => {
            for fault in passed {
                findings.warn_at(field, NO_EFFECT, format!("{fault}; it stands for nothing"));
            }
        }
    }
}

fn path(findings: &mut Findings, path: &str) {
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        let message = format!("`{path}` is no path; one as `/v1/traces` is wanted");
        findings.error_at("path", if path.is_empty() { MISSING_FIELD } else { BAD_VALUE }, message);
    }
}

fn headers(findings: &mut Findings, field: &'static str, all: &[HttpHeader]) {
    findings.each(field, all, |findings, _, header| {
        if HeaderName::try_from(header.name.as_str()).is_err() {
            findings.error_at("name", BAD_VALUE, format!("`{}` is no name of a header", header.name));
        }
        match (&header.value, &header.env_name) {
            (Some(value), None) if HeaderValue::from_str(value).is_err() => {
                findings.error_at("value", BAD_VALUE, "it is no value of a header");
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => findings.error_at("value", MISSING_FIELD, "one of value and envName is wanted"),
        }
    });
}
