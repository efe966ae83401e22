//! The HTTP endpoint on real sockets and a real server, on each runtime; and the dashboard and alert rules against what
//! it says. (Its limits are tested in virtual time, in pgweir-core.)

mod bodies;
mod files;

use pgweir_async_std::async_std::AsyncStd;
use pgweir_async_std::smol::Smol;
use pgweir_tokio::TokioRuntime;

fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

macro_rules! on_every_runtime {
    ($($body:ident)*) => {
        mod on_tokio {
            $(#[test]
            fn $body() {
                super::on_tokio(super::bodies::$body::<super::TokioRuntime>());
            })*
        }

        mod on_smol {
            $(#[test]
            fn $body() {
                smol::block_on(super::bodies::$body::<super::Smol>());
            })*
        }

        mod on_async_std {
            $(#[test]
            fn $body() {
                async_std::task::block_on(super::bodies::$body::<super::AsyncStd>());
            })*
        }
    };
}

on_every_runtime! {
    every_page_is_answered_and_holds_no_secret
    scrapes_go_on_through_an_outage
    a_connection_asks_many_times
    bad_requests_are_answered_and_ended
    slow_clients_lose_their_connection
    many_connections_at_once
    a_stop_closes_everything
    an_address_in_use_is_an_error
}
