//! Models of the one concurrent layer, run by [loom] under every order of their threads.
//!
//! ```text
//! cargo loom                                             # all; add `-- --nocapture` for the number of schedules
//! cargo loom -- --exact driver::loom::leak::a_leak_scan_meets_the_release                                # one
//! LOOM_MAX_PREEMPTIONS=4 cargo loom -- ...               # a search that goes deeper, and takes long
//! LOOM_LOCATION=1 cargo loom -- ...                      # where the threads were, when one fails
//! ```
//!
//! # What is checked
//! The models run the driver itself, with the real machine in it: `shared`, `lending`, `acquire`, `lease`, `signal`,
//! `waiting`, `task`. Only the ends are fakes: a runtime whose clock is set by hand, a manager whose connections are
//! numbers. Under `--cfg pgweir_loom` the switch in `sync` gives all of them loom's primitives. Each model fails
//!
//! - where a thread waits for ever: a lost wakeup is a deadlock to loom;
//! - where an assertion fails, the machine's and the driver's debug assertions included;
//! - where the shared state outlives its last handle;
//! - and at its end, where a connection is open that should not be, or a slot or waiter is left.
//!
//! Of a failure's output the first panic is what was found. Those after it are loom's, which cannot unwind threads in
//! the middle of a lock.
//!
//! | model | threads | preemptions |
//! |---|---|---|
//! | grant and dropped acquire | who releases, who drops, who is next | 3 |
//! | release and acquire | who releases, two who acquire | 3 |
//! | grant and a poll with a new waker | who releases, the new task | 3 |
//! | close and acquire | who closes, who releases and acquires again, the background task | 2 |
//! | close and close | two who close, the background task | 2 |
//! | last handle and connect in flight | two who drop a handle, one of which lets the server answer first, the background task | 3 |
//! | the runtime's end, release and acquire | who drops the background task, who releases, who acquires | 3 |
//! | parking and command | who acquires where nothing is open, the background task | 3 |
//! | parking and deadline | who acquires, the clock, the background task | 3 |
//! | parking and socket | the socket, the background task | 3 |
//! | release and socket | who releases, the socket, the background task | 2 |
//! | resize to less and release | who resizes, who releases, the background task | 3 |
//! | resize to more, release and acquire | who resizes and releases, who acquires, the background task | 2 |
//! | leak scan and release | who releases, the background task | 3 |
//!
//! # What is not
//! - Bugs that need more preemptions than the bound, or more threads, connections or waiters than a model has. A
//!   preemption is a switch away from a thread that could go on; switches where a thread waits are not counted. Also,
//!   a waker wakes its thread for no reason at most once.
//! - The pool's end after the interesting part: it runs under one order only (`Rig::end`). It has models of its own.
//! - What is not behind the switch: `Arc`s of trait objects and of wakers, which are std's (see `sync`); the clients'
//!   own locks (`client::limit`, `client::types`, `manager::gate`, `os::journal`); the journal, which is off here.
//! - Real runtimes, sockets and clocks. Those are the conformance suite's.
//!
//! # How it is known that a model catches its bug
//! Each was seen to fail with a line of the driver broken. `mutations.txt` beside this file has these breaks as text to
//! replace, with the model that fails:
//!
//! | model | where | what was broken | loom said |
//! |---|---|---|---|
//! | `a_grant_meets_an_acquire_that_is_dropped` | `lending.rs`, `cancel` | what was granted is dropped instead of released | deadlock: the next in line waits for ever |
//! |  |  | the cell is emptied and the machine told under two locks | "an answer for a waiter that is gone" |
//! | `a_release_meets_two_acquires` | `lending.rs`, `acquire_slowly` | the cell is made under another lock than the place in the queue | "an answer for a waiter that is gone" |
//! |  | `lending.rs`, `release` | the waker is not called | deadlock |
//! |  | `lending.rs`, `release` | the machine is told before the connection is back, under another lock | "the machine granted 0.1, which is not idle" |
//! | `a_grant_meets_an_acquire_that_moves_to_another_task` | `waiting.rs`, `Cells::poll` | a new waker does not replace the old one | deadlock |
//! | `a_close_meets_an_acquire_and_a_release` | `pool.rs`, `until` | looks and registers under two locks | deadlock: the close never returns |
//! | `two_closes_wait_for_one_end` | `shared.rs`, `watch` | two who wait get one key | deadlock |
//! | `the_last_handle_is_dropped_while_a_connect_is_in_flight` | `pool.rs`, `Drop for Pool` | a load and a subtraction instead of one step | deadlock: the task never ends |
//! |  | `lending.rs`, `put_home` | a connect that comes too late is put into the slot | a connection is open after the end |
//! | `the_runtime_ends_while_a_lease_comes_back_and_an_acquire_waits` | `shared.rs`, `carry_out` | commands wait for a task that is gone | a connection is open after the end |
//! | `the_task_parks_while_a_command_is_posted` | `task.rs`, `poll` | looks at the bell before it registers | deadlock |
//! |  | `task.rs`, `turn` | silences the bell after the look | deadlock |
//! | `the_task_parks_while_an_earlier_deadline_is_posted` | `lending.rs`, `acquire_slowly` | does not ring for an earlier deadline | deadlock: no timeout |
//! | `the_task_parks_while_an_idle_socket_ends` | `signal.rs`, `wake_by_ref` | rings before it marks | deadlock: the connection is never replaced |
//! |  | `signal.rs`, `Signal::take` | `Relaxed` instead of `AcqRel`: the mark is not seen | deadlock |
//! | `a_socket_ends_while_its_connection_is_put_back` | `member.rs`, `poll_idle` | clears the mark after it asked the socket | deadlock |
//! |  | `lending.rs`, `put_home` | does not look at the mark | deadlock |
//! | `a_resize_to_less_meets_a_release` | `shared.rs`, `carry_out` | does not ring | deadlock: the surplus stays open |
//! | `a_resize_to_more_meets_a_release_and_an_acquire` | `shared.rs`, `carry_out` | rings for deadlines only, not for commands | deadlock: nothing is opened |
//! |  | `effects.rs`, `finish` | wakers are dropped | deadlock |
//! | `a_leak_scan_meets_the_release` | `shared.rs`, `emit` | two log at once | the log says resolved, then suspected |
//!
//! [loom]: https://docs.rs/loom

mod acquire;
mod close;
mod leak;
mod log;
mod parking;
mod resize;
mod rig;
