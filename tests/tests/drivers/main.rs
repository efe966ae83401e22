//! Bring your own driver: what a pool promises, over our own client and over tokio-postgres, by the same bodies; and
//! what is tokio-postgres's alone.

mod common;
mod driver;
mod encrypted;
mod ending;
mod leftovers;
mod lending;
mod outages;
mod tokio_postgres;

/// Instantiates every body over every driver.
macro_rules! over_every_driver {
    ($($body:ident)*) => {
        mod over_pgweir {
            $(#[test]
            fn $body() {
                crate::common::run(super::$body::<crate::driver::Own>());
            })*
        }
        mod over_tokio_postgres {
            $(#[test]
            fn $body() {
                crate::common::run(super::$body::<crate::driver::TokioPostgres>());
            })*
        }
    };
}
use over_every_driver;
