//! Programs that talk to the kernel: what goes in, what comes out, and what an error means.

use std::{
    io::{ErrorKind, Write as _},
    process::{Command, Stdio},
};

/// Why a program did not do it.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not installed.
    Missing,
    /// It said no; a sentence.
    Refused(String),
}

impl Failure {
    /// For people.
    pub(super) fn sentence(&self, program: &str) -> String {
        match self {
            Self::Missing => format!("{program} is not installed"),
            Self::Refused(why) => why.clone(),
        }
    }
}

/// Runs a program to its end and gives what it printed.
pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its words are read below.
    command.env("LC_ALL", "C");
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::Missing,
        _ => Failure::Refused(format!("{program} cannot be started: {error}")),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read all says itself why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| Failure::Refused(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Refused(explain(program, &said)))
}

/// What a program said, and what to do about it.
fn explain(program: &str, said: &str) -> String {
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let said = said.take(3).collect::<Vec<_>>().join(" / ");
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let advice = if has(&["ermission denied", "not permitted", "must be root"]) {
        "; this needs root with CAP_NET_ADMIN and CAP_NET_RAW, as Istio's init container has"
    } else if has(&["xtables.lock"]) {
        "; its lock cannot be had: set XTABLES_LOCKFILE to a file that can be written"
    } else if has(&[
        "does not exist",
        "No chain/target/match",
        "insmod",
        "No such file",
        "not supported",
        "No such device",
    ]) {
        "; the kernel has no module for it: load nf_nat, xt_REDIRECT, xt_owner and xt_conntrack (iptables), or nft_chain_nat and \
         nft_redir (nftables), on the node"
    } else {
        ""
    };
    format!("{program}: {said}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_comes_with_what_to_do() {
        let rights = explain("nft", "Error: Could not process rule: Operation not permitted\nadd table\n^^^\n");
        assert!(rights.starts_with("nft: Error: Could not process rule: Operation not permitted"), "{rights}");
        assert!(rights.contains("CAP_NET_ADMIN"), "{rights}");
        let module =
            explain("iptables-save", "iptables-save v1.8.9: can't initialize table `nat': Table does not exist");
        assert!(module.contains("load nf_nat"), "{module}");
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_says_no() {
        assert!(matches!(run("sluice-no-such-program", &[], ""), Err(Failure::Missing)));
        assert!(matches!(run("false", &[], ""), Err(Failure::Refused(_))));
        assert_eq!(run("cat", &[], "word").unwrap(), "word");
    }
}
