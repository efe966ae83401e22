//! pgweir: sim.
