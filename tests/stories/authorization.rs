//! Who may do what: the tables of `tests/authorization`, at a gateway and at sidecars.

use harness::authorization::{play, table::Place, tables};

/// A test for every table and place, so that a failure names them; the failure itself names the row.
macro_rules! tables {
    ($($name:ident: $($place:ident),*;)*) => {
        $(
            mod $name {
                use super::*;
                $(
                    #[tokio::test]
                    #[expect(non_snake_case, reason = "it is called as the place")]
                    async fn $place() {
                        assert!(play(stringify!($name), Place::$place).await > 0);
                    }
                )*
            }
        )*

        #[test]
        fn every_table_is_played() {
            assert_eq!(tables(), [$(stringify!($name)),*], "a file of tests/authorization is a line here, in order");
        }
    };
}

tables! {
    actions: Gateway, Sidecar;
    aliases: Sidecar;
    broken: Gateway, Sidecar;
    bytes: Bytes;
    conditions: Gateway, Sidecar;
    operations: Gateway, Sidecar;
    paths_base: Gateway, Sidecar;
    paths_decode: Gateway, Sidecar;
    paths_merge: Gateway, Sidecar;
    paths_none: Gateway, Sidecar;
    proxies: Gateway;
    sources: Gateway, Sidecar;
    tokens: Gateway, Sidecar;
}
