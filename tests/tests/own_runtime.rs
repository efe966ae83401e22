//! Everything on a third party's runtime: the one in the documentation of [`pgweir_core::runtime`].

mod suite;

#[path = "everlasting/outliving.rs"]
mod outliving;

#[allow(unreachable_pub, reason = "public where it is documented")]
#[path = "../../core/docs/own_runtime.rs"]
mod own_runtime;

pgweir_tests::conformance!(own_runtime::OneThread, own_runtime::block_on);
