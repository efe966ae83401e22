//! pgweir: runtime-async-std.
