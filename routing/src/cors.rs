//! Cross-origin rules (Istio `CorsPolicy`): which pages may ask, and what their browsers are told.

use http::{
    HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    },
};

use crate::{
    pattern::StringPattern,
    request::{Headers, RequestView},
    rule::EditHeaders,
};

/// Compiled `CorsPolicy`.
#[derive(Debug, Default)]
pub struct Cors {
    /// `allowOrigins`. One that `*` fulfils is fulfilled by every origin.
    pub origins: Vec<StringPattern>,
    /// `allowMethods`; `*` stands for the one that is asked for.
    pub methods: Option<HeaderValue>,
    /// `allowHeaders`; `*` stands for those that are asked for.
    pub headers: Option<HeaderValue>,
    /// `exposeHeaders`.
    pub expose: Option<HeaderValue>,
    /// `maxAge` in seconds.
    pub max_age: Option<HeaderValue>,
    /// `allowCredentials`.
    pub credentials: bool,
    /// `unmatchedPreflights: IGNORE`: preflights of other origins do not reach the service.
    pub ignore_unmatched: bool,
}

/// What a policy makes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It says nothing about it: no page asks, or one that may not, whose browser will hide the answer from it.
    Pass,
    /// The answer is to say that the page may read it: see [`Cors::mark`].
    Mark,
    /// A preflight of a page that may ask: see [`Cors::answer`].
    Answer,
    /// A preflight of a page that may not ask, which the service does not get to see.
    Ignore,
}

impl Cors {
    /// What to do with a request.
    pub fn judge(&self, request: &RequestView<'_>) -> Verdict {
        let given = |name| request.headers.nth(name, 0).filter(|value| !value.is_empty());
        let Some(origin) = given(&ORIGIN) else { return Verdict::Pass };
        let preflight = request.method == "OPTIONS" && given(&ACCESS_CONTROL_REQUEST_METHOD).is_some();
        match (self.allows(origin), preflight) {
            (true, true) => Verdict::Answer,
            (true, false) => Verdict::Mark,
            (false, true) if self.ignore_unmatched => Verdict::Ignore,
            (false, _) => Verdict::Pass,
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|allowed| allowed.matches("*") || allowed.matches(origin))
    }

    /// Tells in the answer to a request of an allowed page that the page may read it, whatever the service has said of that.
    pub fn mark(&self, request: &dyn Headers, answer: &mut impl EditHeaders) {
        self.name_origin(request, answer);
        set(answer, &ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
    }

    /// Puts what a preflight has asked for into its answer.
    pub fn answer(&self, request: &dyn Headers, answer: &mut impl EditHeaders) {
        self.name_origin(request, answer);
        let methods = echo(self.methods.as_ref(), request, &ACCESS_CONTROL_REQUEST_METHOD);
        let headers = echo(self.headers.as_ref(), request, &ACCESS_CONTROL_REQUEST_HEADERS);
        set(answer, &ACCESS_CONTROL_ALLOW_METHODS, methods);
        set(answer, &ACCESS_CONTROL_ALLOW_HEADERS, headers);
        set(answer, &ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
    }

    fn name_origin(&self, request: &dyn Headers, answer: &mut impl EditHeaders) {
        set(answer, &ACCESS_CONTROL_ALLOW_ORIGIN, value(request, &ORIGIN));
        let credentials = self.credentials.then(|| HeaderValue::from_static("true"));
        set(answer, &ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
    }
}

/// The configured value; for `*` what was asked for, since browsers that send credentials do not take a `*`.
fn echo(configured: Option<&HeaderValue>, request: &dyn Headers, asked: &HeaderName) -> Option<HeaderValue> {
    let configured = configured?;
    if configured == "*" { value(request, asked) } else { Some(configured.clone()) }
}

fn value(request: &dyn Headers, name: &HeaderName) -> Option<HeaderValue> {
    HeaderValue::from_bytes(request.nth(name, 0)?).ok()
}

fn set(answer: &mut impl EditHeaders, name: &HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        answer.set(name, value);
    }
}

#[cfg(test)]
mod tests;
