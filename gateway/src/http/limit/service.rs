//! Limits that a service counts for all proxies together: what is asked of it, and what becomes of its word.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use routing::{
    limits::{Global, Limit, Place},
    rule::Rule,
};

use super::{
    super::{
        admit::{self, Admitted, speaks_h2},
        buckets::{Held, Verdict},
        call::Way,
        desk::Desk,
        exchange::Exchange,
        failure::Failure,
        forward::unless_gone,
        grpc::{Method, authority_of, envoy, unary},
        head::Head,
        intercept::intercept,
        side::Down,
    },
    Allowance, Told, asked, give_back, limits,
    protocol::{Code, Descriptor, Entry, METHOD, RateLimitRequest, RateLimitResponse, Status, Unit},
};

/// Asks for a request that has its route, and then does what the route says. `None`: it goes to the workload.
///
/// # Errors
/// [`Failure`], answered by the proxy.
pub(crate) async fn ask_and_go(
    desk: &Desk,
    exchange: &mut Exchange,
    request: &Head,
    down: &mut Down<'_>,
    rule: Option<Arc<Rule>>,
) -> Result<Admitted, Failure> {
    let mut questions = questions(exchange, request);
    while let Some(first) = questions.pop() {
        // In order, and all that the same service counts at once, as Envoy does.
        let (mut same, others): (Vec<_>, Vec<_>) = questions.into_iter().partition(|other| other.is_for(&first));
        same.push(first);
        same.reverse();
        questions = others;
        let mut answer = None;
        unless_gone(down, async { answer = ask(desk, exchange, &same).await }).await?;
        judge(exchange, &same, answer.as_ref()).inspect_err(|_| give_back(exchange))?;
    }
    match rule {
        None => Ok(Admitted::Forward),
        Some(rule) if rule.intercepts() => intercept(exchange, request, down, &rule).await,
        Some(rule) => admit::follow(exchange, request, &rule),
    }
}

/// One limit, with the descriptor that asks for it.
struct Question {
    number: usize,
    cluster: Arc<str>,
    domain: Arc<str>,
    descriptor: Descriptor,
}

impl Question {
    fn is_for(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.domain == other.domain
    }

    /// The limit that is asked for, and who counts.
    fn limit<'e>(&self, exchange: &'e Exchange) -> Option<(&'e Limit, &'e Global, &'e Held)> {
        let limit = limits(exchange)?.all().get(self.number)?;
        let Place::Global(global) = &limit.place else { return None };
        Some((limit, global, exchange.installed.limits.get(self.number)?))
    }
}

/// What is to be asked, the last one first.
fn questions(exchange: &Exchange, request: &Head) -> Vec<Question> {
    let mut all = Vec::new();
    let Some(limits) = limits(exchange) else { return all };
    let asked = asked(exchange, request);
    let shown: Result<(), std::convert::Infallible> = limits.each(&asked, |number, limit| {
        let Place::Global(global) = &limit.place else { return Ok(()) };
        if let Some(entries) = limit.key.entries(&asked) {
            let entries = entries.into_iter().map(|(key, value)| Entry { key, value }).collect();
            let (cluster, domain) = (Arc::clone(&global.cluster_name), Arc::clone(&global.domain));
            all.push(Question { number, cluster, domain, descriptor: Descriptor { entries } });
        }
        Ok(())
    });
    debug_assert!(shown.is_ok(), "nothing stops it");
    all.reverse();
    all
}

/// `None`: there is no word of the service.
async fn ask(desk: &Desk, exchange: &Exchange, same: &[Question]) -> Option<RateLimitResponse> {
    let (limit, global, held) = same.first()?.limit(exchange)?;
    let upstream = exchange.installed.upstream(global.cluster?);
    let h2 = speaks_h2(upstream.cluster.protocol, true);
    let way = Way::of_question(desk, upstream, h2, &exchange.facts);
    let authority = authority_of(&global.cluster_name);
    // The most patient of them, as one answer is for all.
    let patience = same.iter().filter_map(|one| Some(one.limit(exchange)?.1.timeout)).max().unwrap_or(global.timeout);
    let method = Method { path: METHOD, authority: &authority, limit: patience, headers: &[] };
    let descriptors = same.iter().map(|one| one.descriptor.clone()).collect();
    let question = RateLimitRequest { domain: global.domain.to_string(), descriptors, hits_addend: 1 };
    match unary(desk, way, method, question).await {
        Ok(answer) => Some(answer),
        Err(why) => {
            if held.may_tell(exchange.installed.buckets.now()) {
                tracing::warn!(limit = %limit.name, service = %global.cluster_name, %why, "the rate limit service says nothing");
            }
            None
        }
    }
}

