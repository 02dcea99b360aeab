//! Where an object was written.

use std::cell::{LazyCell, RefCell};
use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::position::{self, Step};
use super::yaml::{self, Tree};
use crate::problem::Place;

/// Where an object was written: its file and the text of its document, from which positions are found when asked for.
#[derive(Clone)]
pub struct Source {
    file: Arc<str>,
    text: Arc<str>,
    first_line: u32,
    /// Index in the `items` of a List document.
    item: Option<usize>,
    /// A document inside of this one, and where it stands.
    within: Option<Arc<Within>>,
}

/// YAML in a text of a document, as the mesh configuration in a ConfigMap.
struct Within {
    /// Path of the text, as `data.mesh`.
    root: &'static str,
    text: Arc<str>,
    /// Lines of the document above it, and columns before it.
    above: u32,
    before: u32,
}

/// Without the text, which may be a Secret's.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.first_line)
    }
}

impl Source {
    pub(super) fn new(file: Arc<str>, text: Arc<str>, first_line: u32) -> Self {
        Self { file, text, first_line, item: None, within: None }
    }

    pub(super) fn item(&self, index: usize) -> Self {
        Self { item: Some(index), ..self.clone() }
    }

    /// Of an object that an API server gave: it has no place in a file.
    pub(super) fn unplaced() -> Self {
        Self { file: Arc::default(), text: Arc::default(), first_line: 0, item: None, within: None }
    }

    /// With the document that the text at a path is, so that its fields have places of their own. Only a literal block (`|`) has
    /// lines of its own; elsewhere the text is one place.
    pub(super) fn with_inner(&self, root: &'static str, text: &str) -> Self {
        let Some(key) = self.place(root).filter(|_| !self.file.is_empty()) else { return self.clone() };
        let line = key.line.saturating_sub(self.first_line) as usize;
        let mut lines = self.text.lines().skip(line);
        let opens = |line: &str| {
            let value = line.rsplit_once(": ").map_or("", |(_, value)| value);
            value.trim_start().starts_with('|')
        };
        if !lines.next().is_some_and(opens) {
            return self.clone();
        }
        let indent = lines.find(|line| !line.trim().is_empty()).map_or(0, |line| line.len() - line.trim_start().len());
        let (above, before) = (u32::try_from(line + 1).unwrap_or(0), u32::try_from(indent).unwrap_or(0));
        Self { within: Some(Arc::new(Within { root, text: text.into(), above, before })), ..self.clone() }
    }

    /// A position in the inner document as a place in the file.
    pub(super) fn inner_at(&self, (line, column): (u32, u32)) -> Option<Place> {
        self.within.as_ref().map(|within| self.at(within.above + line, within.before + column))
    }

    /// Where a field of the inner document is.
    fn inner_place(&self, field: &str) -> Option<Place> {
        let within = self.within.as_ref()?;
        let rest = field.strip_prefix(within.root).filter(|rest| rest.starts_with(['.', '[']))?;
        let tree = positions(&within.text)?;
        self.inner_at(position::find(&tree, &position::steps(rest))?)
    }

    /// The file as it was named; empty when the object came from an API server.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// By file and document.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        (&self.file, self.first_line).cmp(&(&other.file, other.first_line))
    }

    /// Whether the document of this was written after a place; `None`: in another file, or both may be of one list. Does
    /// not read the document.
    pub fn is_after(&self, place: &Place) -> Option<bool> {
        (self.file == place.file && self.item.is_none()).then_some(place.line < self.first_line)
    }

    /// Where a field is written, or else its nearest parent: the position of its key, or of its list item. `None` when
    /// the object did not come from a file.
    pub fn place(&self, field: &str) -> Option<Place> {
        self.places([field]).pop().flatten()
    }

    /// As [`Self::place`] for several fields, each in its turn; the document is read once for all of them.
    pub fn places<'f>(&self, fields: impl IntoIterator<Item = &'f str>) -> Vec<Option<Place>> {
        if self.file.is_empty() {
            return fields.into_iter().map(|_| None).collect();
        }
        let tree = LazyCell::new(|| positions(&self.text));
        let place = |field: &str| {
            if let Some(place) = self.inner_place(field) {
                return Some(place);
            }
            let mut steps = Vec::new();
            if let Some(index) = self.item {
                steps.push(Step::Key("items".to_owned()));
                steps.push(Step::Index(index));
            }
            steps.extend(position::steps(field));
            // The whole document begins where its content does.
            let tree = if steps.is_empty() { None } else { tree.as_deref() };
            let at = tree.and_then(|tree| position::find(tree, &steps));
            let first_content = || (self.leading_lines() + 1, 1);
            let (line, column) = at.unwrap_or_else(first_content);
            Some(self.at(line, column))
        };
        fields.into_iter().map(place).collect()
    }

    /// A line and column of the document as a place in the file.
    pub(super) fn at(&self, line: u32, column: u32) -> Place {
        Place { file: Arc::clone(&self.file), line: self.first_line + line.max(1) - 1, column: column.max(1) }
    }

    /// Lines before the first that is neither blank nor a comment.
    pub(super) fn leading_lines(&self) -> u32 {
        let blank = |line: &&str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        };
        u32::try_from(self.text.lines().take_while(blank).count()).unwrap_or(0)
    }
}

/// A document and its tree, unless it has none.
type Read = (Arc<str>, Option<Rc<Tree>>);

thread_local! {
    /// The document whose places were asked for last: a List of thousands of objects is one document.
    static LAST: RefCell<Option<Read>> = const { RefCell::new(None) };
}

fn positions(text: &Arc<str>) -> Option<Rc<Tree>> {
    LAST.with_borrow_mut(|last| match last {
        Some((known, tree)) if Arc::ptr_eq(known, text) => tree.clone(),
        _ => {
            let tree = yaml::positions(text).map(Rc::new);
            *last = Some((Arc::clone(text), tree.clone()));
            tree
        }
    })
}

/// Forgets the document whose places were asked for last: its tree is larger than its text.
pub(crate) fn forget_places() {
    LAST.take();
}
