//! Configuration from files and folders.

use std::{
    collections::{BTreeMap, HashMap},
    fs::Metadata,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use foldhash::fast::RandomState;
use routing::{
    problem::{ObjectRef, Place, Problem, Severity},
    resources::{Extent, Parsed, Resources, Store, UNREADABLE_FILE, parse_files, patch_files},
};

use super::{
    bounded,
    watch::{Listed, Watch},
};

#[cfg(test)]
mod tests;

/// Larger files are no configuration; reading them would only cost memory.
const LARGEST: u64 = 64 << 20;
/// The same of all files together.
const LARGEST_FOLDER: u64 = 256 << 20;
/// So much text is read before it is parsed, by threads that share it.
const BATCH: usize = 16 << 20;
/// A file that changed so many seconds ago may change again without its times telling.
const FRESH: i64 = 2;

/// Files and folders (recursive; `.yaml`, `.yml`, `.json`) as one set of resources. One reader:
/// [`FileSource::load`], then [`FileSource::changed`], and again.
#[derive(Debug)]
pub(crate) struct FileSource {
    watch: Watch,
    store: Store,
    /// What each file held when it was last read, so that only changed files are parsed again.
    known: HashMap<PathBuf, Known, RandomState>,
    /// Objects when they were last read.
    objects: usize,
    /// A folder that need not be there.
    optional: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Known {
    stamp: Option<Stamp>,
    hash: u64,
    parsed: Parsed,
}

/// What a file cannot keep when its content changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None`: the file changed just now, or in what its clock takes for the future.
    fn of(file: &Metadata) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let is_old = file.ctime().checked_add(FRESH)? < i64::try_from(now).ok()?;
        is_old.then(|| Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// A file as it was found.
enum Found {
    /// As it was.
    Known(Known),
    /// With other text, and the hash of it.
    New(Option<Stamp>, u64, String),
}

/// The paths given hold nothing that can be read.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be read; name an existing file or folder", path.display())]
pub(crate) struct Unreachable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileSource {
    /// Watches these paths, and a folder that need not be there yet.
    ///
    /// # Errors
    /// One of the paths cannot be reached now. (Later that is a problem, and the last good version keeps serving.)
    pub(crate) fn new(paths: Vec<PathBuf>, optional: Option<PathBuf>) -> Result<Self, Unreachable> {
        let mut source = Self::over(paths, |paths| Watch::new(paths, is_configuration))?;
        if let Some(folder) = &optional {
            let roots = source.watch.roots().iter().chain([folder]).cloned().collect();
            source.watch.set_roots(roots);
        }
        Ok(Self { optional, ..source })
    }

    /// Reads these paths without ever looking at them again.
    ///
    /// # Errors
    /// As [`FileSource::new`].
    pub(crate) fn once(paths: Vec<PathBuf>) -> Result<Self, Unreachable> {
        Self::over(paths, |paths| Watch::polling(paths, is_configuration))
    }

    fn over(paths: Vec<PathBuf>, watch: impl FnOnce(Vec<PathBuf>) -> Watch) -> Result<Self, Unreachable> {
        for path in &paths {
            std::fs::metadata(path).map_err(|source| Unreachable { path: path.clone(), source })?;
        }
        Ok(Self { watch: watch(paths), store: Store::default(), known: HashMap::default(), objects: 0, optional: None })
    }

    /// Reads what is there now. Whatever is broken or cannot be read is a problem, and its last good version stays among
    /// the resources. Blocks for as long as reading takes.
    pub(crate) fn load(&mut self) -> (Resources, Vec<Problem>) {
        let survey = self.watch.survey();
        let mut before = std::mem::take(&mut self.known);
        let mut files = Vec::with_capacity(survey.files.len());
        let (mut room, mut batch) = (LARGEST_FOLDER, Batch::default());
        for Listed { path, news } in survey.files {
            match find(&path, before.remove(&path), news, &mut room) {
                Ok(Found::Known(known)) => {
                    files.push((path.display().to_string(), known.parsed.clone()));
                    self.known.insert(path, known);
                }
                Ok(Found::New(stamp, hash, text)) => {
                    batch.add(path, (stamp, hash), text);
                    if batch.bytes > BATCH {
                        self.parse(std::mem::take(&mut batch), &mut files);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // deleted since it was listed
                Err(error) => files.push((path.display().to_string(), unreadable(&path, &error))),
            }
        }
        self.parse(batch, &mut files);
        leave_patches_out(&mut files);
        let mut problems = Vec::new();
        let is_missing = |path: &PathBuf, error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound && self.optional.as_ref() == Some(path)
        };
        for (path, error) in survey.failures.iter().filter(|(path, error)| !is_missing(path, error)) {
            problems.push(unlisted(path, error));
            // Nothing is known of what is below, so what was there stays.
            for (file, known) in before.iter().filter(|(file, _)| file.starts_with(path)) {
                files.push((file.display().to_string(), known.parsed.clone()));
                self.known.insert(file.clone(), known.clone());
            }
        }
        self.objects = files.iter().map(|(_, parsed)| objects(parsed)).sum();
        let (resources, found) = self.store.replace(files);
        problems.extend(found);
        (resources.with_extent(Extent::Part), problems)
    }

    /// Resolves after a change that may matter, once it is quiet for 50 ms, 500 ms after the first change at the latest.
    /// Cancel safe. Needs one [`FileSource::load`] before.
    pub(crate) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// How many objects the files hold, broken ones included.
    pub(crate) fn objects(&self) -> usize {
        self.objects
    }

    fn parse(&mut self, batch: Batch, files: &mut Vec<(String, Parsed)>) {
        let parsed = parse_files(&batch.texts);
        for (((file, _), parsed), (path, stamp, hash)) in batch.texts.into_iter().zip(parsed).zip(batch.files) {
            files.push((file, parsed.clone()));
            self.known.insert(path, Known { stamp, hash, parsed });
        }
    }
}

/// Files that are to be parsed together.
#[derive(Default)]
struct Batch {
    texts: Vec<(String, String)>,
    files: Vec<(PathBuf, Option<Stamp>, u64)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, path: PathBuf, (stamp, hash): (Option<Stamp>, u64), text: String) {
        self.bytes += text.len();
        self.texts.push((path.display().to_string(), text));
        self.files.push((path, stamp, hash));
    }
}

/// One file, read only when it may be another one than the known one. There is `room` for so many bytes.
fn find(path: &Path, known: Option<Known>, news: bool, room: &mut u64) -> io::Result<Found> {
    let known = match known {
        Some(Known { stamp: Some(stamp), hash, parsed }) if !news && stamp.size <= *room => {
            *room -= stamp.size;
            return Ok(Found::Known(Known { stamp: Some(stamp), hash, parsed }));
        }
        known => known,
    };
    let facts = std::fs::metadata(path)?;
    let (size, stamp) = (facts.len(), Stamp::of(&facts));
    if size <= LARGEST && size > *room {
        return Err(io::Error::other("the files before it hold 256 MiB together, and more is not read"));
    }
    if stamp.is_some()
        && let Some(known) = known.as_ref().filter(|known| known.stamp == stamp)
    {
        *room = room.saturating_sub(size);
        return Ok(Found::Known(known.clone()));
    }
    let bytes = bounded::read(path, LARGEST)?;
    *room = room.saturating_sub(bytes.len() as u64);
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let hash = hasher.finish();
    if let Some(known) = known.filter(|known| known.hash == hash) {
        return Ok(Found::Known(Known { stamp, ..known }));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    Ok(Found::New(stamp, hash, text))
}

/// Broken ones included; what is a template is not yet one.
fn objects(parsed: &Parsed) -> usize {
    let rejected = parsed.rejected.iter().filter(|rejection| !rejection.skipped).count();
    let broken = parsed.unreadable && parsed.problems.iter().any(|problem| problem.severity == Severity::Error);
    parsed.objects.len() + rejected + usize::from(broken)
}

/// What a kustomization among the files takes for a patch is no object, although it looks like one.
fn leave_patches_out(files: &mut [(String, Parsed)]) {
    let is_kustomization = |file: &str| {
        let name = Path::new(file).file_name().and_then(|name| name.to_str());
        matches!(name, Some("kustomization.yaml" | "kustomization.yml"))
    };
    let mut patches = BTreeMap::new();
    for (file, _) in files.iter().filter(|(file, _)| is_kustomization(file)) {
        let Ok(text) =
            bounded::read(Path::new(file), LARGEST).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        else {
            continue;
        };
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        patches.extend(patch_files(&text).into_iter().map(|patch| (beside(folder, &patch), file.clone())));
    }
    for (file, parsed) in files {
        if let Some(kustomization) = patches.get(Path::new(file.as_str())) {
            *parsed = Parsed::patch(file, kustomization);
        }
    }
}

/// A path as a file of this folder names it, in the form in which folders are walked.
fn beside(folder: &Path, named: &str) -> PathBuf {
    let mut path = folder.to_path_buf();
    for step in Path::new(named).components() {
        match step {
            Component::ParentDir if path.file_name().is_some() => drop(path.pop()),
            Component::CurDir => {}
            step => path.push(step),
        }
    }
    path
}

/// By name, in folders. A file that was named itself is read whatever its name is.
fn is_configuration(path: &Path) -> bool {
    path.extension().and_then(|it| it.to_str()).is_some_and(|it| matches!(it, "yaml" | "yml" | "json"))
}

fn unreadable(path: &Path, error: &io::Error) -> Parsed {
    Parsed::unreadable(&path.display().to_string(), &format!("the file cannot be read: {error}"))
}

fn unlisted(path: &Path, error: &io::Error) -> Problem {
    Problem {
        code: UNREADABLE_FILE,
        severity: Severity::Error,
        object: ObjectRef::default(),
        field: String::new(),
        place: Some(Place { file: path.display().to_string().into(), line: 1, column: 1 }),
        message: format!("this path cannot be read: {error}; what was loaded from it before keeps serving"),
    }
}
