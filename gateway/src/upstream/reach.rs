//! The address of an endpoint that no configuration holds: where the client meant to go, or what the name of the request has
//! now. An answer of DNS is asked for once and connected to as it was checked.

use std::net::SocketAddr;

use routing::{
    reach::{self, Reach},
    upstream::Cluster,
};

use super::lookups::Lookups;
use crate::net::facts::{Arrival, Facts};

/// Where a connection for a cluster goes. `authority`: the name that is asked for. `tried`: what was in vain so far.
///
/// # Errors
/// `None`: there is nowhere to go; `Some`: why, in a few words.
pub(crate) async fn find(
    lookups: &Lookups,
    cluster: &Cluster,
    (facts, authority): (&Facts, &str),
    tried: &[SocketAddr],
) -> Result<SocketAddr, Option<String>> {
    match cluster.reach {
        Reach::Endpoints => Err(None),
        Reach::Original => match facts.arrival {
            Arrival::Outbound { original: Some(original) } if !original.ip().is_unspecified() => Ok(original),
            _ => Err(None),
        },
        Reach::Name { port, inside } => {
            let name = reach::name(&cluster.host, authority).map_err(|refused| Some(refused.to_string()))?;
            let addresses = lookups.find(name).await.map_err(Some)?;
            let again = |ip| tried.contains(&SocketAddr::new(ip, port));
            let chosen = reach::choose(name, &addresses, inside, again).map_err(|refused| Some(refused.to_string()))?;
            Ok(SocketAddr::new(chosen, port))
        }
    }
}
