//! Queries, transactions and rows over a lease.
