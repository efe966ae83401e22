//! One conformance suite for every runtime.
//!
//! What [`Runtime`], [`Stream`] and [`Timer`] promise is tested here by bodies that are generic over the runtime, and
//! so is what a pool does there, as far as that needs nothing but a database. A test binary gets them all with one line:
//!
//! ```text
//! pgweir_tests::conformance!(pgweir_async_std::smol::Smol, smol::block_on);
//! ```
//!
//! The first argument is the runtime's type, the second a function that runs a future to its end on it. A binary of
//! this package that also has `mod suite;` runs every real-database test on that runtime, too.
//!
//! [`Runtime`]: pgweir_core::runtime::Runtime
//! [`Stream`]: pgweir_core::runtime::Stream
//! [`Timer`]: pgweir_core::runtime::Timer

pub mod clock;
pub mod connects;
mod database;
mod io;
mod peer;
pub mod pools;
pub mod stalls;
pub mod streams;
pub mod tasks;
pub mod timers;
mod wakers;

pub use database::{Database, RealPostgres};
pub use peer::{Act, Control, Peer, Place, RealSockets, World};

/// The runtimes that pass: the test binaries of this package, columns of the table that `cargo conformance` prints.
pub const RUNTIMES: [&str; 5] = ["tokio_current_thread", "tokio_multi_thread", "smol", "async_std", "own_runtime"];

/// The binary of the simulator: what a runtime promises is there too, and what a pool does; not what needs a real
/// PostgreSQL.
pub const SIMULATOR: &str = "simulator";

/// Every body of what a runtime promises, as `module::body`.
pub const BODIES: &[&str] = crate::runtime_conformance!();

/// The conformance suite for one runtime, as tests of the binary that has this line at its root. See
/// [`conformance`](mod@crate::conformance).
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "it belongs at the root of the crate that has it")]
macro_rules! conformance {
    ($runtime:ty, $block_on:expr) => {
        /// The runtime that this binary is about.
        type Subject = $runtime;

        /// Runs a future to its end on it.
        fn block_on<T>(future: impl Future<Output = T>) -> T {
            ($block_on)(future)
        }

        mod runtime {
            $crate::runtime_conformance!(crate::Subject, $crate::conformance::RealSockets, crate::block_on);
        }
    };
}

/// What a runtime promises, body by body: the list that every binary gets.
#[macro_export]
macro_rules! runtime_conformance {
    () => {
        $crate::runtime_conformance!(@list names)
    };
    ($runtime:ty, $world:ty, $block_on:expr) => {
        $crate::runtime_conformance!(@list tests $runtime, $world, $block_on;);
    };
    (@list $($then:tt)*) => {
        $crate::runtime_conformance! { @ $($then)*
            clock {
                never_goes_back
                goes_on_while_a_timer_runs
                wall_clock_goes_on
            }
            timers {
                are_never_early
                of_the_past_are_due_at_once
                of_the_far_future_wait
                are_moved_while_they_wait
                wait_again_after_they_were_due
                wake_the_waker_of_the_latest_poll
                a_thousand_of_them_are_all_due
            }
            connects {
                refused
                of_no_such_socket
                of_a_socket_that_nobody_listens_on
                without_permission
                to_a_crowded_socket
                that_are_dropped_close
                both_kinds_reach_their_peer
                work_outside_of_the_runtime
                names_are_resolved
                addresses_are_names_of_themselves
                unknown_names_are_errors
            }
            streams {
                carry_bytes_both_ways
                end_once_and_for_all
                report_a_reset
                close_one_direction
                wake_the_reader_of_the_latest_poll
                peek_tells_what_has_arrived
                peek_tells_a_reset
                are_aborted_while_a_read_waits
                are_aborted_at_any_time
                dropped_are_closed
                may_be_moved_between_tasks
            }
            stalls {
                a_write_waits_for_a_slow_reader
                wake_the_writer_of_the_latest_poll
                a_reader_is_woken_while_a_write_waits
                a_write_that_waits_is_aborted
            }
            tasks {
                run_while_the_caller_waits
                are_spawned_from_tasks
                are_spawned_from_other_threads
                are_spawned_from_a_drop
                outlive_who_spawned_them
                are_joined_and_aborted
            }
            pools {
                open_and_close
                open_lazily
                queries
                transactions
                many_tasks_share_few_connections
                first_come_first_served
                an_acquire_times_out
                a_dropped_acquire_strands_nobody
                a_dropped_query_is_cancelled
                a_query_is_cancelled_by_its_token
                a_command_times_out
                an_open_transaction_is_rolled_back
                dead_idle_connections_are_replaced
                a_connection_dies_while_it_is_lent
                a_lease_outlives_its_pool
                a_shutdown_has_a_deadline
                a_close_is_one_close
                resize_pause_and_recycle
                hooks
                nobody_listens
            }
        }
    };
    (@ names $($module:ident { $($body:ident)* })*) => {
        &[$($(concat!(stringify!($module), "::", stringify!($body)),)*)*]
    };
    (@ tests $runtime:ty, $world:ty, $block_on:expr; $($module:ident { $($body:ident)* })*) => {
        $(mod $module {
            $(#[test]
            fn $body() {
                ($block_on)($crate::conformance::$module::$body::<$runtime, $world>());
            })*
        })*
    };
}