/// What the service's word means for a request.
fn judge(exchange: &mut Exchange, same: &[Question], answer: Option<&RateLimitResponse>) -> Result<(), Failure> {
    let mut told = Told::default();
    let mut failure = None;
    for (index, question) in same.iter().enumerate() {
        let Some((limit, global, held)) = question.limit(exchange) else { continue };
        let code = answer.map(|answer| code(answer, (index, same.len())));
        let status = answer.and_then(|answer| status(answer, (index, same.len())));
        match code {
            None | Some(Code::Unknown) => {
                held.count(Verdict::Failed);
                if !global.fail_open && !limit.dry_run {
                    failure = failure.or_else(|| Some(Failure::LimiterFailed(Arc::clone(&limit.name))));
                }
            }
            Some(Code::OverLimit) if limit.dry_run => held.count(Verdict::DryRun),
            Some(Code::OverLimit) => {
                held.count(Verdict::Refused);
                let limit_name = Arc::clone(&limit.name);
                failure = Some(Failure::RateLimited { limit: limit_name, status: limit.status, global: true });
                let wait = status.and_then(|status| time(status.duration_until_reset));
                // Of several, the one that is longest in the way.
                if !told.refused || wait > told.wait {
                    told.wait = wait;
                    told.allowance = status.filter(|_| limit.tells_refused).and_then(|status| allowance(limit, status));
                }
                told.refused = true;
            }
            Some(Code::Ok) => {
                held.count(Verdict::Passed);
                if limit.tells_passed && !told.refused {
                    told.allowance = status.and_then(|status| allowance(limit, status)).or(told.allowance.take());
                }
            }
        }
    }
    let more = answer.map(|answer| answer.response_headers_to_add.as_slice()).unwrap_or_default();
    told.more = more.iter().filter_map(field).collect();
    if told.refused {
        exchange.told = Some(Box::new(told));
    } else if told.allowance.is_some() || !told.more.is_empty() {
        let before = exchange.told.get_or_insert_default();
        before.more.append(&mut told.more);
        let tighter = |new: &Allowance| before.allowance.as_ref().is_none_or(|old| new.left < old.left);
        if let Some(new) = told.allowance.filter(|new| tighter(new)) {
            before.allowance = Some(new);
        }
    }
    failure.map_or(Ok(()), Err)
}

/// A service that says nothing of each descriptor says it of all together.
fn code(answer: &RateLimitResponse, which: (usize, usize)) -> Code {
    let own = status(answer, which).map(|status| status.code);
    Code::try_from(own.unwrap_or(answer.overall_code)).unwrap_or(Code::Unknown)
}

/// What is said of one descriptor of so many.
fn status(answer: &RateLimitResponse, (index, asked): (usize, usize)) -> Option<&Status> {
    answer.statuses.get(index).filter(|_| answer.statuses.len() == asked)
}

fn allowance(limit: &Limit, status: &Status) -> Option<Allowance> {
    let current = status.current_limit?;
    let window = Unit::try_from(current.unit).unwrap_or(Unit::Unknown).seconds();
    Some(Allowance {
        name: Arc::clone(&limit.short),
        quota: current.requests_per_unit.into(),
        window: Duration::from_secs(window),
        left: status.limit_remaining.into(),
        reset: time(status.duration_until_reset).unwrap_or_default(),
    })
}

fn time(span: Option<envoy::Span>) -> Option<Duration> {
    let envoy::Span { seconds, nanos } = span?;
    Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?))
}

/// A header field of the service, unless it would break the answer.
fn field(value: &envoy::HeaderValue) -> Option<(String, String)> {
    let (name, text) =
        (HeaderName::from_bytes(value.key.as_bytes()).ok()?, HeaderValue::from_bytes(value.bytes()).ok()?);
    const FRAMING: [&str; 10] = [
        "content-length",
        "transfer-encoding",
        "connection",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "te",
        "content-type",
        "date",
    ];
    let harmless = !FRAMING.contains(&name.as_str());
    Some((name.as_str().to_owned(), text.to_str().ok()?.to_owned())).filter(|_| harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_for_each_counts_where_there_is_one_for_each() {
        let status = |code: Code| Status { code: code as i32, ..Status::default() };
        let answer = |overall: Code, each: &[Code]| RateLimitResponse {
            overall_code: overall as i32,
            statuses: each.iter().map(|code| status(*code)).collect(),
            response_headers_to_add: Vec::new(),
        };
        let both = answer(Code::OverLimit, &[Code::Ok, Code::OverLimit]);
        assert_eq!((code(&both, (0, 2)), code(&both, (1, 2))), (Code::Ok, Code::OverLimit));
        assert_eq!(code(&answer(Code::OverLimit, &[]), (0, 2)), Code::OverLimit);
        assert_eq!(code(&answer(Code::Unknown, &[]), (0, 1)), Code::Unknown);
        let other = RateLimitResponse { overall_code: 77, ..answer(Code::Ok, &[]) };
        assert_eq!(code(&other, (0, 1)), Code::Unknown);
    }

    #[test]
    fn fields_that_would_break_the_answer_are_left_out() {
        let value = |key: &str, value: &str| envoy::HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        };
        assert_eq!(field(&value("X-Tier", "gold")), Some(("x-tier".to_owned(), "gold".to_owned())));
        for (key, text) in [
            ("Content-Length", "0"),
            ("a b", "1"),
            ("x", "a\r\nb"),
            (":status", "200"),
            ("", ""),
            ("Date", "a"),
            ("te", "trailers"),
            ("Keep-Alive", "a"),
        ] {
            assert_eq!(field(&value(key, text)), None, "{key}");
        }
        assert_eq!(time(Some(envoy::Span { seconds: 1, nanos: 5 })), Some(Duration::new(1, 5)));
        assert_eq!(time(Some(envoy::Span { seconds: -1, nanos: 0 })), None);
    }
}
