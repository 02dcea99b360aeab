//! Which routes of a host can match a path.

use std::{collections::BTreeMap, sync::Arc};

use super::{Route, segment::Segments};
use crate::{pattern::PathKind, request::RequestView};

/// A route that may match, by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) number: usize,
    /// The index has looked at the path already.
    path_known: bool,
}

impl Candidate {
    pub(super) fn holds(self, route: &Route, request: &RequestView<'_>) -> bool {
        if self.path_known { route.when.conditions_hold(request) } else { route.when.matches(request) }
    }
}

/// Numbers of routes, ascending.
pub(super) type Numbers = Arc<[u32]>;

/// The rest of a path behind its directory, with the routes for paths that begin with it and for the path itself.
pub(super) type Segment<'a> = (&'a [u8], [Numbers; 2]);

/// Which routes can match a path, in ascending order of their numbers.
///
/// matchit finds the directory: the longest configured path up to a `/`, at any depth. Within a directory stands a radix
/// tree of our own for the raw rest, since Istio's prefix is a raw string prefix (`/foo` matches `/foobar`). matchit could
/// do that too (`/foo{*rest}`), and answers right, but keeps a list of every shorter prefix to come back to: with 10,000
/// prefixes in one directory it took three times as long as with one.
///
/// Each entry knows the routes of its own text and of all prefixes above it, so there is nothing to come back to.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    directories: matchit::Router<Arc<Directory>>,
    /// Regex, `ignoreUriCase` and routes without a path: each has to be asked.
    others: Box<[u32]>,
}

/// Everything whose last `/` is that of the same directory.
#[derive(Debug)]
struct Directory {
    /// Bytes of the path that are the directory's.
    length: usize,
    /// Routes whose prefix the directory's own path begins with.
    inherited: Numbers,
    /// What is configured behind the directory's last `/`.
    segments: Segments,
}

/// So many routes are asked one by one as fast as an index finds them, and the index would be as large as they are.
const FEW: usize = 16;

impl PathIndex {
    pub(super) fn new(routes: &[Route]) -> Self {
        if routes.len() <= FEW {
            return Self { others: (0..).take(routes.len()).collect(), ..Self::default() };
        }
        Self::of_many(routes)
    }

    pub(super) fn of_many(routes: &[Route]) -> Self {
        let mut paths: BTreeMap<&str, Named> = BTreeMap::new();
        let mut others = Vec::new();
        for (number, route) in (0..).zip(routes) {
            match &route.when.path.kind {
                PathKind::Exact(path) if can_index(path, route) => paths.entry(path).or_default().exact.push(number),
                PathKind::Prefix(path) if can_index(path, route) => paths.entry(path).or_default().prefix.push(number),
                _ => others.push(number),
            }
        }
        Self { directories: directories(routes, paths), others: others.into() }
    }

    pub(super) fn candidates(&self, path: &str) -> impl Iterator<Item = Candidate> {
        let known = self.known(path).iter().peekable();
        let (mut known, mut others) = (known, self.others.iter().peekable());
        std::iter::from_fn(move || {
            let path_known = match (known.peek(), others.peek()) {
                (Some(a), Some(b)) => a < b,
                (a, _) => a.is_some(),
            };
            let number = if path_known { known.next() } else { others.next() }?;
            Some(Candidate { number: *number as usize, path_known })
        })
    }

    fn known(&self, path: &str) -> &[u32] {
        let Ok(found) = self.directories.at(path) else { return &[] };
        let directory = found.value;
        directory.segments.find(&path.as_bytes()[directory.length..]).unwrap_or(&directory.inherited)
    }
}

/// Routes that name the same text as path, by the way they name it.
#[derive(Default)]
struct Named {
    exact: Vec<u32>,
    prefix: Vec<u32>,
}

/// Case-insensitive paths cannot be searched for; very long ones would make the trees as deep as they are long.
fn can_index(path: &str, route: &Route) -> bool {
    !route.when.path.ignore_case && path.starts_with('/') && path.len() <= 1024
}

/// What is known of a configured path or of a directory above one, before it is sorted into directories.
struct Known<'a> {
    path: &'a str,
    /// For paths that begin with it.
    prefix: Numbers,
    /// For the path itself.
    exact: Numbers,
    /// Whether a route names it, and not only a longer path.
    named: bool,
}

fn directories(routes: &[Route], mut paths: BTreeMap<&str, Named>) -> matchit::Router<Arc<Directory>> {
    let above: Vec<&str> = paths.keys().map(|path| directory_of(path)).collect();
    for directory in above {
        paths.entry(directory).or_default();
    }
    let known = inherit(routes, paths);
    let mut segments: BTreeMap<&str, Vec<Segment<'_>>> = BTreeMap::new();
    for entry in known.iter().filter(|entry| entry.named) {
        let directory = directory_of(entry.path);
        let rest = &entry.path.as_bytes()[directory.len()..];
        segments.entry(directory).or_default().push((rest, [entry.prefix.clone(), entry.exact.clone()]));
    }
    let mut router = matchit::Router::new();
    for entry in known {
        if let Some(found) = segments.remove(entry.path) {
            let segments = Segments::new(&found);
            let directory = Arc::new(Directory { length: entry.path.len(), inherited: entry.prefix, segments });
            let pattern = entry.path.replace('{', "{{").replace('}', "}}");
            insert(&mut router, pattern.clone() + "{*rest}", directory.clone());
            insert(&mut router, pattern, directory); // A catch-all matches one byte at least.
        }
    }
    router
}

fn insert(router: &mut matchit::Router<Arc<Directory>>, pattern: String, directory: Arc<Directory>) {
    router.insert(pattern, directory).expect("distinct, escaped directories with one catch-all each do not conflict");
}

/// The path up to and with its last `/`.
fn directory_of(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..=at])
}

/// Give each path the routes of all prefixes above it.
fn inherit<'a>(routes: &[Route], paths: BTreeMap<&'a str, Named>) -> Vec<Known<'a>> {
    // The prefixes of the path at hand, shortest first, each with the routes of all before it. In ascending order of
    // paths, a prefix comes before everything that begins with it.
    let mut above: Vec<(&str, Numbers)> = Vec::new();
    let mut all = Vec::with_capacity(paths.len());
    for (path, own) in paths {
        while above.last().is_some_and(|(prefix, _)| !path.starts_with(prefix)) {
            above.pop();
        }
        let inherited = above.last().map_or_else(Arc::default, |(_, numbers)| numbers.clone());
        let prefix = merged(routes, &inherited, &own.prefix);
        let exact = merged(routes, &prefix, &own.exact);
        if !own.prefix.is_empty() {
            above.push((path, prefix.clone()));
        }
        all.push(Known { path, prefix, exact, named: !own.prefix.is_empty() || !own.exact.is_empty() });
    }
    all
}

/// Both lists in ascending order, up to the first route that needs nothing but its path: none behind it is ever reached.
fn merged(routes: &[Route], inherited: &Numbers, own: &[u32]) -> Numbers {
    let Some(&first) = own.first() else { return inherited.clone() };
    let ends = |number: &u32| routes[*number as usize].when.conditions.is_none();
    if inherited.last().is_some_and(|last| ends(last) && *last < first) {
        return inherited.clone();
    }
    let mut all: Vec<u32> = inherited.iter().chain(own).copied().collect();
    all.sort_unstable();
    if let Some(end) = all.iter().position(ends) {
        all.truncate(end + 1);
    }
    all.into()
}
