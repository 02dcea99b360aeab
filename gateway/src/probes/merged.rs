//! The proxy's metrics and the application's, as one answer.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use tracing::debug;

use super::{Application, ask, asked::number};

/// Of each place, at most; more is left out as a whole, since half of it would be wrong.
const MOST: usize = 10 << 20;
/// Longest wait, unless Prometheus says how long it waits itself.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// How long Prometheus waits.
const TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// What is asked for, so that parts can be put one behind the other.
const TEXT: &str = "text/plain;version=0.0.4;q=0.9,*/*;q=0.1";

/// Where the application has metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) port: u16,
    pub(super) path: String,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Written {
    scrape: String,
    port: Option<Value>,
    path: String,
    targets: Vec<WrittenTarget>,
}

#[derive(Deserialize)]
struct WrittenTarget {
    port: Value,
    path: String,
}

/// Port of an application that says nothing but that it is to be scraped.
const PORT: u16 = 80;

/// Reads the JSON that the injection wrote; an empty text is no place.
///
/// # Errors
/// It is something else.
pub(super) fn read(text: &str) -> Result<Vec<Target>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let written: Written = serde_json::from_str(text).context("it is not the JSON of an injection")?;
    let one = |port: &Value, path: String| {
        let path = if path.is_empty() { "/metrics".to_owned() } else { path };
        if !path.starts_with('/') {
            bail!("the path {path} does not begin with a slash");
        }
        Ok(Target { port: number(port)?, path })
    };
    if !written.targets.is_empty() {
        return written.targets.into_iter().map(|it| one(&it.port, it.path)).collect();
    }
    if written.scrape != "true" {
        return Ok(Vec::new());
    }
    Ok(vec![one(&written.port.unwrap_or(PORT.into()), written.path)?])
}

/// All of it; what cannot be had is left out. `asked` are the headers of whoever asks.
pub(super) async fn collect(own: String, targets: &[Target], application: Application, asked: &HeaderMap) -> String {
    let patience = patience(asked);
    let parts = join_all(targets.iter().map(|target| async move {
        let part = timeout(patience, scrape(target, application)).await;
        match part.map_err(|_| anyhow::anyhow!("no answer within {patience:?}")).and_then(|part| part) {
            Ok(part) => Some(part),
            Err(why) => {
                debug!(
                    port = target.port,
                    path = target.path,
                    error = format!("{why:#}"),
                    "the application's metrics cannot be had"
                );
                None
            }
        }
    }));
    let parts: Vec<Option<String>> = parts.await;
    put_together(own, &parts)
}

fn patience(asked: &HeaderMap) -> Duration {
    let said = asked.get(TIMEOUT).and_then(|it| it.to_str().ok()?.parse::<f64>().ok());
    let said = said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|it| !it.is_zero());
    // Prometheus has to get what there is before it gives up.
    said.map_or(PATIENCE, |said| said.mul_f64(0.9)).min(LONGEST)
}

async fn scrape(target: &Target, application: Application) -> Result<String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static(TEXT));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let answer = ask::get(application, (false, target.port), &target.path, &headers).await?;
    if !answer.status().is_success() {
        bail!("it answers with {}", answer.status());
    }
    let body = ask::whole(answer.into_body(), MOST).await?;
    String::from_utf8(body.into()).context("it is no text")
}

/// What both count of their own process is told of the application: two series of one name are a fault.
fn put_together(own: String, parts: &[Option<String>]) -> String {
    let theirs = |text: &str| text.lines().any(|line| line.starts_with(PROCESS));
    let mut all = if parts.iter().flatten().any(|part| theirs(part)) { without_process(&own) } else { own };
    let missing = parts.iter().filter(|part| part.is_none()).count();
    for part in parts.iter().flatten() {
        if !all.ends_with('\n') && !all.is_empty() {
            all.push('\n');
        }
        // The end of OpenMetrics; there may be more behind it.
        all.push_str(part.trim_end().strip_suffix("# EOF").unwrap_or(part).trim_end());
        all.push('\n');
    }
    all.push_str(
        "# HELP sluice_application_scrapes_failed Places of the application's metrics that could not be read.\n",
    );
    all.push_str("# TYPE sluice_application_scrapes_failed gauge\n");
    all.push_str(&format!("sluice_application_scrapes_failed {missing}\n"));
    all
}

const PROCESS: &str = "process_";

fn without_process(text: &str) -> String {
    let about = |line: &str| {
        let line = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
        line.starts_with(PROCESS)
    };
    text.split_inclusive('\n').filter(|line| !about(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_injection_writes_them() {
        let target = |port, path: &str| Target { port, path: path.to_owned() };
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read(r#"{"scrape":"true"}"#).unwrap(), [target(80, "/metrics")]);
        assert_eq!(read(r#"{"scrape":"true","port":"9102","path":"/m"}"#).unwrap(), [target(9102, "/m")]);
        assert_eq!(read(r#"{"port":"9102"}"#).unwrap(), [], "nobody asked for it");
        let several = r#"{"targets":[{"port":"1","path":"/a"},{"port":2,"path":"/b"}]}"#;
        assert_eq!(read(several).unwrap(), [target(1, "/a"), target(2, "/b")]);
        assert!(read("x").is_err() && read(r#"{"scrape":"true","port":"web"}"#).is_err());
    }

    #[test]
    fn parts_stand_one_behind_the_other() {
        let own = "# TYPE a counter\na 1\n# TYPE process_open_fds gauge\nprocess_open_fds 3\n".to_owned();
        let both = put_together(own.clone(), &[Some("b 2\n# EOF\n".to_owned()), None]);
        assert!(both.contains("a 1\n") && both.contains("\nb 2\n") && !both.contains("EOF"));
        assert!(both.ends_with("sluice_application_scrapes_failed 1\n") && both.contains("process_open_fds 3"));
        let twice = put_together(own, &[Some("process_open_fds 9".to_owned())]);
        assert!(
            twice.contains("process_open_fds 9\n")
                && !twice.contains("process_open_fds 3")
                && !twice.contains("gauge\nprocess")
        );
    }

    #[test]
    fn prometheus_is_answered_before_it_gives_up() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, text.parse().unwrap());
            patience(&headers)
        };
        assert_eq!(with("10"), Duration::from_secs(9));
        assert_eq!(with("1e9"), LONGEST);
        for odd in ["", "-1", "nan", "0", "ten"] {
            assert_eq!(with(odd), PATIENCE, "{odd}");
        }
    }
}
