//! Every sequence of events, in small. How many states there are at each depth is part of what is tested: a search that
//! finds nothing new, or takes everything for new, shows nothing. A change of the machine may change them.

use pgweir_sim::exhaustive::{Explored, Small};

use crate::support::{command, stdout};

fn explored(connections: u32, waiters: u32, depth: u32) -> Explored {
    let small = Small { connections, waiters, depth };
    small.explore().unwrap_or_else(|counterexample| panic!("{small:?}: {counterexample}"))
}

#[test]
fn a_pool_of_one_keeps_every_guarantee_and_heals() {
    assert_eq!(explored(1, 1, 5).layers, [2, 14, 63, 218, 696, 2035]);
    assert_eq!(explored(1, 2, 5).layers, [2, 14, 64, 229, 753, 2296]);
}

#[test]
fn two_connections_and_two_waiters_keep_every_guarantee_and_heal() {
    let found = explored(2, 2, 4);
    assert_eq!(found.layers, [2, 17, 111, 563, 2229]);
    assert_eq!(found.states, found.layers.iter().sum::<u64>());
    assert!(found.transitions > 2 * found.states, "{found:?}");
}

#[test]
fn three_connections_and_three_waiters_keep_every_guarantee_and_heal() {
    assert_eq!(explored(3, 3, 3).layers, [2, 19, 146, 897]);
}

#[test]
fn the_command_says_what_was_explored() {
    let output = command(&["exhaustive", "--connections", "1", "--waiters", "1", "--depth", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("1 connections, 1 waiters, depth 2: "), "{}", stdout(&output));
}
