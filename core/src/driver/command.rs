//! What the background task is to do: the machine's actions that take time.

use std::sync::Arc;

use super::member::Member;
use crate::manager::Stop;
use crate::pool::{Check, CloseHow, ConnId, HostId, ResetHow};
use crate::time::Instant;

pub(crate) enum Command<C> {
    Connect {
        conn: ConnId,
        host: HostId,
        deadline: Instant,
    },
    Validate {
        member: Box<Member<C>>,
        how: Check,
    },
    Reset {
        member: Box<Member<C>>,
        how: ResetHow,
        deadline: Instant,
    },
    /// Ends the slot's job, if one runs, then closes the connection, if it is here.
    Close {
        conn: ConnId,
        member: Option<Box<Member<C>>>,
        how: CloseHow,
    },
    /// A connection was cut while its holder has it: stops what the server does for it.
    Stop {
        conn: ConnId,
        stop: Arc<dyn Stop>,
    },
}

impl<C> Command<C> {
    pub(crate) fn conn(&self) -> ConnId {
        match self {
            Command::Connect { conn, .. } | Command::Close { conn, .. } | Command::Stop { conn, .. } => *conn,
            Command::Validate { member, .. } | Command::Reset { member, .. } => member.conn,
        }
    }

    pub(crate) fn into_member(self) -> Option<Box<Member<C>>> {
        match self {
            Command::Connect { .. } | Command::Stop { .. } => None,
            Command::Validate { member, .. } | Command::Reset { member, .. } => Some(member),
            Command::Close { member, .. } => member,
        }
    }
}
