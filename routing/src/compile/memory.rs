//! What one compilation leaves to the next: the routes of VirtualServices that did not change, as long as what they lead to is
//! still the same. An endpoint that comes or goes rebuilds no route, and a changed VirtualService rebuilds its own.
//!
//! A list of routes is kept when nothing was wrong with it. It is taken again when
//! - the proxy is the same,
//! - its VirtualServices are the very objects it was made of, and so are those that were read on the way ([`Memory::read`]),
//! - each destination that was looked up leads to the same cluster,
//! - its regular expressions still have room.
//!
//! So whatever routes depend on has to be one of these.

use std::{
    cell::{Cell, RefCell},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    authorization::kept::Kept as Policies,
    clusters::Places,
    context::Context,
    destinations::{self, Lookup},
    expressions::Used,
    proxy::Proxy,
    tallies::Tallies,
};
use crate::{
    api::VirtualService,
    hashed::{HashMap, HashSet},
    resources::Object,
    table::{Route, RouteList},
    upstream::ClusterId,
};

/// The very same object, as long as somebody holds it.
#[derive(Clone)]
struct Same(Arc<Object<VirtualService>>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.0) as usize).hash(state);
    }
}

/// What a list of routes is made of: VirtualServices in order, each with those of its gateways that are meant.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Recipe {
    parts: Vec<(Same, Vec<String>)>,
    port: u16,
}

impl Recipe {
    pub(super) fn new(port: u16) -> Self {
        Self { parts: Vec::new(), port }
    }

    pub(super) fn add(&mut self, object: &Arc<Object<VirtualService>>, gateways: &[String]) {
        self.parts.push((Same(Arc::clone(object)), gateways.to_vec()));
    }

    /// What it is called, whatever its VirtualServices say.
    fn names(&self) -> impl Hash {
        let part = |(object, gateways): &(Same, Vec<String>)| {
            (object.0.namespace().to_owned(), object.0.name().to_owned(), gateways.clone())
        };
        (self.port, self.parts.iter().map(part).collect::<Vec<_>>())
    }
}

/// A list of routes, and what has to be as it was.
struct Kept {
    list: Arc<RouteList>,
    read: Vec<Same>,
    lookups: Vec<(usize, ClusterId)>,
    expressions: Vec<Used>,
}

/// The way of one lookup in this compilation.
#[derive(Clone, Copy)]
enum Now {
    Unknown,
    Leads(Option<ClusterId>),
}

/// What is noted while a list is made.
#[derive(Default)]
struct Notes {
    read: Vec<Same>,
    lookups: Vec<(usize, ClusterId)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Memory {
    proxy: Option<Proxy>,
    before: RefCell<HashMap<Recipe, Kept>>,
    lists: RefCell<HashMap<Recipe, Kept>>,
    /// Every lookup that a list made.
    lookups: RefCell<Lookups>,
    notes: RefCell<Option<Notes>>,
    places: Places,
    /// What routes have counted; it depends on nothing else that is here.
    pub(super) tallies: Tallies,
    /// VirtualServices that have nothing wrong by themselves: of the last compilation, and of this one.
    clean_before: HashSet<Same>,
    clean: RefCell<HashSet<Same>>,
    /// AuthorizationPolicies of the last compilation, and of this one.
    pub(super) policies_before: Option<Policies>,
    pub(super) policies: RefCell<Option<Policies>>,
    reused: Cell<usize>,
}

#[derive(Default)]
struct Lookups {
    numbers: HashMap<Lookup, usize>,
    all: Vec<(Lookup, Now)>,
}

impl Memory {
    /// Begins a compilation with what the last one left.
    pub(super) fn begin(mut self, proxy: &Proxy) -> Self {
        // Routes do not depend on the addresses of names.
        let proxy = Proxy { resolved: Arc::default(), ..proxy.clone() };
        if self.proxy.as_ref() != Some(&proxy) {
            return Self { proxy: Some(proxy), tallies: self.tallies.begin(), ..Self::default() };
        }
        self.lookups.get_mut().all.iter_mut().for_each(|(_, now)| *now = Now::Unknown);
        self.reused.set(0);
        let (before, policies_before) = (RefCell::new(self.lists.take()), self.policies.take());
        let tallies = std::mem::take(&mut self.tallies).begin();
        Self { before, clean_before: self.clean.take(), policies_before, tallies, ..self }
    }

    /// Where the clusters were.
    pub(super) fn places(&mut self) -> Places {
        std::mem::take(&mut self.places)
    }

