//! The one switch between std's primitives and loom's: everything concurrent in the driver takes them from here.
//!
//! Some `Arc`s are std's under loom too, because loom's cannot be them: those that a [`Waker`](std::task::Waker) is made
//! of, and those of trait objects. They only keep alive what they point to; what is decided by an order among threads
//! is behind a lock or an atomic of this module.

#[cfg(all(test, not(pgweir_loom)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(not(pgweir_loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(all(test, pgweir_loom))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(pgweir_loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// std's under loom too. For a static, which outlives every run of a model, as loom's cannot; and for what only people read:
/// a count of queries, a call stack's text. Good for numbering things, not for order.
pub(crate) use std::sync::{OnceLock, atomic::AtomicU64 as StaticU64};

/// Locks, whether or not a thread panicked while it held the lock: the machine's state is valid between two events, and
/// a pool that refuses all work after one panic helps nobody.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
