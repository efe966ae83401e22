//! What a runtime promises, and what a pool does on it, in the simulator: the fifth runtime. What needs a real
//! PostgreSQL, a real network or threads is not here.

#[path = "simulator/world.rs"]
mod world;

use pgweir_sim::Sim;

/// The seed of each run; another one is tried with `PGWEIR_SIM_SEED`.
const SEED: u64 = 1;

/// Runs a future to its end in a simulation of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    Sim::new(SEED).run(async |sim| {
        let _entered = world::enter(sim);
        future.await
    })
}

mod runtime {
    pgweir_tests::runtime_conformance!(pgweir_sim::SimRuntime, crate::world::Simulated, crate::block_on);
}
