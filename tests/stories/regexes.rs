//! Regular expressions are RE2's: what RE2 accepts is accepted with the same answer, what it refuses is refused.

use std::{env, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fastrand::Rng;
use harness::program;
use routing::re2::{Expression, Substitution};
use serde_json::{Value, json};

mod chance;

use chance::Case;

/// A Python that has RE2. Says loudly that the story is skipped when there is none.
async fn python(story: &str) -> Option<std::path::PathBuf> {
    let python = program::executable(story, "python")?;
    let has = program::run(&python, &["-c", "import re2"], b"").await.status.success();
    if !has {
        eprintln!("SKIPPED story {story}: {} has no google-re2: run `make deps`", python.display());
    }
    has.then_some(python)
}

/// What RE2 says of each case.
async fn verdicts(python: &Path, cases: &[Case]) -> Vec<Value> {
    let line = |case: &Case| {
        let texts: Vec<String> = case.texts.iter().map(|text| BASE64_STANDARD.encode(text)).collect();
        json!({"pattern": case.pattern, "with": case.with, "texts": texts}).to_string() + "\n"
    };
    let lines: String = cases.iter().map(line).collect();
    let output = program::run(python, &[program::script("judge_re2.py")], lines.as_bytes()).await;
    let said: Vec<Value> = output.stdout.split(|&byte| byte == b'\n').flat_map(serde_json::from_slice).collect();
    assert_eq!(said.len(), cases.len(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// How much of what was compared was anything at all.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    matched: usize,
    unmatched: usize,
    replaced: usize,
    too_large: usize,
    differences: Vec<String>,
}

impl Tally {
    fn pairs(&self) -> usize {
        self.matched + self.unmatched
    }

    fn compare(&mut self, case: &Case, verdict: &Value) {
        let pattern = &case.pattern;
        let ours = (Expression::whole(pattern), Expression::part(pattern));
        match (verdict["refused"].as_str(), ours) {
            (Some(why), (Err(fault), Err(_))) => {
                self.refused += 1;
                if fault.is_syntax() == why.contains("too large") {
                    self.differences.push(format!("{pattern:?}: RE2 says {why}, we say {fault}"));
                }
            }
            (None, (Ok(whole), Ok(part))) => self.answers(case, verdict, &whole, &part),
            // Istio's proxies refuse it, too, though RE2 could.
            (None, (Err(fault), _)) if !fault.is_syntax() && verdict["size"].as_u64() > Some(32_768) => {
                self.too_large += 1
            }
            (refused, (whole, _)) => {
                let ours = whole.map_or_else(|fault| fault.to_string(), |_| "nothing".to_owned());
                self.differences.push(format!("{pattern:?}: RE2 objects {refused:?}, we {ours}"));
            }
        }
    }

    fn answers(&mut self, case: &Case, verdict: &Value, whole: &Expression, part: &Expression) {
        let with = Substitution::new(&case.with).expect("the substitutions here are valid");
        for (number, text) in case.texts.iter().enumerate() {
            let (ours, theirs) = (whole.is_match(text), verdict["whole"][number] == true);
            *if theirs { &mut self.matched } else { &mut self.unmatched } += 1;
            let place = || format!("{:?} at {:?}", case.pattern, String::from_utf8_lossy(text));
            if ours != theirs {
                self.differences.push(format!("{} ({text:x?}): RE2 {theirs}, we {ours}", place()));
            }
            let Ok(text) = str::from_utf8(text) else { continue };
            let bytes = BASE64_STANDARD.decode(verdict["replaced"][number].as_str().unwrap_or_default());
            let theirs = String::from_utf8_lossy(&bytes.expect("the judge writes base64")).into_owned();
            self.replaced += usize::from(theirs != text);
            let ours = part.replace_all(text, &with);
            if ours != theirs {
                self.differences.push(format!("{} by {:?}: RE2 {theirs:?}, we {ours:?}", place(), case.with));
            }
        }
    }
}

#[tokio::test]
async fn twenty_thousand_expressions_and_texts_mean_the_same_to_re2() {
    let Some(python) = python("twenty_thousand_expressions_and_texts_mean_the_same_to_re2").await else { return };
    let chance =
        env::var("SLUICE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    for seed in [20, chance] {
        let mut rng = Rng::with_seed(seed);
        let cases: Vec<Case> = (0..6_000).map(|_| Case::new(&mut rng)).collect();
        let verdicts = verdicts(&python, &cases).await;
        let mut tally = Tally::default();
        for (case, verdict) in cases.iter().zip(&verdicts) {
            tally.compare(case, verdict);
        }
        println!("SLUICE_TEST_SEED={seed}: {} pairs, {tally:?}", tally.pairs());
        let shown = tally.differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
        assert!(tally.differences.is_empty(), "SLUICE_TEST_SEED={seed}: {}\n{shown}", tally.differences.len());
        assert!(tally.pairs() > 10_000 && tally.matched > 1_500 && tally.refused > 1_000 && tally.replaced > 1_000);
    }
}
