//! The stages of the demo, one per file.

mod crash;
mod leak;
mod open;
mod recycle;
mod shutdown;
mod summary;
mod timeout;

pub(crate) use crash::crash;
pub(crate) use leak::leak;
pub(crate) use open::{introduce, open};
pub(crate) use recycle::recycle;
pub(crate) use shutdown::shutdown;
pub(crate) use summary::summary;
pub(crate) use timeout::timeout;

use std::time::Duration;

/// During an outage callers are told after this: shorter than the default of 2 s, so that more of it is to be seen.
const OUTAGE_GRACE: Duration = Duration::from_millis(500);
/// How long anything may take that should take a moment: machines may be busy.
const LIMIT: Duration = Duration::from_secs(20);
