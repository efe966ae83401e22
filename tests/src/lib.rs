//! pgweir: tests.
