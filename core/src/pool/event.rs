//! The machine's vocabulary: what it is told (events), what it wants done (actions), what an operator should see
//! (notices), and the ids in them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::notice::{Notice, Reject};
use crate::time::Instant;

/// One acquire. Minted by the driver: strictly increasing within a pool, never reused, otherwise opaque.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaiterId(pub u64);

/// One connection. Minted by the machine; a slot's generation grows with every connection it holds, so a stale id is
/// recognised and rejected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId {
    /// Index into the slot table, below the largest max_size the pool has had.
    pub slot: u32,
    /// How many connections this slot has held, this one included.
    pub generation: u32,
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {self}")
    }
}

/// A source line that acquires; the driver numbers them in order of first use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteId(pub u32);

/// Which of the configured hosts, by position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub u16);

/// What happened outside. Ids that the machine does not know, or no longer, change nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The pool opens: min_size connections are wanted. With `lazy` nobody waits for them and no number of failures
    /// ends the attempt.
    Start {
        /// Whether the opener waits for min_size.
        lazy: bool,
    },
    /// Somebody wants a connection.
    Acquire {
        /// Who.
        waiter: WaiterId,
        /// Until when. Not after now: only if one can be granted at once (`try_get`).
        deadline: Instant,
        /// How long the lease may be held before it is suspected of a leak; `None` is the pool's own setting,
        /// `Duration::MAX` never.
        leak_after: Option<Duration>,
        /// From where.
        site: SiteId,
    },
    /// The acquire was dropped before it got an answer.
    Cancel {
        /// Whose.
        waiter: WaiterId,
    },
    /// A lease, or a granted acquire that was dropped, gives its connection back.
    Release {
        /// Which.
        conn: ConnId,
        /// In what state.
        fate: Fate,
        /// Requests sent during the lease.
        queries: u64,
        /// For [`Fate::Broken`]: what broke it.
        fault: Option<Box<Fault>>,
    },
    /// A granted connection was found dead by the socket check before its caller saw it. The waiter keeps its place
    /// at the head of the queue and its deadline.
    CheckFailed {
        /// The dead connection.
        conn: ConnId,
        /// What was seen.
        fault: Box<Fault>,
    },
    /// [`Action::Connect`] succeeded.
    Connected {
        /// Which.
        conn: ConnId,
        /// What the server said of itself.
        facts: ServerFacts,
    },
    /// [`Action::Connect`] failed.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Box<Fault>,
    },
    /// [`Action::Validate`] succeeded.
    Validated {
        /// Which.
        conn: ConnId,
    },
    /// [`Action::Validate`] failed.
    ValidationFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Box<Fault>,
    },
    /// [`Action::Reset`] succeeded.
    Reset {
        /// Which.
        conn: ConnId,
    },
    /// [`Action::Reset`] failed.
    ResetFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Box<Fault>,
    },
    /// An idle connection's socket has something to say: it is looked at ([`Check::Socket`]) before it is lent.
    Touched {
        /// Which.
        conn: ConnId,
    },
    /// An idle connection is known to be dead.
    Lost {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Box<Fault>,
    },
    /// [`Action::Close`] is done: the peer's end is known closed.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// Time passed. Spurious ticks are no-ops.
    Tick,
    /// New bounds.
    Resize {
        /// Connections kept open.
        min_size: u32,
        /// Connections at most.
        max_size: u32,
    },
    /// No more grants until [`Event::Resume`]; acquires queue.
    Pause,
    /// Grants again.
    Resume,
    /// Replace every connection that is open or being opened now: idle ones soon, lent ones on return.
    Recycle,
    /// No more acquires; leases may finish until the deadline.
    Shutdown {
        /// When the remaining leases are cut off.
        deadline: Instant,
    },
}

/// In what state a connection comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fate {
    /// Granted but never seen by its caller.
    Unused,
    /// Ready for the next query.
    Clean,
    /// Alive, but mid-request or in a transaction: it must be drained first.
    Dirty,
    /// Dead or in an unknown protocol state.
    Broken,
    /// Alive, but its user does not want it to be used again. That says nothing about the server or the siblings.
    Discarded,
}

/// Why a connection could not be had or was lost.
///
/// Serialised it has its message only if that is [`quotable`](Fault::quotable), and at most [`Fault::KEPT`] bytes of it:
/// so nothing that is written down, a journal above all, can hold what a hook, a query or a credentials provider said.
/// Deserialised, a message that was left out reads "(not recorded)". No decision depends on a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What the pool should make of it.
    pub class: FaultClass,
    /// The server's code, if the server said why.
    pub sqlstate: Option<SqlState>,
    /// For people: one line, no secrets.
    pub message: Arc<str>,
    /// Whether the message is the operating system's, the server's last words or pgweir's own: it cannot hold a user's
    /// data.
    pub quotable: bool,
}

impl Fault {
    /// Bytes of a message that are kept when it is written down.
    pub const KEPT: usize = 512;

    /// A fault without a SQLSTATE, in words that may be anybody's: they are shown to callers and in the log, but not
    /// written to a journal.
    pub fn new(class: FaultClass, message: impl Into<Arc<str>>) -> Self {
        Fault { class, sqlstate: None, message: message.into(), quotable: false }
    }

    /// A fault without a SQLSTATE: what the operating system said, or a deadline, or pgweir itself. A journal keeps it.
    pub fn plain(class: FaultClass, message: impl Into<Arc<str>>) -> Self {
        Fault { quotable: true, ..Fault::new(class, message) }
    }
}

/// What is written down of a fault.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Fault")]
struct KeptFault {
    class: FaultClass,
    sqlstate: Option<SqlState>,
    message: Option<Arc<str>>,
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = match &self.message {
            _ if !self.quotable => None,
            long if long.len() > Fault::KEPT => Some(long[..last_boundary(long)].into()),
            short => Some(short.clone()),
        };
        KeptFault { class: self.class, sqlstate: self.sqlstate, message }.serialize(serializer)
    }
}

