//! Seeing that files changed: inotify on every folder that matters, or a look every second where inotify is missing.
//!
//! A survey walks the given paths, lists the files, and sets the watches on the way: each folder is watched *before* it
//! is read, so that nothing can change unseen in between.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::DirEntry,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, warn};

use super::trail::trail;

#[cfg(test)]
mod tests;

/// This long without a further change ends a burst of changes.
const QUIET: Duration = Duration::from_millis(50);
/// A burst is told after this long even if it goes on.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// The link by which the kubelet swaps a whole volume.
const DATA: &str = "..data";
/// How often files are looked at beside inotify, which tells nothing of changes on another machine (NFS) or by another name (a
/// second hard link).
const LOOK: Duration = Duration::from_secs(600);
/// How often files are looked at without inotify.
const POLL: Duration = Duration::from_secs(1);

/// Watches paths. One reader: [`Watch::changed`], then [`Watch::survey`], and again.
#[derive(Debug)]
pub(crate) struct Watch {
    roots: Vec<PathBuf>,
    wanted: fn(&Path) -> bool,
    /// `None`: polling.
    eye: Option<Eye>,
    /// A change was seen and not yet told; kept here so that a dropped `changed()` future loses nothing.
    pending: bool,
    /// What the last survey saw, or with inotify the last look; polling compares with it.
    seen: Vec<Stamp>,
    /// When the next look is due; a point in time and not a pause, which whoever drops `changed()` would begin anew.
    look_at: Instant,
}

/// What a survey found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Wanted files in a stable order: as the paths were given, folders by name.
    pub(crate) files: Vec<Listed>,
    /// What could not be listed. Nothing is known of the files below.
    pub(crate) failures: Vec<(PathBuf, io::Error)>,
}

/// A file as a survey found it.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// It may be another one than at the last survey. Else it has been watched since, and nothing was told of it.
    pub(crate) news: bool,
}

/// What events have told since the last survey.
#[derive(Debug, Default)]
struct News {
    /// More than the names of files.
    anything: bool,
    /// Files without a link on the way to them.
    files: HashSet<PathBuf>,
}

/// What a changed file cannot keep: its inode, size and times.
type Stamp = (PathBuf, Option<(u64, u64, u64, i64, i64)>);

impl Watch {
    /// Watches files and folders (and what is in them) below `roots` whose path is `wanted`. A root may be a file, may be
    /// a link, and need not exist yet.
    pub(crate) fn new(roots: Vec<PathBuf>, wanted: fn(&Path) -> bool) -> Self {
        let eye = Eye::open()
            .inspect_err(|error| warn!(%error, "inotify is not available; files are looked at every second"))
            .ok();
        Self { eye, ..Self::polling(roots, wanted) }
    }

    /// As [`Watch::new`], without inotify.
    pub(crate) fn polling(roots: Vec<PathBuf>, wanted: fn(&Path) -> bool) -> Self {
        Self { roots, wanted, eye: None, pending: false, seen: Vec::new(), look_at: Instant::now() + LOOK }
    }

    /// The paths that are watched.
    pub(crate) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Watches other paths from the next survey on.
    pub(crate) fn set_roots(&mut self, roots: Vec<PathBuf>) {
        self.roots = roots;
    }

    /// Lists the files as they are now and brings the watches up to date.
    pub(crate) fn survey(&mut self) -> Survey {
        // Before the walk: what is told meanwhile is for the next one.
        let news = self.eye.as_ref().map(Eye::news);
        let mut walk = Walk { wanted: self.wanted, eye: self.eye.as_mut(), news, ..Walk::default() };
        for root in &self.roots {
            walk.root(root);
        }
        let failed = walk.watch_error.take();
        let (survey, covered) = (walk.survey, walk.covered);
        if let Some(error) = failed {
            warn!(%error, "inotify ran out of watches (see fs.inotify.max_user_watches); files are looked at every second");
            self.eye = None;
        }
        match &mut self.eye {
            // Once: what is told later is found to be news at the next look, too, which costs one reload.
            Some(eye) if self.seen.is_empty() => {
                eye.forget_all_but(&covered);
                self.seen = stamps(&survey);
            }
            Some(eye) => eye.forget_all_but(&covered),
            None => self.seen = stamps(&survey),
        }
        survey
    }

    /// Resolves after something changed and it became quiet (50 ms, or 500 ms after the first change). Cancel safe.
    /// Needs one [`Watch::survey`] before.
    pub(crate) async fn changed(&mut self) {
        if !self.pending {
            match &self.eye {
                Some(eye) => {
                    let bell = Arc::clone(&eye.bell);
                    loop {
                        tokio::select! {
                            () = bell.notified() => break,
                            () = sleep_until(self.look_at) => if self.look() { break },
                        }
                    }
                }
                None => self.poll().await,
            }
            self.pending = true;
        }
        let first = Instant::now();
        if let Some(eye) = &self.eye {
            while first.elapsed() < LONGEST_BURST && timeout(QUIET, eye.bell.notified()).await.is_ok() {}
        }
        self.pending = false;
    }

