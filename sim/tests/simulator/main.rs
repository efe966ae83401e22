//! The simulator's own tests: the scenarios that ship, the command line, what is refused, and canaries for the oracle.

mod bad_input;
mod broken;
mod canaries;
mod command;
mod exhaustive;
mod fleet;
mod journal;
mod scenarios;
mod serve;
mod support;
mod swarm;
mod what_if;
mod whole;
