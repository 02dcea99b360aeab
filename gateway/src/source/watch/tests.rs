use std::{fs, os::unix::fs::symlink};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a burst, so that what was not told by then will not be.
const SILENCE: Duration = Duration::from_millis(700);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.at(name), "x").unwrap();
    }

    fn watch(&self, name: &str) -> Watch {
        let mut watch = Watch::new(vec![self.at(name)], |path| path.extension().is_some_and(|it| it == "yaml"));
        watch.survey();
        watch
    }
}

async fn told(watch: &mut Watch) {
    timeout(PATIENCE, watch.changed()).await.expect("the change is told");
    watch.survey();
}

async fn silent(watch: &mut Watch) {
    timeout(SILENCE, watch.changed()).await.expect_err("nothing changed");
}

fn found(watch: &mut Watch) -> Vec<String> {
    let names = |file: Listed| file.path.file_name().unwrap().to_string_lossy().into_owned();
    watch.survey().files.into_iter().map(names).collect()
}

#[tokio::test]
async fn writing_renaming_and_deleting_are_changes_and_reading_is_not() {
    let folder = Folder::new();
    folder.write("a.yaml");
    let mut watch = folder.watch("");
    fs::read(folder.at("a.yaml")).unwrap();
    silent(&mut watch).await;

    folder.write("a.yaml");
    told(&mut watch).await;
    fs::rename(folder.at("a.yaml"), folder.at("b.yaml")).unwrap();
    told(&mut watch).await;
    fs::remove_file(folder.at("b.yaml")).unwrap();
    told(&mut watch).await;
    silent(&mut watch).await;
}

#[tokio::test]
async fn hidden_and_backup_files_are_no_changes() {
    let folder = Folder::new();
    let mut watch = folder.watch("");
    folder.write(".a.yaml.swp");
    folder.write("a.yaml~");
    silent(&mut watch).await;
}

