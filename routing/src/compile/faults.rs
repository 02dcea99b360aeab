//! `HTTPFaultInjection` to its compiled form.

use std::time::Duration;

use crate::{
    api::virtual_service::{FaultAbort, FaultDelay, HttpFaultInjection},
    fault::{Abort, AbortError, Delay, Fault, GRPC_CODES, Share},
};

/// What a `fault` block says; `None` when it never does anything. As in Istio a delay or an abort without percentage is one
/// of them.
pub(super) fn fault(given: &HttpFaultInjection) -> Option<Box<Fault>> {
    let delay = given.delay.as_ref().and_then(delay);
    let abort = given.abort.as_ref().and_then(abort);
    (delay.is_some() || abort.is_some()).then(|| Box::new(Fault { delay, abort }))
}

fn delay(given: &FaultDelay) -> Option<Delay> {
    let time = Duration::from(given.fixed_delay?);
    let whole = || Share::of_percent(f64::from(given.percent.unwrap_or(0)));
    let share = given.percentage.map_or_else(whole, |percentage| Share::of_percent(percentage.value));
    (!share.is_nothing() && !time.is_zero()).then_some(Delay { time, share })
}

fn abort(given: &FaultAbort) -> Option<Abort> {
    let grpc = |name: &String| GRPC_CODES.iter().position(|code| code == name);
    let error = match (given.http_status, given.grpc_status.as_ref().and_then(grpc)) {
        (Some(status), _) => AbortError::Http(status),
        (None, Some(code)) => AbortError::Grpc(u8::try_from(code).ok()?),
        (None, None) => return None,
    };
    let share = Share::of_percent(given.percentage?.value);
    (!share.is_nothing()).then_some(Abort { error, share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::scalar::{Percent, ProtoDuration};

    fn percent(value: f64) -> Option<Percent> {
        Some(Percent { value })
    }

    #[test]
    fn a_delay_knows_the_old_percent_and_the_new_one_wins() {
        let given = |percent, percentage| FaultDelay {
            fixed_delay: Some(ProtoDuration::from_millis(5)),
            percent,
            percentage,
            ..FaultDelay::default()
        };
        let share = |percent, percentage| delay(&given(percent, percentage)).map(|delay| delay.share.percent());
        assert_eq!(share(Some(20), None), Some(20.0));
        assert_eq!(share(Some(20), percent(0.5)), Some(0.5));
        assert_eq!([share(None, None), share(Some(20), percent(0.0))], [None, None]);
    }

    #[test]
    fn an_abort_is_a_status_or_a_name() {
        let given = |http_status, grpc: &str| FaultAbort {
            http_status,
            grpc_status: Some(grpc.to_owned()).filter(|name| !name.is_empty()),
            percentage: percent(100.0),
            ..FaultAbort::default()
        };
        let error = |given: &FaultAbort| abort(given).map(|abort| abort.error);
        assert_eq!(error(&given(Some(418), "")), Some(AbortError::Http(418)));
        assert_eq!(error(&given(None, "UNAVAILABLE")), Some(AbortError::Grpc(14)));
        assert_eq!(error(&given(None, "")), None);
        assert_eq!(error(&FaultAbort { percentage: None, ..given(Some(500), "") }), None);
        let nothing = HttpFaultInjection { delay: None, abort: Some(given(None, "")) };
        assert_eq!(fault(&nothing), None);
    }
}