    /// Looks at every file, whatever inotify tells. `true`: some are others than at the last look.
    fn look(&mut self) -> bool {
        self.look_at = Instant::now() + LOOK;
        let found = self.stamped();
        let other = found != self.seen;
        self.seen = found;
        if let Some(eye) = self.eye.as_ref().filter(|_| other) {
            eye.news.lock().unwrap_or_else(PoisonError::into_inner).anything = true;
        }
        other
    }

    fn stamped(&self) -> Vec<Stamp> {
        let mut walk = Walk { wanted: self.wanted, ..Walk::default() };
        for root in &self.roots {
            walk.root(root);
        }
        stamps(&walk.survey)
    }

    /// Resolves when the files are not those of the last survey.
    async fn poll(&self) {
        loop {
            sleep(POLL).await;
            if self.stamped() != self.seen {
                return;
            }
        }
    }
}

fn stamps(survey: &Survey) -> Vec<Stamp> {
    survey.files.iter().map(|file| stamp(&file.path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let facts = std::fs::metadata(path).ok();
    (path.to_path_buf(), facts.map(|it| (it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec() ^ it.ctime_nsec())))
}

/// One walk over the roots.
struct Walk<'a> {
    wanted: fn(&Path) -> bool,
    eye: Option<&'a mut Eye>,
    survey: Survey,
    /// Folders that the paths go through.
    covered: HashSet<PathBuf>,
    /// Folders and files already met, without links: loops end here, and no file is listed twice.
    met: HashSet<PathBuf, RandomState>,
    /// What was told since the last one; `None`: nobody tells.
    news: Option<News>,
    watch_error: Option<notify::Error>,
}

impl Default for Walk<'_> {
    fn default() -> Self {
        Self {
            wanted: |_| true,
            eye: None,
            survey: Survey::default(),
            covered: HashSet::new(),
            met: HashSet::default(),
            news: None,
            watch_error: None,
        }
    }
}

impl Walk<'_> {
    /// One given path: a file is listed whatever its name is.
    fn root(&mut self, path: &Path) {
        self.follow(path);
        match std::fs::metadata(path) {
            Ok(facts) if facts.is_dir() => self.folder(path),
            Ok(_) => self.file(path),
            Err(error) => self.survey.failures.push((path.to_path_buf(), error)),
        }
    }

    fn folder(&mut self, path: &Path) {
        let canonical = match path.canonicalize() {
            Ok(canonical) => canonical,
            Err(error) => return self.survey.failures.push((path.to_path_buf(), error)),
        };
        if !self.met.insert(canonical.clone()) {
            return;
        }
        let is_new = self.cover(&canonical, None);
        let kind = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        let listed = std::fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|it| (it.file_name(), kind(&it)))).collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(mut names) => {
                names.sort_unstable();
                for (name, is_file) in names.iter().filter(|(name, _)| !is_hidden(name)) {
                    match is_file {
                        // Without a link on the way from its folder: its name there is all that has to be known of it.
                        true if (self.wanted)(Path::new(name)) => {
                            self.list(path.join(name), canonical.join(name), is_new);
                        }
                        true => {}
                        false => self.entry(&path.join(name)),
                    }
                }
            }
            Err(error) => self.survey.failures.push((path.to_path_buf(), error)),
        }
    }

    /// Something in a folder. Entries that vanish while they are looked at were deleted: that is no failure.
    fn entry(&mut self, path: &Path) {
        if path.is_symlink() {
            self.follow(path);
        }
        match std::fs::metadata(path) {
            Ok(facts) if facts.is_dir() => self.folder(path),
            Ok(facts) if facts.is_file() && (self.wanted)(path) => self.file(path),
            _ => {}
        }
    }

    fn file(&mut self, path: &Path) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        // What is behind a link may change where nobody looks.
        self.list(path.to_path_buf(), canonical, true);
    }

    fn list(&mut self, path: PathBuf, canonical: PathBuf, is_new: bool) {
        let told = |news: &News| news.anything || news.files.contains(&canonical);
        let news = is_new || self.news.as_ref().is_none_or(told);
        if self.met.insert(canonical) {
            self.survey.files.push(Listed { path, news });
        }
    }

    /// Watches every link on the way to a path, and its last name.
    fn follow(&mut self, path: &Path) {
        for step in trail(path) {
            self.cover(&step.folder, Some(step.name));
        }
    }

    /// Watches a folder, or a name in it. `true`: until now nobody did.
    fn cover(&mut self, folder: &Path, name: Option<OsString>) -> bool {
        self.covered.insert(folder.to_path_buf());
        let Some(eye) = &mut self.eye else { return true };
        eye.watch(folder, name).unwrap_or_else(|error| {
            self.watch_error = Some(error);
            true
        })
    }
}

