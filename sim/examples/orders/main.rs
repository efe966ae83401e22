//! A small service, and its test through an outage of its database: `cargo run -p pgweir-sim --example orders` shows
//! the outage, `cargo test -p pgweir-sim --example orders` tests it over many seeds.

#![allow(unreachable_pub, reason = "in a service these would be its public parts")]
#![allow(clippy::print_stdout, reason = "an example says what happened")]

mod outage;
mod service;

use pgweir_sim::Sim;

fn main() {
    let sim = Sim::new(1);
    let story = outage::the_database_crashes_under_load(&sim);
    println!(
        "seed {}, {} s of virtual time, digest {}",
        sim.seed(),
        sim.now().as_nanos() / 1_000_000_000,
        sim.digest()
    );
    println!("{} orders placed, {} callers told at once that the database is down", story.placed, story.unavailable);
    println!("the longest that a caller waited: {:?}", story.longest);
    println!("from the server's return to the next order: {:?}", story.back_after);
}
