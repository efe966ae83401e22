//! pgweir: benches.
