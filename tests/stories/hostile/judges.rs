//! Other readers judge what the gateway writes, and what it takes: h11 and h2 of Python, which are strict.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use harness::{
    endpoint::{Call, Endpoint},
    mesh::{HOST, Mesh},
    message::{Answer, Ask, COMBINATIONS, Version},
    program,
};
use serde_json::Value;

use super::{AFTER, PATIENCE, Seen, Stand, exchange, frames, latin, pieces, table::Case};
use crate::versions::{Versions, addresses};

/// Each of these through a script of `tests/peers`, a line for each.
async fn judge(python: &Path, arguments: &[&str], all: &[Vec<u8>]) -> Vec<String> {
    let lines: String = all.iter().map(|bytes| BASE64_STANDARD.encode(bytes) + "\n").collect();
    let output = program::run(python, arguments, lines.as_bytes()).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Vec<String> = said.lines().map(str::to_owned).collect();
    assert_eq!(said.len(), all.len(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// What a judge of HTTP/1.1 took bytes for.
struct Verdict(Value);

impl Verdict {
    fn requests(&self) -> &[Value] {
        self.0["requests"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Why the rest was refused.
    fn refused(&self) -> Option<&str> {
        self.0["refused"].as_str()
    }
}

/// Fields as a judge tells them, names in lower case.
fn fields(told: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    told.as_array().into_iter().flatten().map(|one| (text(&one[0]), text(&one[1]))).collect()
}

/// What the gateway forwarded is one request, and to the judge the same as to the endpoint.
fn is_clean(seen: &Seen, verdict: &Verdict) -> Result<(), String> {
    let request = seen.request.as_ref().map_err(Clone::clone)?;
    let [judged] = verdict.requests() else { return Err(format!("h11 says of it {}", verdict.0)) };
    let line =
        format!("{} {} HTTP/1.1", judged["method"].as_str().unwrap_or("-"), judged["target"].as_str().unwrap_or("-"));
    let same = verdict.refused().is_none()
        && line == request.line
        && fields(&judged["fields"]) == request.fields
        && judged["body"] == *request.body
        && fields(&judged["trailers"]) == request.trailers;
    if same { Ok(()) } else { Err(format!("h11 says of it {}", verdict.0)) }
}

/// Where the gateway takes what the judge refuses, the case says why; where both take it, its content is the same.
fn agrees(case: &Case, seen: &[Seen], verdict: &Verdict) -> Result<(), String> {
    let mut refused = None;
    // What the gateway answers itself, the endpoint does not see.
    let mut judged = verdict.requests().iter();
    for request in seen.iter().filter_map(|seen| seen.request.as_ref().ok()) {
        let same = |judged: &Value| {
            judged["body"] == *request.body && fields(&judged["trailers"]).len() >= request.trailers.len()
        };
        if !judged.by_ref().any(same) {
            let why = verdict.refused().ok_or_else(|| format!("{} to us is {} to h11", request.text(), verdict.0))?;
            refused = Some(why);
        }
    }
    match (refused, case.value("h11:")) {
        (None, None) | (Some(_), Some(_)) => Ok(()),
        (Some(why), None) => Err(format!("h11 refuses it ({why}), and the table does not say why we take it")),
        (None, Some(_)) => Err("h11 takes it, too, or it is not forwarded: the table need not say why".to_owned()),
    }
}

#[tokio::test]
async fn what_is_forwarded_is_one_clean_request_to_h11_and_what_h11_refuses_is_taken_for_a_reason() {
    let story = "what_is_forwarded_is_one_clean_request_to_h11";
    let Some(python) = program::executable(story, "python") else { return };
    let script = program::script("judge_h11.py");
    let stand = Stand::up(false).await;
    let tables = [include_str!("framing.txt"), include_str!("target.txt"), include_str!("fields.txt")].map(Case::all);
    let (mut told, mut all) = (Vec::new(), Vec::new());
    for case in tables.into_iter().flatten().filter(|case| case.value("seen:") != Some("any")) {
        let (mut bytes, finish) = (case.bytes(), case.has("fin"));
        if !finish {
            bytes.extend(AFTER);
        }
        stand.tell(&bytes, finish).await;
        let mut seen = stand.endpoint.take().await;
        seen.retain(|seen| !seen.request.as_ref().is_ok_and(|request| request.line.contains(" /any ")));
        all.push(bytes);
        all.extend(seen.iter().map(|seen| seen.bytes.clone()));
        told.push((case, seen));
    }

    let mut verdicts = judge(&python, &[&script], &all)
        .await
        .into_iter()
        .map(|line| Verdict(serde_json::from_str(&line).expect("a verdict is JSON")));

    let (mut wrong, mut forwarded) = (Vec::new(), 0);
    for (case, seen) in &told {
        let mut next = || verdicts.next().expect("a verdict for each");
        let agreed = agrees(case, seen, &next());
        let clean = seen.iter().map(|seen| is_clean(seen, &next())).collect::<Result<Vec<()>, _>>();
        wrong.extend(agreed.and(clean).err().map(|why| format!("{}: {why}", case.name)));
        forwarded += seen.len();
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), told.len(), wrong.join("\n"));
    assert!(forwarded > 100, "{forwarded} requests were forwarded");
}

#[tokio::test]
async fn answers_to_frames_against_the_rules_are_frames_by_the_rules() {
    let story = "answers_to_frames_against_the_rules_are_frames_by_the_rules";
    let Some(python) = program::executable(story, "python") else { return };
    let script = program::script("judge_h2.py");
    let stand = Stand::up(false).await;
    let cases = Case::all(include_str!("frames.txt"));
    let mut all = Vec::new();
    for case in &cases {
        let script: Vec<u8> = case.texts("script:").flat_map(|text| latin(&text)).collect();
        stand.endpoint.script(script, case.has("close"), false);
        let bytes = [frames::opening(case), frames::written(case), frames::honest()].concat();
        let complete = |heard: &frames::Heard| heard.streams.contains_key(&frames::AFTER);
        all.push(exchange(stand.address(), pieces(&bytes, false), complete).await.all);
    }

    let verdicts = judge(&python, &[&script, "frames"], &all).await;

    let wrong = cases.iter().zip(verdicts).filter(|(_, verdict)| verdict != "ended");
    let wrong: Vec<String> = wrong.map(|(case, verdict)| format!("{}: {verdict}", case.name)).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(all.iter().all(|bytes| !bytes.is_empty()));
}

/// What `judge_h2.py serve` does, in HTTP/1.1.
async fn play(mut call: Call) {
    let path = call.path.clone();
    if path.ends_with("/early") {
        return call.answer(Answer::new(413, "early")).await;
    }
    if path.ends_with("/reset") {
        return call.hang_up().await;
    }
    let (body, _) = call.read().await;
    if path.ends_with("/hints") {
        call.interim(103, &[("link", "</a.css>; rel=preload")]).await;
        call.interim(103, &[("link", "</b.css>; rel=preload")]).await;
    }
    let answer = match path.as_str() {
        path if path.ends_with("/204") => Answer::new(204, "").header("etag", "\"a\""),
        path if path.ends_with("/large") => Answer::new(200, vec![b'x'; 300_000]),
        path if path.ends_with("/trailers") => Answer::new(200, "x").trailer("x-sum", "1").trailer("x-sum", "2"),
        _ => Answer::new(200, body.len().to_string()),
    };
    call.answer(answer.header("set-cookie", "a=b").header("set-cookie", "c=d")).await;
}

#[tokio::test]
async fn every_frame_that_is_written_is_accepted_by_h2_of_python() {
    let story = "every_frame_that_is_written_is_accepted_by_h2_of_python";
    let Some(python) = program::executable(story, "python") else { return };
    let script = program::script("judge_h2.py");
    let mesh = Mesh::with_edge();
    let [one, two] = addresses(&mesh);
    let _one = Endpoint::start(one, Version::One, play).await;
    let (host, port) = (two.ip().to_string(), two.port().to_string());
    let versions = Versions::stand(mesh).await;
    let gateway = versions.gateway.addresses().second;
    let (gateway_host, gateway_port) = (gateway.ip().to_string(), gateway.port().to_string());

    // Each with other settings.
    for settings in ["0", "1", "2", "3"] {
        let mut server = program::serve("h2", &python, &[&*script, "serve", &host, &port, settings], &[two]).await;
        for combination in COMBINATIONS.into_iter().filter(|(_, endpoint)| *endpoint == Version::Two) {
            let post = |path, length| Ask::post(path, Bytes::from(vec![b'x'; length]));
            let asks = [
                Ask::get("/"),
                Ask::new("HEAD", "/"),
                Ask::get("/204"),
                post("/small", 10).header("cookie", "a=b; c=d"),
                post("/all", 300_000),
                Ask::get("/large"),
                Ask::get("/hints"),
                post("/trailers", 100).header("te", "trailers").trailer("x-sum", "1"),
                post("/early", 40_000),
                Ask::get("/reset"),
            ];
            for ask in asks {
                let what = format!("{} {} in {combination:?}, settings {settings}", ask.method, ask.path);
                let right = right(&ask.path);
                let status = versions.ask(combination, ask).await.map_or(0, |answer| answer.status);
                assert_eq!(status, right, "{what}: {}", server.stdout());
            }
        }
        let arguments = [&*script, "ask", &gateway_host, &gateway_port, HOST, settings];
        let client = program::run(&python, &arguments, &[]).await;
        let (heard, errors) = (String::from_utf8_lossy(&client.stdout), String::from_utf8_lossy(&client.stderr));
        assert!(client.status.success() && !heard.contains("REFUSED"), "settings {settings}: {heard} {errors}");
        for line in heard.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let right =
                if words[1].starts_with("/nowhere") && !words[1].contains("%zz") { 404 } else { right(words[1]) };
            assert_eq!(words[2], right.to_string(), "settings {settings}: {line}");
        }
        assert_eq!(heard.lines().count(), 36, "settings {settings}: {heard} {errors}");
        let (said, errors) = (server.stdout(), server.stderr());
        assert!(!said.contains("REFUSED") && errors.is_empty(), "settings {settings}: {said} {errors}");
        server.signal("KILL");
        server.wait_exit(PATIENCE).await;
    }
    let log = versions.gateway.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// The status that a path is answered with.
fn right(path: &str) -> u16 {
    match path.rsplit('/').next().unwrap_or_default() {
        "204" => 204,
        "early" => 413,
        "reset" => 503,
        "%zz" => 400,
        _ => 200,
    }
}