    /// Ends it: what was not taken again is forgotten.
    pub(super) fn end(mut self, places: Places) -> Self {
        self.before.take();
        self.tallies = std::mem::take(&mut self.tallies).end();
        self.clean_before = HashSet::default();
        self.policies_before = None;
        // Many vacant ones would be carried along for ever.
        if places.are_mostly_vacant() {
            return Self { proxy: self.proxy, tallies: self.tallies, ..Self::default() };
        }
        self.places = places;
        let lookups = self.lookups.get_mut();
        // Most are looked up again; those that nobody asks for any more would add up.
        let idle = lookups.all.iter().filter(|(_, now)| matches!(now, Now::Unknown)).count();
        if idle > lookups.all.len() / 2 {
            return Self { proxy: self.proxy, places: self.places, tallies: self.tallies, ..Self::default() };
        }
        self
    }

    /// A VirtualService that is read for the list that is being made, besides those of its recipe.
    pub(super) fn read(&self, object: &Arc<Object<VirtualService>>) {
        if let Some(notes) = &mut *self.notes.borrow_mut() {
            notes.read.push(Same(Arc::clone(object)));
        }
    }

    /// Where a destination of the list that is being made leads.
    pub(super) fn looked_up(&self, lookup: Lookup, cluster: ClusterId) {
        let mut notes = self.notes.borrow_mut();
        let Some(notes) = &mut *notes else { return };
        let mut lookups = self.lookups.borrow_mut();
        let Lookups { numbers, all } = &mut *lookups;
        let number = *numbers.entry(lookup).or_insert_with_key(|lookup| {
            all.push((lookup.clone(), Now::Unknown));
            all.len() - 1
        });
        all[number].1 = Now::Leads(Some(cluster));
        if !notes.lookups.contains(&(number, cluster)) {
            notes.lookups.push((number, cluster));
        }
    }

    /// How many lists were taken again.
    pub(super) fn reused(&self) -> usize {
        self.reused.get()
    }
}

/// Looks at an object by itself, unless that told nothing the last time.
pub(super) fn unless_clean(context: &Context<'_>, object: &Arc<Object<VirtualService>>, look: impl FnOnce()) {
    let (memory, object) = (&context.memory, Same(Arc::clone(object)));
    if !memory.clean_before.contains(&object) {
        let told = context.report.told();
        look();
        if context.report.told() != told {
            return;
        }
    }
    memory.clean.borrow_mut().insert(object);
}

/// The list of a recipe: the one of before where nothing has changed, else as `make` says.
pub(super) fn list(context: &Context<'_>, recipe: Recipe, make: impl FnOnce() -> Vec<Route>) -> Arc<RouteList> {
    let memory = &context.memory;
    // Two binds of a port have the same routes.
    if let Some(kept) = memory.lists.borrow().get(&recipe) {
        return Arc::clone(&kept.list);
    }
    if let Some(list) = again(context, &recipe) {
        memory.reused.set(memory.reused.get() + 1);
        memory.tallies.again(&recipe.names(), &list);
        return list;
    }
    let told = context.report.told();
    context.expressions.watch();
    *memory.notes.borrow_mut() = Some(Notes::default());
    let list = memory.tallies.list(&recipe.names(), make());
    let notes = memory.notes.borrow_mut().take().unwrap_or_default();
    let expressions = context.expressions.watched();
    if context.report.told() == told {
        let Notes { read, lookups } = notes;
        memory.lists.borrow_mut().insert(recipe, Kept { list: Arc::clone(&list), read, lookups, expressions });
    }
    list
}

fn again(context: &Context<'_>, recipe: &Recipe) -> Option<Arc<RouteList>> {
    let memory = &context.memory;
    let (recipe, kept) = memory.before.borrow_mut().remove_entry(recipe)?;
    let unchanged = kept.read.iter().all(|Same(object)| {
        let now = context.resources.virtual_services.get(object.namespace(), object.name());
        now.is_some_and(|now| Arc::ptr_eq(now, object))
    });
    if !unchanged || !kept.lookups.iter().all(|&(number, cluster)| leads_to(context, number) == Some(cluster)) {
        return None;
    }
    if !kept.expressions.iter().all(|used| context.expressions.take_again(used)) {
        return None;
    }
    let list = Arc::clone(&kept.list);
    memory.lists.borrow_mut().insert(recipe, kept);
    Some(list)
}

/// Where a lookup leads now. Makes the cluster, too, if it is not there yet.
fn leads_to(context: &Context<'_>, number: usize) -> Option<ClusterId> {
    let lookups = &context.memory.lookups;
    let (lookup, now) = lookups.borrow().all[number].clone();
    match now {
        Now::Leads(cluster) => cluster,
        Now::Unknown => {
            let found = destinations::find(context, &lookup).ok();
            lookups.borrow_mut().all[number].1 = Now::Leads(found);
            found
        }
    }
}
