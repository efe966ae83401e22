//! Everything on smol.

mod suite;

#[path = "everlasting/outliving.rs"]
mod outliving;

pgweir_tests::conformance!(pgweir_async_std::smol::Smol, smol::block_on);
