//! Peers and a database on the simulated network.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use pgweir_core::config::TcpOptions;
use pgweir_core::runtime::Address;
use pgweir_core::time::Instant;
use pgweir_sim::net::{Accept, Direction, Host, HostHandle, HostNet, LinkId, Output};
use pgweir_sim::{Server, Sim};
use pgweir_tests::conformance::{Act, Control, Database, Peer, Place, World};

thread_local! {
    static SIM: RefCell<Option<Sim>> = const { RefCell::new(None) };
}

/// Makes this the simulation of the thread until the guard is dropped.
pub(crate) fn enter(sim: Sim) -> Entered {
    sim.host("127.0.0.1", 1, Script::default());
    sim.dns("localhost").points_to(&["127.0.0.1"]);
    SIM.set(Some(sim));
    Entered
}

/// Forgets the simulation.
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        let left = SIM.take();
        drop(left);
    }
}

fn sim() -> Sim {
    SIM.with_borrow(Clone::clone).expect("called within a simulation")
}

/// The simulated network.
pub(crate) struct Simulated;

impl World for Simulated {
    type Database = SimulatedPostgres;

    const THREADS: bool = false;

    fn database() -> SimulatedPostgres {
        SimulatedPostgres(sim().server())
    }

    fn serve(place: Place, acts: Vec<Act>) -> Peer {
        listen(place, Script { acts, listens: true, ..Script::default() })
    }

    fn refusing(place: Place) -> Peer {
        listen(place, Script::default())
    }

    fn forbidden() -> Option<Peer> {
        None
    }

    fn crowded() -> Option<Peer> {
        None
    }
}

fn listen(place: Place, script: Script) -> Peer {
    const PORT: u16 = 7;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let sim = sim();
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let ip = Ipv4Addr::new(172, 16, high, low);
    let name = ip.to_string();
    let handle = sim.host(&name, PORT, script);
    let (address, net) = match place {
        Place::Tcp => (Address::Tcp(SocketAddr::new(ip.into(), PORT), TcpOptions::default()), handle.net().clone()),
        Place::Unix => {
            let path = PathBuf::from(format!("/{name}/.s.PGSQL.5432"));
            let net = handle.listen_unix(&path);
            (Address::Unix(path), net)
        }
    };
    Peer { address, control: Arc::new(Held { handle, net }) }
}

/// A host that follows a script on every link.
#[derive(Debug, Default)]
struct Script {
    acts: Vec<Act>,
    listens: bool,
    released: bool,
    received: Vec<u8>,
    ended: usize,
    links: BTreeMap<LinkId, Link>,
    done: Vec<(LinkId, Output)>,
}

#[derive(Debug, Default)]
struct Link {
    /// How many acts are over.
    next: usize,
    /// What has come and was not read.
    unread: VecDeque<u8>,
    ended: bool,
}

impl Script {
    /// Goes on as far as it can.
    fn play(&mut self, id: LinkId) {
        let Some(mut link) = self.links.remove(&id) else { return };
        loop {
            let Some(act) = self.acts.get(link.next) else {
                self.done.push((id, Output::Close));
                return;
            };
            match act {
                Act::Wait if self.released => {}
                Act::Say(bytes) => self.done.push((id, Output::Bytes(bytes.clone()))),
                Act::Echo | Act::Read => {
                    let bytes: Vec<u8> = link.unread.drain(..).collect();
                    match (act, bytes.is_empty()) {
                        (_, true) => {}
                        (Act::Echo, false) => self.done.push((id, Output::Bytes(bytes))),
                        (_, false) => self.received.extend(bytes),
                    }
                    if !link.ended {
                        break;
                    }
                }
                Act::Reset => {
                    self.done.push((id, Output::Reset));
                    return;
                }
                Act::Wait => break,
            }
            link.next += 1;
        }
        self.links.insert(id, link);
    }
}

impl Host for Script {
    fn accept(&mut self, _: Instant, link: LinkId) -> Accept {
        if !self.listens {
            return Accept::Refused;
        }
        self.links.insert(link, Link::default());
        self.play(link);
        Accept::Open
    }

    fn receive(&mut self, _: Instant, link: LinkId, bytes: &[u8]) {
        if let Some(known) = self.links.get_mut(&link) {
            known.unread.extend(bytes);
            self.play(link);
        }
    }

    fn end(&mut self, _: Instant, link: LinkId) {
        self.ended += 1;
        if let Some(known) = self.links.get_mut(&link) {
            known.ended = true;
            self.play(link);
        }
    }

    fn reset(&mut self, _: Instant, link: LinkId) {
        self.ended += 1;
        self.links.remove(&link);
    }

    fn tick(&mut self, _: Instant) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn drain(&mut self, out: &mut Vec<(LinkId, Output)>) {
        out.append(&mut self.done);
    }
}

#[derive(Debug)]
struct Held {
    handle: HostHandle<Script>,
    net: HostNet,
}

impl Control for Held {
    fn stall(&self) {
        self.net.black_hole(Direction::ToHost);
    }

    fn release(&self) {
        self.net.heal();
        self.handle.with(|script, _| {
            script.released = true;
            let links: Vec<LinkId> = script.links.keys().copied().collect();
            links.into_iter().for_each(|link| script.play(link));
        });
    }

    fn received(&self) -> Vec<u8> {
        self.handle.with(|script, _| script.received.clone())
    }

    fn ended(&self) -> usize {
        self.handle.with(|script, _| script.ended)
    }
}

/// The simulated PostgreSQL.
#[derive(Clone)]
pub(crate) struct SimulatedPostgres(Server);

impl Database for SimulatedPostgres {
    fn url(&self) -> String {
        self.0.url()
    }

    fn sessions(&self, application_name: &str) -> Vec<i32> {
        let sessions = self.0.sessions().into_iter();
        let mut pids: Vec<i32> = sessions
            .filter(|session| session.application_name == application_name)
            .map(|session| session.pid)
            .collect();
        pids.sort_unstable();
        pids
    }

    fn terminate(&self, pid: i32) {
        self.0.kill(pid);
    }
}
