//! The client against a CA that says what a test wants it to say.

mod accounts;
mod answers;
mod ca;
mod orders;

use super::*;

/// Every call can be made from a task that moves between threads.
#[test]
fn calls_may_move_between_threads() {
    fn is_send<T: Send>(_: fn() -> T) {}
    fn of<A, T: Send>(_: impl FnOnce(A) -> T) {}
    of(|(client, registration): (&'static Client, &'static Registration<'static>)| client.register(registration));
    of(|client: &'static Client| client.account(""));
    of(|(account, request): (&'static Account, &'static OrderRequest<'static>)| account.order(request));
    of(|account: &'static Account| account.resume(""));
    of(|account: &'static Account| account.revoke(b"", RevocationReason::Superseded));
    of(|account: &'static Account| account.renewal(b""));
    of(|account: &'static Account| account.update_email(None));
    of(|account: &'static mut Account| account.change_key());
    of(|order: &'static mut Order| order.refresh());
    of(|order: &'static mut Order| order.authorizations());
    of(|order: &'static mut Order| order.begin("", false, ChallengeKind::Dns01));
    of(|order: &'static mut Order| order.finalize(b""));
    of(|order: &'static mut Order| order.certificate());
    is_send::<Error>(|| Error::Server(String::new()));
}
