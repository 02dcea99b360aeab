//! Who may do what, as a table: policies, requests, verdicts. `tests/authorization/README.md` documents the form.
//!
//! ```text
//! table file -> Table (table.rs): sets of policies with rows
//!                 |
//!               Stage (stage.rs): a gateway or a sidecar in front of the echo app; one set after the other is put in force
//!                 |
//!               Visit (visit.rs): a row is a request or a connection -> what became of it -> judged
//! ```

pub mod judge;
mod stage;
pub mod table;
mod tokens;
mod twins;
pub mod visit;

use std::{env, fs};

use crate::binary::repository;
use stage::Stage;
use table::{Place, Row, Set, Table};

/// Plays a table of `tests/authorization` at one place, and panics with every row whose verdict was another. Gives the number
/// of rows.
///
/// `SLUICE_CASE` plays those sets only whose name contains that text.
pub async fn play(name: &str, place: Place) -> usize {
    let table = read(name);
    let wanted = env::var("SLUICE_CASE").unwrap_or_default();
    let sets: Vec<&Set> = table.sets.iter().filter(|set| set.is_for(place) && set.name.contains(&wanted)).collect();
    let stage = Stage::start(&table, place).await;
    let (mut faults, mut rows) = (Vec::new(), 0);
    for set in &sets {
        stage.put(&set.policies(place)).await;
        let found = stage.visit(&set.rows).await;
        rows += set.rows.len();
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", set.name)));
    }
    let shown: Vec<&Row> = sets.iter().flat_map(|set| &set.rows).filter(|row| row.seen.is_some()).collect();
    faults.extend(twins::play(&stage, &shown).await);
    assert!(faults.is_empty(), "{} of {rows} rows of {name} at {place:?}:\n{}\n", faults.len(), faults.join("\n"));
    rows
}

/// Reads a table; panics with what is wrong in it.
pub fn read(name: &str) -> Table {
    let path = folder().join(name).with_extension("yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Table::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all tables.
pub fn tables() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the folder of the tables").flatten().map(|entry| entry.path());
    let tables = files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    let mut names: Vec<String> =
        tables.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

fn folder() -> std::path::PathBuf {
    repository().join("tests/authorization")
}
