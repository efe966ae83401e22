//! Runs the pool machine over a runtime.
