//! Everything on smol.

mod suite;

pgweir_tests::conformance!(pgweir_async_std::smol::Smol, smol::block_on);
