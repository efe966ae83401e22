//! Everything on async-std.

mod suite;

#[path = "everlasting/outliving.rs"]
mod outliving;

pgweir_tests::conformance!(pgweir_async_std::async_std::AsyncStd, async_std::task::block_on);