/// Where to cut a message that is longer than what is kept.
fn last_boundary(message: &str) -> usize {
    (0..=Fault::KEPT).rev().find(|&index| message.is_char_boundary(index)).unwrap_or(0)
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let KeptFault { class, sqlstate, message } = KeptFault::deserialize(deserializer)?;
        let quotable = message.is_some();
        let message = message.unwrap_or_else(|| "(not recorded)".into());
        Ok(Fault { class, sqlstate, message, quotable })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.sqlstate {
            Some(code) => write!(f, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

/// What the pool makes of a fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// It may pass: refused, reset, timed out, ended (08xxx, 57P01, 57P02, 58xxx, XX000).
    Transient,
    /// The server is alive and says "not yet": 57P03.
    NotYet,
    /// Trying again will not help: 28xxx, 3D000, 42501, 55000, a TLS or protocol mismatch.
    Permanent,
    /// The server allows no more connections: 53xxx.
    Capacity,
    /// Alive, but a standby where a primary is wanted (or the reverse): 25006, target_session_attrs.
    WrongRole,
}

/// A five-character SQLSTATE (PostgreSQL documentation, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The code in `text`, if it is five ASCII letters or digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 5] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(SqlState(bytes))
    }

    /// The five characters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked to be ASCII by parse")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for SqlState {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        SqlState::parse(&text).ok_or_else(|| format!("{text:?} is not a SQLSTATE: five letters or digits"))
    }
}

impl From<SqlState> for String {
    fn from(code: SqlState) -> String {
        code.code().to_owned()
    }
}

/// What a server said of itself when a session began.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServerFacts {
    /// The session's process id, 0 if unknown.
    pub backend_pid: i32,
    /// Whether it takes writes.
    pub role: Role,
}

/// Whether a server takes writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Not asked.
    #[default]
    Unknown,
    /// It takes writes.
    Primary,
    /// Read-only: in recovery.
    Standby,
}

/// What the machine wants done. Each is carried out once, in order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Open a connection; answer [`Event::Connected`] or [`Event::ConnectFailed`].
    Connect {
        /// Its id from now on.
        conn: ConnId,
        /// To which host.
        host: HostId,
        /// When the machine stops waiting.
        deadline: Instant,
    },
    /// Check a connection; answer [`Event::Validated`] or [`Event::ValidationFailed`].
    Validate {
        /// Which.
        conn: ConnId,
        /// How.
        how: Check,
        /// When the machine stops waiting.
        deadline: Instant,
    },
    /// Make a returned connection fit for reuse; answer [`Event::Reset`] or [`Event::ResetFailed`].
    Reset {
        /// Which.
        conn: ConnId,
        /// How.
        how: ResetHow,
        /// When the machine stops waiting.
        deadline: Instant,
    },
    /// The waiter gets the connection.
    Grant {
        /// Who.
        waiter: WaiterId,
        /// What.
        conn: ConnId,
    },
    /// The waiter gets an error.
    Reject {
        /// Who.
        waiter: WaiterId,
        /// Why.
        reason: Reject,
    },
    /// Close a connection and end whatever is being done with it; answer [`Event::Closed`].
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
        /// How.
        how: CloseHow,
        /// When the machine counts the slot as free even without an answer.
        deadline: Instant,
    },
    /// Something an operator should see.
    Notice(Box<Notice>),
}

/// How a connection is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Check {
    /// Read what is there, without a round trip.
    Socket,
    /// Ask the server.
    RoundTrip,
}

/// How a returned connection is made fit for reuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResetHow {
    /// Read to the last ReadyForQuery, cancelling what runs; roll back; then what the policy says.
    Drain,
    /// What the configured policy says.
    Policy,
}

/// How a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CloseHow {
    /// Say goodbye and wait for the peer's end.
    Graceful,
    /// Drop the socket.
    Abort,
}

/// Why a connection was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Unused for max_idle_time.
    IdleTimeout,
    /// Older than max_connection_lifetime.
    Lifetime,
    /// Served max_queries.
    QueryLimit,
    /// Replaced on demand.
    Recycle,
    /// Failed a check that a sibling's fault called for.
    Suspect,
    /// Failed a check.
    ValidationFailed,
    /// Came back broken.
    Broken,
    /// Could not be reset.
    ResetFailed,
    /// Its connect was not finished in time.
    ConnectTimeout,
    /// Above a smaller max_size.
    Shrink,
    /// The pool shut down.
    Shutdown,
    /// A connect that arrived after nobody wanted it any more.
    Unwanted,
    /// Given back by its user to be closed.
    Discarded,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fault: &Fault) -> (String, Fault) {
        let text = serde_json::to_string(fault).expect("serialised");
        let read = serde_json::from_str(&text).expect("read back");
        (text, read)
    }

    #[test]
    fn only_messages_that_cannot_be_a_users_are_written_down() {
        let fault = Fault::plain(FaultClass::Transient, "connection refused");
        assert_eq!(written(&fault).1, fault);
        let private = Fault::new(FaultClass::Transient, "no such tenant: Jane Doe");
        let (text, read) = written(&private);
        assert!(!text.contains("Jane"), "{text}");
        assert_eq!((read.class, &*read.message, read.quotable), (private.class, "(not recorded)", false));
        assert_eq!(written(&read).0, text, "what was left out once is left out again");
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let fault = Fault::plain(FaultClass::Transient, "ä".repeat(600) + "!");
        assert_eq!(*written(&fault).1.message, *"ä".repeat(Fault::KEPT / 2));
    }
}
