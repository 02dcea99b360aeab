//! `sluice status`: every replica with its version, what it has in force, and whether that is what the others have.

mod admin;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    cli::{StatusAction, StatusFlags, output::Output},
    command::{beside, document, table},
    kubernetes::{
        told::{self, Told},
        withdraw::withdraw,
    },
    settings::{self, KubernetesSettings},
};

/// How a replica is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Health {
    /// It has what its leader has.
    InSync,
    /// It has something else.
    OutOfSync,
    /// It tells nothing any more.
    Silent,
}

impl Health {
    const fn name(self) -> &'static str {
        match self {
            Self::InSync => "in sync",
            Self::OutOfSync => "OUT OF SYNC",
            Self::Silent => "SILENT",
        }
    }
}

/// Asks and prints, or withdraws what is told. Exit code 1 when a replica is out of sync or silent, 2 when nobody could be asked, else 0.
///
/// # Errors
/// The runtime cannot be started.
pub(crate) fn run(flags: &StatusFlags) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (kubeconfig, context) = (flags.kubeconfig.clone(), flags.context.clone());
    let settings = KubernetesSettings { kubeconfig, context, ..KubernetesSettings::default() };
    match &flags.action {
        Some(StatusAction::Withdraw { name }) => {
            return Ok(runtime.block_on(take_back(&settings, flags.namespace.clone(), name.clone())));
        }
        Some(StatusAction::Wait { limit, admin }) => return Ok(runtime.block_on(beside::wait(*admin, *limit))),
        Some(StatusAction::Drain { admin }) => return Ok(runtime.block_on(beside::drain(*admin))),
        None => {}
    }
    let asked = if flags.admin.is_empty() {
        runtime.block_on(told::read(&settings, flags.namespace.as_deref()))
    } else {
        runtime.block_on(admin::read(&flags.admin))
    };
    let mut told = match asked {
        Ok(told) => told,
        Err(error) => {
            eprintln!("sluice: {error:#} (try `sluice help status`)");
            return Ok(ExitCode::from(2));
        }
    };
    told.sort_by(|a, b| (&a.namespace, &a.workload, &a.replica).cmp(&(&b.namespace, &b.workload, &b.replica)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let healths = healths(&told, now);
    let out = io::stdout().lock();
    // A reader that went away (`| head`) has seen enough.
    let _ = match flags.output {
        Output::Text => text(out, &told, &healths, now),
        Output::Json => document::json(out, &listed(&told, &healths, now)),
        Output::Yaml => document::yaml(out, &listed(&told, &healths, now)),
    };
    Ok(ExitCode::from(u8::from(healths.iter().any(|health| *health != Health::InSync))))
}

/// How each replica is doing. What counts is what the leader of its workload has; without one, what most have.
fn healths(told: &[Told], now: i64) -> Vec<Health> {
    let silent = |it: &Told| {
        let age = it.told_at.map(|at| u64::try_from(now.saturating_sub(at)).unwrap_or(0));
        it.lives.is_some_and(|lives| age.is_none_or(|age| age > lives.as_secs()))
    };
    // Whether the leader has a content, and how many have it.
    type Ranks<'t> = BTreeMap<&'t str, (bool, usize)>;
    let mut contents: BTreeMap<(&str, &str), Ranks<'_>> = BTreeMap::new();
    for it in told.iter().filter(|it| !silent(it)) {
        let of_workload = contents.entry((&it.namespace, &it.workload)).or_default();
        let (led, count) = of_workload.entry(&it.content).or_default();
        *led |= it.leader;
        *count += 1;
    }
    let right = |it: &Told| {
        let of_workload = contents.get(&(it.namespace.as_str(), it.workload.as_str()))?;
        of_workload.iter().max_by_key(|(_, rank)| **rank).map(|(content, _)| *content)
    };
    let health = |it: &Told| match right(it) {
        _ if silent(it) => Health::Silent,
        Some(content) if content == it.content => Health::InSync,
        _ => Health::OutOfSync,
    };
    told.iter().map(health).collect()
}

fn listed(told: &[Told], healths: &[Health], now: i64) -> Vec<Value> {
    let one = |(it, health): (&Told, &Health)| -> Value {
        json!({
            "namespace": it.namespace, "workload": it.workload, "replica": it.replica, "leader": it.leader,
            "version": it.version, "content": it.content, "snapshot": it.snapshot,
            "inSync": *health == Health::InSync, "silent": *health == Health::Silent,
            "certificates": {"count": it.certificates, "kept": it.kept, "next": it.next_end},
            "problems": {"errors": it.errors, "warnings": it.warnings},
            "ageSeconds": it.told_at.map(|at| now.saturating_sub(at).max(0)),
        })
    };
    told.iter().zip(healths).map(one).collect()
}

/// `sluice status withdraw`. Exit code 2 when it could not be done.
async fn take_back(settings: &KubernetesSettings, namespace: Option<String>, name: Option<String>) -> ExitCode {
    let done = async {
        let whose = settings::whose(namespace, name).map_err(anyhow::Error::msg)?;
        withdraw(settings, &whose).await.map(|count| (whose, count))
    };
    match done.await {
        Ok((whose, count)) => {
            let (noun, of) =
                (if count == 1 { "object" } else { "objects" }, format!("{}/{}", whose.namespace, whose.workload));
            println!("The conditions of {of} are gone from {count} {noun}.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sluice: {error:#} (try `sluice help status withdraw`)");
            ExitCode::from(2)
        }
    }
}

const HEADS: [&str; 8] = ["PROXY", "VERSION", "SNAPSHOT", "STATE", "LEADER", "CERTIFICATES", "PROBLEMS", "TOLD"];

fn text(mut out: impl Write, told: &[Told], healths: &[Health], now: i64) -> io::Result<()> {
    if told.is_empty() {
        return writeln!(out, "No replica of a gateway has told anything here.");
    }
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(told.iter().zip(healths).map(|(it, health)| row(it, *health, now)));
    table::print(&mut out, &rows)?;
    out.flush()
}

fn row(it: &Told, health: Health, now: i64) -> [String; 8] {
    let known = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let kept = if it.kept > 0 { format!(", {} kept", it.kept) } else { String::new() };
    let next = it.next_end.as_deref().map(|end| format!(", first ends {}", end.get(..10).unwrap_or(end)));
    let counted = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    [
        format!("{}/{}/{}", it.namespace, it.workload, it.replica),
        known(&it.version),
        known(&it.snapshot),
        health.name().to_owned(),
        if it.leader { "yes" } else { "" }.to_owned(),
        format!("{}{kept}{}", it.certificates, next.unwrap_or_default()),
        format!("{}, {}", counted(it.errors, "error"), counted(it.warnings, "warning")),
        it.told_at.map_or("never".to_owned(), |at| format!("{} s ago", now.saturating_sub(at).max(0))),
    ]
}
