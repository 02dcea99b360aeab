//! One of the ways to give rules to the kernel: what of ours is there, what should be, and the difference in one transaction.

use super::{
    Family, Means,
    iptables::{self, Found},
    nftables,
    plan::{Rule, Table},
    program::{Failure, run},
};

/// Seconds to wait for whoever else changes rules.
const WAIT: &str = "--wait=30";

/// A way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Backend {
    /// `ipNAME-restore` and `ipNAME-save`.
    Iptables(&'static str),
    /// `nft`.
    Nftables,
}

/// All, the preferred first.
const ALL: [Backend; 4] = [
    Backend::Iptables("tables"),
    Backend::Iptables("tables-nft"),
    Backend::Iptables("tables-legacy"),
    Backend::Nftables,
];

/// Where in the kernel rules are kept. What is in one does not show in another, and holds all the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Store {
    /// What iptables has had from the beginning.
    Legacy,
    /// Tables of nftables in the form of iptables.
    Translated,
    /// Tables of nftables of our own.
    Own,
}

/// What was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Done {
    /// It was so already.
    Nothing,
    /// Rules were changed.
    Changed,
}

impl Done {
    fn and(self, other: Self) -> Self {
        if self == Self::Nothing { other } else { self }
    }
}

impl Backend {
    /// For people.
    pub(super) fn name(self) -> String {
        match self {
            Self::Iptables(stem) => format!("ip{stem}"),
            Self::Nftables => "nftables".to_owned(),
        }
    }

    fn all(means: Means) -> impl Iterator<Item = Self> {
        ALL.into_iter().filter(move |it| match means {
            Means::Auto => true,
            Means::Iptables => *it != Self::Nftables,
            Means::Nftables => *it == Self::Nftables,
        })
    }

