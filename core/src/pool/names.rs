//! What states, reasons and classes are called in documents, in the log and as labels of metrics.

use super::event::{CloseReason, FaultClass, Role};
use super::health::{DatabaseStatus, Status};
use super::notice::{State, WaitPhase};

macro_rules! names {
    ($($type:ident { $($variant:ident = $name:literal),* $(,)? })*) => {
        $(impl $type {
            /// The name in documents and in the log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }
        })*

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn a_name_is_what_it_is_serialised_as() {
                $($(assert_eq!(serde_json::to_value($type::$variant).expect("a name"), $type::$variant.as_str());)*)*
            }
        }
    };
}

names! {
    State {
        Initializing = "initializing",
        Healthy = "healthy",
        Degraded = "degraded",
        Unhealthy = "unhealthy",
        Recovering = "recovering",
        ShuttingDown = "shutting_down",
        Terminated = "terminated",
    }
    Status { Healthy = "healthy", Degraded = "degraded", Unhealthy = "unhealthy" }
    DatabaseStatus { Connected = "connected", Disconnected = "disconnected", Connecting = "connecting" }
    WaitPhase {
        InQueue = "in_queue",
        Connecting = "connecting",
        Validating = "validating",
        Reconnecting = "reconnecting",
        Paused = "paused",
    }
    FaultClass {
        Transient = "transient",
        NotYet = "not_yet",
        Permanent = "permanent",
        Capacity = "capacity",
        WrongRole = "wrong_role",
    }
    Role { Unknown = "unknown", Primary = "primary", Standby = "standby" }
    CloseReason {
        IdleTimeout = "idle_timeout",
        Lifetime = "lifetime",
        QueryLimit = "query_limit",
        Recycle = "recycle",
        Suspect = "suspect",
        ValidationFailed = "validation_failed",
        Broken = "broken",
        ResetFailed = "reset_failed",
        ConnectTimeout = "connect_timeout",
        Shrink = "shrink",
        Shutdown = "shutdown",
        Unwanted = "unwanted",
        Discarded = "discarded",
    }
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Initializing,
        State::Healthy,
        State::Degraded,
        State::Unhealthy,
        State::Recovering,
        State::ShuttingDown,
        State::Terminated,
    ];
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 3] = [Status::Healthy, Status::Degraded, Status::Unhealthy];
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Unknown, Role::Primary, Role::Standby];
}

#[cfg(test)]
mod lists {
    use super::*;

    #[test]
    fn every_state_status_and_role_is_listed() {
        assert!(State::ALL.iter().enumerate().all(|(index, state)| *state as usize == index));
        assert!(Status::ALL.iter().enumerate().all(|(index, status)| *status as usize == index));
        assert!(Role::ALL.iter().enumerate().all(|(index, role)| *role as usize == index));
        let last = (State::ALL.last(), Status::ALL.last(), Role::ALL.last());
        assert_eq!(last, (Some(&State::Terminated), Some(&Status::Unhealthy), Some(&Role::Standby)));
    }
}
