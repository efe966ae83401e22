//! Where one message ends and the next begins, with every declared length capped before anything is done with it.

/// How long messages from the server may be, in bytes with their header. A longer one ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Rows, errors, descriptions. The server itself stops at 1 GiB.
    pub message: usize,
    /// Everything before the session begins, and what comes unasked: parameters and notifications.
    pub small_message: usize,
    /// Requests waiting for their answers.
    pub pending: usize,
    /// Bytes queued beyond which no further request is taken.
    pub unsent: usize,
    /// Notices, notifications and parameters waiting to be polled; the oldest are dropped and counted.
    pub unasked_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message: 64 << 20, small_message: 64 << 10, pending: 10_000, unsent: 64 << 20, unasked_events: 1_000 }
    }
}