    /// The first that is installed and that the kernel answers.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn choose(means: Means) -> Result<Self, String> {
        let mut refusal = None;
        for backend in Self::all(means) {
            match backend.probe() {
                Ok(()) => return Ok(backend),
                Err(Failure::Missing) => {}
                Err(Failure::Refused(why)) => refusal = refusal.or(Some(why)),
            }
        }
        Err(refusal.unwrap_or_else(|| not_installed(means)))
    }

    /// What `--dry-run` prints for: the first that is installed, whether the kernel answers or not.
    pub(super) fn likely(means: Means) -> Self {
        let mut all = Self::all(means);
        let first = Self::all(means).next().unwrap_or(Self::Nftables);
        all.find(|backend| backend.store().is_some()).unwrap_or(first)
    }

    /// One that is installed for each store in the kernel.
    pub(super) fn installed(means: Means) -> Vec<Self> {
        let mut stores = Vec::new();
        let new = |backend: &Self| {
            let store = backend.store().filter(|store| !stores.contains(store));
            stores.extend(store);
            store.is_some()
        };
        Self::all(means).filter(new).collect()
    }

    /// Whether two of them are about the same rules.
    pub(super) fn shares_store(self, other: Self) -> bool {
        self.store() == other.store()
    }

    /// `None`: it is not installed.
    fn store(self) -> Option<Store> {
        let version = |program: &str| run(program, &["--version"], "");
        match self {
            // Before 1.8 there was one kind, which it does not tell.
            Self::Iptables(_) => {
                let version = version(&self.program(Family::V4, "restore")).ok()?;
                Some(if version.contains("nf_tables") { Store::Translated } else { Store::Legacy })
            }
            Self::Nftables => version("nft").ok().map(|_| Store::Own),
        }
    }

    fn probe(self) -> Result<(), Failure> {
        match self {
            Self::Iptables(_) => {
                run(&self.program(Family::V4, "restore"), &["--version"], "")?;
                self.save(Family::V4, Table::Nat).map(drop)
            }
            Self::Nftables => run("nft", &["list", "tables"], "").map(drop),
        }
    }

    /// As `ip6tables-nft-save`.
    fn program(self, family: Family, half: &str) -> String {
        let Self::Iptables(stem) = self else { return "nft".to_owned() };
        format!("{}{stem}-{half}", if family == Family::V4 { "ip" } else { "ip6" })
    }

    fn save(self, family: Family, table: Table) -> Result<String, Failure> {
        run(&self.program(family, "save"), &["-t", iptables::table(table)], "")
    }

    /// The text that makes a fresh namespace hold the rules.
    pub(super) fn text(self, rules: &[Rule], family: Family) -> String {
        let of = |table: Table| match self {
            Self::Iptables(_) => {
                let any = rules.iter().any(|rule| table.chains().contains(&rule.chain));
                any.then(|| iptables::restore(&Found::default(), rules, table))
            }
            Self::Nftables => {
                let text = nftables::declare(rules, family, table)?;
                Some(nftables::remove(family, table) + &text)
            }
        };
        Table::ALL.into_iter().filter_map(of).collect()
    }

    /// Makes the kernel hold these rules and no others of ours; none at all takes everything away.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn apply(self, rules: &[Rule], family: Family) -> Result<Done, String> {
        let mut done = Done::Nothing;
        for table in Table::ALL {
            let one = match self {
                Self::Iptables(_) => self.apply_iptables(rules, family, table),
                Self::Nftables => apply_nftables(rules, family, table),
            };
            done = done.and(one?);
        }
        Ok(done)
    }

    fn apply_iptables(self, rules: &[Rule], family: Family, table: Table) -> Result<Done, String> {
        let wanted = rules.iter().any(|rule| table.chains().contains(&rule.chain));
        if !wanted && self.store() == Some(Store::Legacy) && !has_legacy(family, table) {
            // To ask would make one.
            return Ok(Done::Nothing);
        }
        let program = self.program(family, "save");
        let saved = match self.save(family, table) {
            Ok(saved) => saved,
            // A kernel without nftables has nothing of ours there.
            Err(_) if !wanted && self.store() == Some(Store::Translated) => return Ok(Done::Nothing),
            Err(failure) => return Err(failure.sentence(&program)),
        };
        let found = Found::read(&saved);
        if found.is(rules, table) && (wanted || found.is_empty()) {
            return Ok(Done::Nothing);
        }
        let program = self.program(family, "restore");
        let text = iptables::restore(&found, rules, table);
        run(&program, &["--noflush", WAIT], &text).map_err(|failure| failure.sentence(&program))?;
        Ok(Done::Changed)
    }
}

fn apply_nftables(rules: &[Rule], family: Family, table: Table) -> Result<Done, String> {
    let listed = run("nft", &["list", "table", nftables::family(family), nftables::table(table)], "").ok();
    let wanted = nftables::declare(rules, family, table);
    match (&listed, &wanted) {
        (None, None) => return Ok(Done::Nothing),
        (Some(listed), Some(wanted)) if nftables::same(listed, wanted) => return Ok(Done::Nothing),
        _ => {}
    }
    let text = nftables::remove(family, table) + &wanted.unwrap_or_default();
    run("nft", &["-f", "-"], &text).map_err(|failure| failure.sentence("nft"))?;
    Ok(Done::Changed)
}

/// Whether the kernel has such a table here.
fn has_legacy(family: Family, table: Table) -> bool {
    let ip = if family == Family::V4 { "ip" } else { "ip6" };
    let names = std::fs::read_to_string(format!("/proc/net/{ip}_tables_names")).unwrap_or_default();
    names.lines().any(|name| name == iptables::table(table))
}

/// What to install.
pub(super) fn not_installed(means: Means) -> String {
    let (programs, packages) = match means {
        Means::Auto => ("neither iptables-restore nor nft is installed", "iptables or nftables"),
        Means::Iptables => ("iptables-restore is not installed", "iptables"),
        Means::Nftables => ("nft is not installed", "nftables"),
    };
    format!("{programs}: use an image that has the package {packages}, as charts/image/Dockerfile.init makes one")
}
