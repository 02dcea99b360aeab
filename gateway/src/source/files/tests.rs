use std::{fs, os::unix::fs::symlink};

use super::*;

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{port: 80, name: http}}]}}\n"
    )
}

fn names(resources: &Resources) -> Vec<&str> {
    resources.services.in_namespace("shop").iter().map(|it| it.name()).collect()
}

fn source(root: &Path) -> FileSource {
    FileSource::new(vec![root.to_path_buf()], None).unwrap()
}

#[test]
fn folders_are_read_recursively_and_hidden_or_foreign_files_are_not() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("deep/er")).unwrap();
    fs::create_dir(at(".git")).unwrap();
    for (file, name) in
        [("a.yaml", "a"), ("deep/er/b.yml", "b"), (".hidden.yaml", "c"), (".git/d.yaml", "d"), ("e.txt", "e")]
    {
        fs::write(at(file), service(name)).unwrap();
    }
    fs::write(at("f.json"), r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"f","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#).unwrap();

    let mut source = source(root.path());
    let (resources, problems) = source.load();

    assert_eq!(names(&resources), ["a", "b", "f"], "{problems:?}");
    assert_eq!(source.objects(), 3);
}

#[test]
fn a_named_file_is_read_whatever_its_name_and_only_once() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("config");
    fs::write(&file, service("a")).unwrap();
    let mut source = FileSource::once(vec![file.clone(), root.path().to_path_buf(), file]).unwrap();
    let (resources, problems) = source.load();
    assert_eq!(names(&resources), ["a"]);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("..2026")).unwrap();
    fs::write(at("..2026/a.yaml"), service("a")).unwrap();
    symlink("..2026", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();

    let (resources, problems) = source(root.path()).load();

    assert_eq!(names(&resources), ["a"]);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_loop_of_folders_ends() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), service("a")).unwrap();
    symlink(".", root.path().join("again")).unwrap();
    assert_eq!(names(&source(root.path()).load().0), ["a"]);
}

#[test]
fn a_file_that_is_no_text_keeps_its_last_good_version() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a.yaml");
    fs::write(&file, service("a")).unwrap();
    let mut source = source(root.path());
    source.load();
    fs::write(&file, [0xff, 0xfe, 0xff]).unwrap();

    for _ in 0..2 {
        let (resources, problems) = source.load();
        assert_eq!(names(&resources), ["a"]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains("not UTF-8"), "{}", problems[0]);
    }

    fs::write(&file, service("b")).unwrap();
    let (resources, problems) = source.load();
    assert_eq!((names(&resources), problems.len()), (vec!["b"], 0));
}

#[test]
fn a_folder_that_went_away_keeps_serving_and_a_deleted_file_does_not() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("config");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), service("a")).unwrap();
    fs::write(folder.join("b.yaml"), service("b")).unwrap();
    let mut source = source(&folder);
    source.load();

    fs::remove_file(folder.join("a.yaml")).unwrap();
    assert_eq!(names(&source.load().0), ["b"]);

    fs::rename(&folder, root.path().join("elsewhere")).unwrap();
    let (resources, problems) = source.load();
    assert_eq!(names(&resources), ["b"]);
    assert_eq!(problems[0].code, "unreadable-file");

    fs::rename(root.path().join("elsewhere"), &folder).unwrap();
    let (resources, problems) = source.load();
    assert_eq!((names(&resources), problems.len()), (vec!["b"], 0));
}

#[test]
fn a_path_that_does_not_exist_is_no_source() {
    let error = FileSource::new(vec!["/no/such/folder".into()], None).unwrap_err();
    assert_eq!(error.to_string(), "`/no/such/folder` cannot be read; name an existing file or folder");
}

#[tokio::test]
async fn a_change_is_told_and_then_loaded() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), service("a")).unwrap();
    let mut source = source(root.path());
    source.load();
    fs::write(root.path().join("b.yaml"), service("b")).unwrap();

    tokio::time::timeout(std::time::Duration::from_secs(20), source.changed()).await.unwrap();

    assert_eq!(names(&source.load().0), ["a", "b"]);
}
