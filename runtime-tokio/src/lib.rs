//! pgweir: runtime-tokio.