#[tokio::test]
async fn files_in_a_new_folder_are_seen() {
    let folder = Folder::new();
    let mut watch = folder.watch("");
    fs::create_dir(folder.at("new")).unwrap();
    told(&mut watch).await;
    folder.write("new/a.yaml");
    told(&mut watch).await;
    assert_eq!(found(&mut watch), ["a.yaml"]);
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_a_change() {
    let folder = Folder::new();
    fs::create_dir(folder.at("..1")).unwrap();
    fs::create_dir(folder.at("..2")).unwrap();
    folder.write("..1/a.yaml");
    folder.write("..2/a.yaml");
    symlink("..1", folder.at("..data")).unwrap();
    symlink("..data/a.yaml", folder.at("a.yaml")).unwrap();
    for mut watch in [folder.watch(""), folder.watch("a.yaml")] {
        assert_eq!(found(&mut watch), ["a.yaml"]);
        symlink("..2", folder.at("..data_tmp")).unwrap();
        fs::rename(folder.at("..data_tmp"), folder.at("..data")).unwrap();
        told(&mut watch).await;
    }
}

#[tokio::test]
async fn a_file_replaced_by_a_rename_is_seen_and_its_neighbours_are_not() {
    let folder = Folder::new();
    folder.write("a.yaml");
    let mut watch = folder.watch("a.yaml");
    folder.write("b.yaml");
    silent(&mut watch).await;

    fs::rename(folder.at("b.yaml"), folder.at("a.yaml")).unwrap();
    told(&mut watch).await;
    folder.write("a.yaml");
    told(&mut watch).await;
}

#[tokio::test]
async fn a_folder_made_anew_is_watched_again() {
    let folder = Folder::new();
    fs::create_dir(folder.at("config")).unwrap();
    let mut watch = folder.watch("config");
    fs::remove_dir(folder.at("config")).unwrap();
    told(&mut watch).await;
    fs::create_dir(folder.at("config")).unwrap();
    told(&mut watch).await;
    folder.write("config/a.yaml");
    told(&mut watch).await;
    assert_eq!(found(&mut watch), ["a.yaml"]);
}

#[tokio::test]
async fn the_target_of_a_link_is_watched() {
    let folder = Folder::new();
    fs::create_dir(folder.at("config")).unwrap();
    folder.write("target");
    symlink("../target", folder.at("config/a.yaml")).unwrap();
    let mut watch = folder.watch("config");
    assert_eq!(found(&mut watch), ["a.yaml"]);
    folder.write("target");
    told(&mut watch).await;
}

#[tokio::test]
async fn a_burst_of_changes_is_told_before_it_ends() {
    let folder = Folder::new();
    let mut watch = folder.watch("");
    let path = folder.at("a.yaml");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let burst = std::thread::spawn(move || {
        while stopped
            .recv_timeout(Duration::from_millis(5))
            .is_err_and(|it| it == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            fs::write(&path, "x").unwrap();
        }
    });
    told(&mut watch).await;
    drop(stop);
    burst.join().unwrap();
}

#[tokio::test]
async fn a_dropped_wait_loses_no_change() {
    let folder = Folder::new();
    let mut watch = folder.watch("");
    folder.write("a.yaml");
    while !watch.pending {
        // Ends inside the quiet time: the change is seen and not yet told.
        let _ = timeout(Duration::from_millis(20), watch.changed()).await;
    }
    told(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn without_inotify_changes_are_seen_by_looking() {
    let folder = Folder::new();
    folder.write("a.yaml");
    let mut watch = Watch::polling(vec![folder.at("")], |_| true);
    watch.survey();
    timeout(Duration::from_secs(5), watch.changed()).await.expect_err("nothing changed");
    folder.write("b.yaml");
    timeout(PATIENCE, watch.changed()).await.expect("a new file is seen");
    watch.survey();
    fs::write(folder.at("b.yaml"), "longer").unwrap();
    timeout(PATIENCE, watch.changed()).await.expect("new content is seen");
}

#[tokio::test]
async fn a_survey_says_which_files_may_be_others_than_before() {
    let folder = Folder::new();
    fs::create_dir(folder.at("sub")).unwrap();
    for name in ["a.yaml", "b.yaml", "sub/c.yaml", "elsewhere"] {
        folder.write(name);
    }
    symlink(folder.at("elsewhere"), folder.at("link.yaml")).unwrap();
    let news = |watch: &mut Watch| {
        let files = watch.survey().files.into_iter().filter(|file| file.news);
        files.map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut watch = Watch::new(vec![folder.at("")], |path| path.extension().is_some_and(|it| it == "yaml"));
    assert_eq!(news(&mut watch), ["a.yaml", "b.yaml", "link.yaml", "c.yaml"], "nobody has looked before");
    assert_eq!(news(&mut watch), ["link.yaml"], "what is behind a link is always looked at");

    folder.write("b.yaml");
    timeout(PATIENCE, watch.changed()).await.unwrap();
    assert_eq!(news(&mut watch), ["b.yaml", "link.yaml"]);

    folder.write("new");
    fs::rename(folder.at("new"), folder.at("a.yaml")).unwrap();
    timeout(PATIENCE, watch.changed()).await.unwrap();
    assert_eq!(news(&mut watch), ["a.yaml", "link.yaml"]);

    fs::rename(folder.at("sub"), folder.at("gone")).unwrap();
    fs::create_dir(folder.at("sub")).unwrap();
    folder.write("sub/c.yaml");
    timeout(PATIENCE, watch.changed()).await.unwrap();
    let found = news(&mut watch);
    assert_eq!(found.iter().filter(|name| *name == "c.yaml").count(), 2, "folders that are new: {found:?}");

    let mut polling = Watch::polling(vec![folder.at("")], |path| path.extension().is_some_and(|it| it == "yaml"));
    assert!(polling.survey().files.iter().all(|file| file.news));
    assert!(polling.survey().files.iter().all(|file| file.news), "nobody tells");
}

#[tokio::test]
async fn what_inotify_does_not_tell_is_found_at_the_next_look() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    folder.write("a.yaml");
    fs::hard_link(folder.at("a.yaml"), elsewhere.at("other-name")).unwrap();
    let mut watch = folder.watch("");
    fs::write(elsewhere.at("other-name"), "changed").unwrap();
    silent(&mut watch).await;
    watch.look_at = Instant::now();
    timeout(PATIENCE, watch.changed()).await.expect("the look finds it");
    assert!(watch.survey().files.iter().all(|file| file.news), "it is read again");
    watch.look_at = Instant::now();
    silent(&mut watch).await;
}
