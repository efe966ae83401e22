//! Reaching a host: its addresses, each in its share of the time.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Host, TcpOptions};
use crate::driver::within;
use crate::pg;
use crate::pool::{Fault, FaultClass};
use crate::runtime::{Address, Runtime};
use crate::time::Instant;

/// By how much a connect gives up before connect_timeout, at most.
const MARGIN: Duration = Duration::from_millis(50);

/// When a manager's connect should give up by itself: a little before the pool's own `deadline`, which knows no more
/// than that it has passed.
pub fn shortly_before<R: Runtime>(runtime: &R, deadline: Instant) -> Instant {
    let now = runtime.now();
    let left = deadline - now;
    now + (left - (left / 20).min(MARGIN))
}

/// Makes `attempt` at each address of `host` until one succeeds, each within its share of the time that is left until
/// `deadline`. A permanent fault ends it: what the server behind one address says of our login the others would say
/// too.
///
/// # Errors
/// The last attempt's fault, with the host's name and address; or the resolver's.
pub async fn dial<R, T, F, A>(
    runtime: &R,
    host: &Host,
    tcp: TcpOptions,
    deadline: Instant,
    mut attempt: F,
) -> Result<(T, Address), Fault>
where
    R: Runtime,
    F: FnMut(Address) -> A + Send,
    A: Future<Output = Result<T, Fault>> + Send,
{
    let addresses = addresses(runtime, host, tcp, deadline).await?;
    let mut last = Fault::plain(FaultClass::Transient, format!("{host} has no address"));
    for (n, address) in addresses.iter().enumerate() {
        let now = runtime.now();
        let share = (deadline - now) / u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
        match within(runtime, now + share, attempt(address.clone())).await {
            Some(Ok(connected)) => return Ok((connected, address.clone())),
            Some(Err(fault)) => last = at(host, address, &fault),
            None => {
                let fault = Fault::plain(FaultClass::Transient, format!("no answer within {share:.1?}"));
                last = at(host, address, &fault);
            }
        }
        if last.class == FaultClass::Permanent {
            break;
        }
    }
    Err(last)
}

async fn addresses<R: Runtime>(
    runtime: &R,
    host: &Host,
    tcp: TcpOptions,
    deadline: Instant,
) -> Result<Vec<Address>, Fault> {
    let (name, port) = match host {
        Host::Tcp { host, port } => (host, *port),
        Host::Unix { directory, port } => {
            return Ok(vec![Address::Unix(directory.join(format!(".s.PGSQL.{port}")))]);
        }
    };
    let tcp = |address| Address::Tcp(address, tcp);
    if let Ok(ip) = name.parse() {
        return Ok(vec![tcp(SocketAddr::new(ip, port))]);
    }
    let doing = format!("resolving {name}");
    match within(runtime, deadline, runtime.resolve(name, port)).await {
        Some(Ok(addresses)) => Ok(addresses.into_iter().map(tcp).collect()),
        Some(Err(error)) => Err(pg::fault_of_io(&doing, &error)),
        None => Err(Fault::plain(FaultClass::Transient, format!("{doing}: no answer within connect_timeout"))),
    }
}

/// The fault with where it happened.
fn at(host: &Host, address: &Address, fault: &Fault) -> Fault {
    let place = match (host, address) {
        (Host::Tcp { host: name, .. }, Address::Tcp(address, _)) if *name != address.ip().to_string() => {
            format!("{host} ({})", address.ip())
        }
        _ => host.to_string(),
    };
    Fault { message: format!("connecting to {place}: {}", fault.message).into(), ..fault.clone() }
}
