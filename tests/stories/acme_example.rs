//! `examples/acme/run`: certificates that order themselves, on a laptop.

use std::time::Duration;

use harness::{
    binary::{repository, sluice},
    eventually::within,
    pebble::executables,
    process::Process,
    shell::{running_with, shell},
};
use tempfile::TempDir;

/// The example while it runs, in a folder whose name has a space in it.
struct Example {
    process: Process,
    folder: TempDir,
}

impl Example {
    /// `None`: there is no pebble, and that was said loudly.
    async fn start() -> Option<Self> {
        Self::start_in(TempDir::with_prefix("sluice example ").expect("a temporary folder can be made")).await
    }

    /// The same in a folder where one may have been before.
    async fn start_in(folder: TempDir) -> Option<Self> {
        let programs = executables("of the ACME example")?;
        let run = repository().join("examples/acme/run");
        let variables = [
            ("SLUICE_BIN", sluice().display().to_string()),
            ("SLUICE_TEST_PEBBLE", programs.pebble.display().to_string()),
            ("SLUICE_TEST_CHALLTESTSRV", programs.challtestsrv.display().to_string()),
        ];
        let mut process = Process::start_in("the example", &run, [folder.path()], &variables);
        within(Duration::from_secs(60), "the example says what to try", async || {
            assert!(process.ended().is_none(), "the example ended");
            process.stdout().contains("Ctrl-C ends everything.")
        })
        .await;
        Some(Self { process, folder })
    }

    /// Ctrl-C.
    async fn end(&mut self) {
        self.process.signal("INT");
        let ended = self.process.wait_exit(Duration::from_secs(10)).await;
        assert!(ended.success(), "{ended}");
    }

    /// The commands that it prints, in order.
    fn commands(&self) -> Vec<String> {
        let printed = self.process.stdout();
        let (_, tour) = printed.split_once("Try them").expect("something to try");
        let commands = tour.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with('#'));
        commands.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn the_example_gets_its_certificates_and_every_command_that_it_prints_works() {
    let Some(mut example) = Example::start().await else { return };

    let commands = example.commands();
    assert_eq!(commands.len(), 7, "{commands:#?}");
    for command in &commands[..2] {
        let (code, printed) = shell(command).await;
        assert_eq!(code, 0, "{command}: {printed}");
        assert!(printed.contains("shop-0"), "the backend answers {command}: {printed}");
    }
    let (code, printed) = shell(&commands[2]).await;
    assert!(code == 0 && printed.contains("301") && printed.contains("https://shop.example.com/"), "{printed}");
    for command in &commands[3..] {
        let (code, printed) = shell(command).await;
        assert_eq!(code, 0, "{command}: {printed}");
    }

    example.end().await;
    assert_eq!(running_with(&example.folder.path().display().to_string()), 0, "nothing is left running");
}

#[tokio::test]
async fn the_example_renews_when_it_is_told_to_and_starts_again_in_its_folder() {
    let Some(mut example) = Example::start().await else { return };
    let commands = example.commands();
    let (browse, list, renew, revoke) = (&commands[0], &commands[3], &commands[4], &commands[5]);

    for command in [renew, revoke] {
        let before = shell(list).await.1;
        assert_eq!(shell(command).await.0, 0, "{command}");
        within(Duration::from_secs(20), "another certificate is listed", async || {
            let now = shell(list).await.1;
            now != before && now.matches(" issued").count() == 2
        })
        .await;
    }
    let renewed = shell(browse).await;
    example.end().await;
    let again = Example::start_in(example.folder).await.expect("pebble was there");

    assert_eq!(renewed.0, 0, "{}", renewed.1);
    let (code, printed) = shell(&again.commands()[0]).await;
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn the_yaml_of_the_example_is_right_as_it_is() {
    let checked = std::process::Command::new(sluice())
        .args(["check".as_ref(), repository().join("examples/acme").as_os_str()])
        .output()
        .expect("sluice runs");
    let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && printed.contains("0 errors, 0 warnings"), "{printed}");
}
