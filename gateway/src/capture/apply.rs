//! `sluice init`, from what was asked for to what the kernel does.

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    Family, Means, Orders,
    backend::{Backend, Done, not_installed},
    loopback,
    plan::plan,
    system::{self, Ipv6},
};

/// Prints the rules, puts them in force, or takes them away.
///
/// # Errors
/// What is missing, in a sentence.
pub(crate) fn run(orders: &Orders) -> Result<()> {
    orders.remarks.iter().for_each(|remark| eprintln!("sluice: {remark}"));
    let ipv6 = system::ipv6();
    if orders.dry_run {
        print(orders, ipv6);
        return Ok(());
    }
    system::may_change().map_err(|why| anyhow!(why))?;
    if orders.clean { clean(orders) } else { put_in_force(orders, ipv6) }
}

fn print(orders: &Orders, ipv6: Ipv6) {
    let backend = Backend::likely(orders.means);
    for family in ipv6.families() {
        println!("# {} by {}", family.name(), backend.name());
        let rules = if orders.clean { Vec::new() } else { plan(&orders.capture, *family) };
        match rules.is_empty() {
            true => println!("# everything of ours is taken away"),
            false => print!("{}", backend.text(&rules, *family)),
        }
    }
    if ipv6 != Ipv6::Nothing && !orders.clean {
        println!("# and the address ::6 for the interface lo");
    }
}

fn clean(orders: &Orders) -> Result<()> {
    let backends = Backend::installed(orders.means);
    if backends.is_empty() {
        bail!(not_installed(orders.means));
    }
    let mut done = Vec::new();
    for backend in backends {
        for family in [Family::V4, Family::V6] {
            if take_away(backend, family)? == Done::Changed {
                done.push(format!("{} by {}", family.name(), backend.name()));
            }
        }
    }
    // Without IPv6 in the kernel there is no address either.
    let _ = loopback::remove();
    match done.is_empty() {
        true => println!("nothing was captured by rules of ours"),
        false => println!("rules taken away: {}", done.join(", ")),
    }
    Ok(())
}

/// A family that this system cannot filter has no rules of ours.
fn take_away(backend: Backend, family: Family) -> Result<Done> {
    match backend.apply(&[], family) {
        Err(_) if family == Family::V6 && system::ipv6() == Ipv6::Nothing => Ok(Done::Nothing),
        other => other.map_err(|why| anyhow!(why)),
    }
}

fn put_in_force(orders: &Orders, ipv6: Ipv6) -> Result<()> {
    let backend = Backend::choose(orders.means).map_err(|why| anyhow!(why))?;
    let mut told = Vec::new();
    for family in ipv6.families() {
        match backend.apply(&plan(&orders.capture, *family), *family) {
            Ok(Done::Changed) => told.push(format!("{} set", family.name())),
            Ok(Done::Nothing) => told.push(format!("{} was so already", family.name())),
            Err(why) if *family == Family::V6 && ipv6 == Ipv6::Link => {
                eprintln!("sluice: of IPv6 there are addresses of the link alone, and they are not captured: {why}");
            }
            Err(why) => return Err(anyhow!("{} is not captured: {why}", family.name())),
        }
    }
    if ipv6 != Ipv6::Nothing {
        loopback::add()
            .context("the address ::6, from which the proxy reaches its application, cannot be added to lo")?;
    }
    // What another program has set holds beside it.
    for other in Backend::installed(Means::Auto).into_iter().filter(|other| !other.shares_store(backend)) {
        for family in [Family::V4, Family::V6] {
            if take_away(other, family)? == Done::Changed {
                told.push(format!("{} rules of before by {} taken away", family.name(), other.name()));
            }
        }
    }
    println!("captured by {}: {}", backend.name(), told.join(", "));
    Ok(())
}
