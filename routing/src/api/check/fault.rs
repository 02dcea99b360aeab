//! Rules for fault injection.

use super::http_route::check_whole_percent;
use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD};
use crate::api::virtual_service::{FaultAbort, FaultDelay, HttpFaultInjection};
use crate::fault::GRPC_CODES;

impl HttpFaultInjection {
    pub(super) fn check(&self, findings: &mut Findings) {
        if self.delay.is_none() && self.abort.is_none() {
            findings.error(MISSING_FIELD, "the fault does nothing; give delay or abort");
        }
        if let Some(delay) = &self.delay {
            findings.within("delay", |findings| delay.check(findings));
        }
        if let Some(abort) = &self.abort {
            findings.within("abort", |findings| abort.check(findings));
        }
    }
}

impl FaultDelay {
    fn check(&self, findings: &mut Findings) {
        if self.exponential_delay.is_some() {
            findings.error_at(
                "exponentialDelay",
                BAD_VALUE,
                "exponentialDelay is not supported by Istio; use fixedDelay",
            );
        } else if self.fixed_delay.is_none() {
            findings.error_at("fixedDelay", MISSING_FIELD, "a delay needs fixedDelay, as `5s`");
        }
        findings.positive("fixedDelay", self.fixed_delay, "remove the delay for none");
        findings.percent("percentage", self.percentage);
        if let Some(percent) = self.percent {
            findings.warn_at("percent", DEPRECATED_FIELD, "percent is deprecated; write `percentage: {value: 10}`");
            check_whole_percent(findings, "percent", i64::from(percent));
        } else if self.percentage.is_none() {
            findings.warn_at(
                "percentage",
                MISSING_FIELD,
                "without percentage nothing is delayed; write `{value: 100}` for all",
            );
        }
    }
}

impl FaultAbort {
    fn check(&self, findings: &mut Findings) {
        findings.percent("percentage", self.percentage);
        if self.percentage.is_none() {
            findings.warn_at(
                "percentage",
                MISSING_FIELD,
                "without percentage nothing is aborted; write `{value: 100}` for all",
            );
        }
        if self.http2_error.is_some() {
            findings.error_at(
                "http2Error",
                BAD_VALUE,
                "http2Error is not supported by Istio; use httpStatus or grpcStatus",
            );
        }
        match (self.http_status, &self.grpc_status) {
            (Some(_), Some(_)) => {
                findings.error_at("grpcStatus", CONFLICT, "httpStatus and grpcStatus exclude each other; keep one")
            }
            (Some(status), None) if !(200..=600).contains(&status) => {
                findings.error_at(
                    "httpStatus",
                    BAD_VALUE,
                    format!("{status} is not a status to answer; 200 to 600 is wanted"),
                );
            }
            (None, Some(code)) if !GRPC_CODES.contains(&code.as_str()) => {
                let message =
                    format!("`{code}` is not the name of a gRPC status; write it as UNAVAILABLE or NOT_FOUND");
                findings.error_at("grpcStatus", BAD_VALUE, message);
            }
            (None, None) if self.http2_error.is_none() => {
                findings.warn_at(
                    "httpStatus",
                    MISSING_FIELD,
                    "the abort has no status and does nothing; give httpStatus, as 503",
                );
            }
            _ => {}
        }
    }
}