/// Which names in a watched folder matter.
#[derive(Debug, Default)]
struct Interest {
    /// All that are not hidden, and `..data`.
    all: bool,
    /// These.
    names: HashSet<OsString>,
}

type Interests = Arc<Mutex<HashMap<PathBuf, Interest>>>;

/// inotify: one watch per folder.
struct Eye {
    watcher: RecommendedWatcher,
    /// What is watched, with the inode the watch belongs to: a folder made anew needs a new watch.
    folders: HashMap<PathBuf, (u64, u64)>,
    interests: Interests,
    bell: Arc<Notify>,
    news: Arc<Mutex<News>>,
}

impl std::fmt::Debug for Eye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eye").field("folders", &self.folders.len()).finish_non_exhaustive()
    }
}

impl Eye {
    fn open() -> notify::Result<Self> {
        let interests = Interests::default();
        let bell = Arc::new(Notify::new());
        let news = Arc::default();
        let (rung, known, told) = (Arc::clone(&bell), Arc::clone(&interests), Arc::clone(&news));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if hear(event.ok().as_ref(), &known, &told) {
                rung.notify_one();
            }
        })?;
        Ok(Self { watcher, folders: HashMap::new(), interests, bell, news })
    }

    /// What was told since the last time.
    fn news(&self) -> News {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Watches all of a folder, or one name in it, besides what is watched of it already. `true`: this was not watched before.
    fn watch(&mut self, folder: &Path, name: Option<OsString>) -> notify::Result<bool> {
        let Ok(facts) = std::fs::metadata(folder) else {
            return Ok(true);
        };
        let known = {
            let mut interests = self.interests.lock().unwrap_or_else(PoisonError::into_inner);
            let interest = interests.entry(folder.to_path_buf()).or_default();
            match name {
                Some(name) => !interest.names.insert(name),
                None => std::mem::replace(&mut interest.all, true),
            }
        };
        let identity = (facts.dev(), facts.ino());
        match self.folders.get(folder) {
            Some(same) if *same == identity => return Ok(!known),
            // The watch went with the folder it belonged to; taking it back may fail for that reason.
            Some(_) => drop(self.watcher.unwatch(folder)),
            None => {}
        }
        match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.folders.insert(folder.to_path_buf(), identity);
                Ok(true)
            }
            Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => Err(error),
            Err(error) => {
                debug!(%error, folder = %folder.display(), "a folder cannot be watched");
                Ok(true)
            }
        }
    }

    /// Ends the watches of folders that the paths no longer go through.
    fn forget_all_but(&mut self, covered: &HashSet<PathBuf>) {
        let mut interests = self.interests.lock().unwrap_or_else(PoisonError::into_inner);
        interests.retain(|folder, _| covered.contains(folder));
        drop(interests);
        let gone: Vec<PathBuf> = self.folders.keys().filter(|folder| !covered.contains(*folder)).cloned().collect();
        for folder in gone {
            self.folders.remove(&folder);
            drop(self.watcher.unwatch(&folder));
        }
    }
}

/// Notes what an event tells (`None`: that some were lost). Whether it can have changed what a survey finds or what is in a file.
fn hear(event: Option<&Event>, interests: &Interests, news: &Mutex<News>) -> bool {
    let note = |paths: Option<Vec<PathBuf>>| {
        let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
        news.anything |= paths.is_none();
        news.files.extend(paths.into_iter().flatten());
        true
    };
    let Some(event) = event.filter(|event| !event.need_rescan() && !event.paths.is_empty()) else {
        return note(None);
    };
    if matches!(event.kind, EventKind::Access(_)) {
        return false; // our own reading
    }
    let interests = interests.lock().unwrap_or_else(PoisonError::into_inner);
    let mut files = Vec::new();
    for path in &event.paths {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return note(None) };
        let inside = interests.get(folder);
        // The folder itself (it was removed or its permissions changed), a link, or what one leads to.
        let links = inside.is_some_and(|it| it.names.contains(name) || (it.all && name == OsStr::new(DATA)));
        if interests.contains_key(path) || links {
            return note(None);
        }
        if inside.is_some_and(|it| it.all && is_news(name)) {
            files.push(path.clone());
        }
    }
    !files.is_empty() && note(Some(files))
}

/// Whether a name in a watched folder can mean a change of configuration.
fn is_news(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    name == OsStr::new(DATA) || !(is_hidden(name) || bytes.ends_with(b"~") || bytes.ends_with(b".swp"))
}

/// Hidden files and folders are no configuration: editors' and the kubelet's work lies there.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
