//! The network's state and how it changes. Nothing in here calls a host or a waker: the caller does, after unlocking.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use pgweir_core::config::TcpOptions;
use pgweir_core::time::Instant;
use serde::Serialize;

use super::dns::Dns;
use super::host::{Accept, Host, LinkId, Output};
use super::link::{Direction, Link, Phase, Segment};
use super::settings::Path;
use crate::executor::{Executor, stream};
use crate::queue::Queue;
use crate::rng::Rng;

/// Everything but the hosts themselves.
pub(super) struct State {
    pub(super) executor: Arc<Executor>,
    /// The first one is where nobody is.
    pub(super) machines: Vec<Machine>,
    pub(super) services: Vec<Service>,
    pub(super) by_address: BTreeMap<IpAddr, usize>,
    pub(super) by_port: BTreeMap<(usize, u16), usize>,
    /// The machine and the service behind a Unix-domain socket.
    pub(super) by_path: BTreeMap<PathBuf, (usize, usize)>,
    pub(super) dns: Dns,
    pub(super) path: Path,
    pub(super) links: BTreeMap<LinkId, Link>,
    next_link: u64,
    pub(super) queue: Queue<Happening>,
    pub(super) draws: Draws,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

/// One stream of randomness for each knob.
pub(super) struct Draws {
    to_host: Rng,
    to_client: Rng,
    connect: Rng,
    retransmission: Rng,
    partial: Rng,
}

impl Draws {
    /// How many bytes one read or write does of the `most` that it could.
    pub(super) fn portion(&mut self, share: f64, most: usize) -> usize {
        if most > 1 && self.partial.chance(share) { 1 + self.partial.below(most as u64 - 1) as usize } else { most }
    }
}

/// What has an address.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) path: Path,
    /// Which directions swallow everything.
    pub(super) cut: [bool; 2],
    /// Counts the cuts.
    pub(super) cuts: u64,
    pub(super) refuses: bool,
    pub(super) hangs: bool,
}

/// What listens.
pub(super) struct Service {
    pub(super) host: Arc<Mutex<dyn Host>>,
    /// When it is ticked next.
    tick_at: Instant,
}

/// What is in the queue.
#[derive(Debug)]
pub(super) enum Happening {
    /// The first segment in a pipe arrives.
    Arrival(LinkId, Direction),
    /// A host is due.
    Tick(usize),
    /// A client's kernel may give up.
    ClientGivesUp(LinkId),
    /// A host's side may give up: if the network is still cut as it was then, or the client is gone.
    HostGivesUp(LinkId, Option<u64>),
    /// A client has stopped reading, or reads again.
    Congestion(LinkId),
}

/// What a host is to be told.
pub(super) enum Call {
    Accept,
    Receive(Vec<u8>),
    End,
    Reset,
    Congested(bool),
    Tick,
}

/// What is chained to the digest: no contents, for they may hold what was drawn outside.
#[derive(Serialize)]
pub(super) enum Step {
    Arrival { at: Instant, link: u64, direction: Direction, kind: u8, length: usize },
    Tick { at: Instant, service: usize },
    Connect { at: Instant, link: u64 },
    Read { link: u64, length: usize },
    Write { link: u64, length: usize },
    Fault { at: Instant, machine: usize, what: &'static str },
}

/// Spare buffers that are kept.
const SPARE: usize = 64;

impl State {
    pub(super) fn new(executor: Arc<Executor>, path: Path) -> Self {
        let seed = executor.seed();
        let draws = Draws {
            to_host: Rng::new(seed, stream::NETWORK),
            to_client: Rng::new(seed, stream::NETWORK + 1),
            connect: Rng::new(seed, stream::NETWORK + 2),
            retransmission: Rng::new(seed, stream::NETWORK + 3),
            partial: Rng::new(seed, stream::NETWORK + 4),
        };
        let mut state = State {
            machines: Vec::new(),
            services: Vec::new(),
            by_address: BTreeMap::new(),
            by_port: BTreeMap::new(),
            by_path: BTreeMap::new(),
            dns: Dns::new(Rng::new(seed, stream::NETWORK + 5)),
            path,
            links: BTreeMap::new(),
            next_link: 1,
            queue: Queue::new(),
            draws,
            spare: Vec::new(),
            executor,
        };
        state.add_machine(String::new(), state.path.clone());
        state
    }

    fn now(&self) -> Instant {
        self.executor.now()
    }

    pub(super) fn add_machine(&mut self, name: String, path: Path) -> usize {
        self.machines.push(Machine { name, path, cut: [false; 2], cuts: 0, refuses: false, hangs: false });
        self.machines.len() - 1
    }

    /// The machine with this name; a new one gets the next address of 10.0.0.0/8.
    pub(super) fn named(&mut self, name: &str) -> usize {
        if let Some(known) = self.find(name) {
            return known;
        }
        let index = self.add_machine(name.to_owned(), self.path.clone());
        let address = name.parse().unwrap_or_else(|_| {
            let [_, a, b, c] = (index as u32).to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(10, a, b, c))
        });
        let other = self.by_address.insert(address, index);
        assert!(other.is_none(), "{name}: another host has the address {address}");
        self.dns.add(name, address);
        index
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.machines.iter().skip(1).position(|machine| machine.name == name).map(|index| index + 1)
    }

    pub(super) fn add_service(&mut self, host: Arc<Mutex<dyn Host>>) -> usize {
        self.services.push(Service { host, tick_at: Instant::MAX });
        self.services.len() - 1
    }

    /// After a host was called: when it wants to be ticked.
    pub(super) fn plan(&mut self, service: usize, deadline: Option<Instant>) {
        let now = self.now();
        let Some(at) = deadline else { return };
        let tick_at = &mut self.services[service].tick_at;
        if at < *tick_at {
            let at = at.max(now);
            *tick_at = at;
            self.queue.push(at, Happening::Tick(service));
        }
    }

    /// A client begins to connect.
    pub(super) fn connect(&mut self, machine: usize, service: Option<usize>, options: Option<TcpOptions>) -> LinkId {
        let now = self.now();
        let id = LinkId(self.next_link);
        self.next_link += 1;
        self.executor.chain(&Step::Connect { at: now, link: id.0 });
        self.links.insert(id, Link::new(machine, service, options, now));
        self.launch(id, Direction::ToHost, Segment::Connect);
        id
    }

    /// Puts a segment on its way.
    pub(super) fn launch(&mut self, id: LinkId, direction: Direction, segment: Segment) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&id) else { return };
        let path = &self.machines[link.machine].path;
        let mut latency = match direction {
            Direction::ToHost => path.to_host.draw(&mut self.draws.to_host),
            Direction::ToClient => path.to_client.draw(&mut self.draws.to_client),
        };
        if matches!(segment, Segment::Connect) {
            latency = latency.saturating_add(path.connect.draw(&mut self.draws.connect));
        }
        link.pipe(direction).push(now, latency, path.bandwidth, segment);
        self.schedule(id, direction);
    }

    /// Queues the arrival of a pipe's first segment.
    pub(super) fn schedule(&mut self, id: LinkId, direction: Direction) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&id) else { return };
        if self.machines[link.machine].cut[direction as usize] {
            return self.watch(id);
        }
        let pipe = link.pipe(direction);
        if !pipe.scheduled
            && let Some((at, _)) = pipe.flight.front()
        {
            self.queue.push((*at).max(now), Happening::Arrival(id, direction));
            pipe.scheduled = true;
        }
    }

    /// The next thing happens. Whom it concerns: a host is to be called, clients are to be woken.
    pub(super) fn step(&mut self, wakes: &mut Vec<Waker>) -> Option<(usize, LinkId, Call)> {
        let now = self.now();
        match self.queue.pop()? {
            Happening::Arrival(id, direction) => self.arrive(id, direction, wakes),
            Happening::Tick(service) => {
                // An earlier one has taken its place.
                if self.services[service].tick_at > now {
                    return None;
                }
                self.services[service].tick_at = Instant::MAX;
                self.executor.chain(&Step::Tick { at: now, service });
                Some((service, LinkId(0), Call::Tick))
            }
            Happening::ClientGivesUp(id) => {
                self.client_gives_up(id, wakes);
                None
            }
            Happening::HostGivesUp(id, cut) => self.host_gives_up(id, cut),
            Happening::Congestion(id) => {
                let link = self.links.get(&id).filter(|link| link.host_open)?;
                Some((link.service?, id, Call::Congested(link.congested)))
            }
        }
    }

    fn arrive(&mut self, id: LinkId, direction: Direction, wakes: &mut Vec<Waker>) -> Option<(usize, LinkId, Call)> {
        let now = self.now();
        let link = self.links.get_mut(&id)?;
        let machine = &self.machines[link.machine];
        let pipe = link.pipe(direction);
        pipe.scheduled = false;
        let connects = matches!(pipe.flight.front(), Some((_, Segment::Connect)));
        if machine.cut[direction as usize] || machine.hangs && connects {
            self.watch(id);
            self.settle(id);
            return None;
        }
        let segment = pipe.pop()?;
        let (kind, length) = (segment.kind(), segment.len());
        self.executor.chain(&Step::Arrival { at: now, link: id.0, direction, kind, length });
        // Whatever arrives is acknowledged, or is an acknowledgement.
        if !machine.cut[Direction::ToClient as usize] {
            link.client.heard = now;
        }
        self.schedule(id, direction);
        let call = match direction {
            Direction::ToHost => self.arrive_at_host(id, segment, wakes),
            Direction::ToClient => {
                self.arrive_at_client(id, segment, wakes);
                None
            }
        };
        self.settle(id);
        call
    }

    fn arrive_at_host(
        &mut self,
        id: LinkId,
        segment: Segment,
        wakes: &mut Vec<Waker>,
    ) -> Option<(usize, LinkId, Call)> {
        let link = self.links.get_mut(&id)?;
        if matches!(segment, Segment::Connect) {
            let kind = match (link.machine, link.service) {
                (0, _) => io::ErrorKind::HostUnreachable,
                (machine, Some(service)) if !self.machines[machine].refuses => {
                    // Until it answers: the link must not be forgotten meanwhile.
                    link.host_open = true;
                    return Some((service, id, Call::Accept));
                }
                _ => io::ErrorKind::ConnectionRefused,
            };
            self.launch(id, Direction::ToClient, Segment::Refused(kind));
            return None;
        }
        if !link.host_open {
            // Its end is closed: a reset is all it answers.
            if matches!(segment, Segment::Bytes(_)) {
                self.launch(id, Direction::ToClient, Segment::Reset);
            }
            return None;
        }
        let service = link.service?;
        let call = match segment {
            Segment::Bytes(bytes) => {
                wakes.extend(link.client.writer.take());
                Call::Receive(bytes)
            }
            Segment::End => Call::End,
            Segment::Reset => {
                link.host_open = false;
                Call::Reset
            }
            Segment::Connect | Segment::Accepted | Segment::Refused(_) => return None,
        };
        Some((service, id, call))
    }

    /// The host has answered to a connect.
    pub(super) fn accepted(&mut self, id: LinkId, answer: Accept) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.host_open = answer == Accept::Open;
        let answer = match answer {
            Accept::Open => Segment::Accepted,
            Accept::Refused => Segment::Refused(io::ErrorKind::ConnectionRefused),
        };
        self.launch(id, Direction::ToClient, answer);
    }

    fn arrive_at_client(&mut self, id: LinkId, segment: Segment, wakes: &mut Vec<Waker>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let client = &mut link.client;
        let deaf = client.gone || matches!(client.phase, Phase::Failed(_));
        match segment {
            Segment::Bytes(_) if deaf => self.launch(id, Direction::ToHost, Segment::Reset),
            // Too late: its kernel has given up, and says so.
            Segment::Accepted if client.phase != Phase::Connecting => {
                self.launch(id, Direction::ToHost, Segment::Reset);
            }
            _ if deaf => {}
            Segment::Accepted => {
                client.phase = Phase::Open;
                wakes.extend(client.writer.take());
            }
            Segment::Refused(kind) => client.fail(kind, wakes),
            Segment::Bytes(bytes) => {
                client.received.push(bytes);
                wakes.extend(client.reader.take());
            }
            Segment::End => {
                client.eof = true;
                wakes.extend(client.reader.take());
            }
            Segment::Reset => {
                client.fail(io::ErrorKind::ConnectionReset, wakes);
                link.to_host.clear();
            }
            Segment::Connect => {}
        }
    }

    /// A host has done something.
    pub(super) fn output(&mut self, id: LinkId, output: Output) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.host_open) else { return };
        match output {
            Output::Bytes(bytes) => {
                let most = self.machines[link.machine].path.segment;
                if bytes.len() <= most {
                    link.backlog.push_back(Segment::Bytes(bytes));
                } else {
                    link.backlog.extend(bytes.chunks(most).map(|piece| Segment::Bytes(piece.to_vec())));
                }
                self.flush(id);
            }
            Output::Close => {
                link.host_open = false;
                link.backlog.push_back(Segment::End);
                self.flush(id);
            }
            Output::Reset => {
                link.host_open = false;
                link.backlog.clear();
                self.launch(id, Direction::ToClient, Segment::Reset);
            }
        }
        self.settle(id);
    }

    /// Puts on its way what the client has room for, and lets the host know if that is no longer, or again, everything.
    pub(super) fn flush(&mut self, id: LinkId) {
        self.launch_backlog(id);
        let now = self.now();
        let Some(link) = self.links.get_mut(&id) else { return };
        let congested = !link.backlog.is_empty();
        if congested != link.congested && link.host_open {
            link.congested = congested;
            self.queue.push(now, Happening::Congestion(id));
        }
    }

    fn launch_backlog(&mut self, id: LinkId) {
        while let Some(link) = self.links.get_mut(&id) {
            let most = self.machines[link.machine].path.receive_buffer;
            let room = most.saturating_sub(link.to_client.bytes + link.client.received.len());
            let segment = match link.backlog.pop_front() {
                None => return,
                Some(Segment::Bytes(bytes)) if bytes.is_empty() => continue,
                Some(Segment::Bytes(mut bytes)) if bytes.len() > room => {
                    let rest = bytes.split_off(room);
                    link.backlog.push_front(Segment::Bytes(rest));
                    if room == 0 {
                        return;
                    }
                    Segment::Bytes(bytes)
                }
                Some(segment) => segment,
            };
            self.launch(id, Direction::ToClient, segment);
        }
    }

    /// Forgets a link that is over.
    pub(super) fn settle(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(Link::is_over) {
            self.links.remove(&id);
        }
    }

    /// See to it that the client's kernel looks at the link when it would give up.
    pub(super) fn watch(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let at = due(link, &self.machines[link.machine]);
        if at < link.check_at {
            link.check_at = at;
            self.queue.push(at.max(self.executor.now()), Happening::ClientGivesUp(id));
        }
    }

    fn client_gives_up(&mut self, id: LinkId, wakes: &mut Vec<Waker>) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.check_at = Instant::MAX;
        let machine = &self.machines[link.machine];
        if due(link, machine) > now {
            return self.watch(id);
        }
        if machine.is_whole() && link.client.phase == Phase::Open {
            // Its probe is answered by a host that knows nothing of the connection.
            return self.launch(id, Direction::ToClient, Segment::Reset);
        }
        link.client.fail(io::ErrorKind::TimedOut, wakes);
        link.to_host.clear();
        let at = now + machine.path.host_gives_up;
        self.queue.push(at, Happening::HostGivesUp(id, None));
        self.settle(id);
    }

    fn host_gives_up(&mut self, id: LinkId, cut: Option<u64>) -> Option<(usize, LinkId, Call)> {
        let link = self.links.get_mut(&id)?;
        let machine = &self.machines[link.machine];
        let deserted = match cut {
            Some(cut) => !machine.is_whole() && machine.cuts == cut,
            None => true,
        };
        let service = link.service.filter(|_| deserted && link.host_open)?;
        link.host_open = false;
        link.backlog.clear();
        self.settle(id);
        Some((service, id, Call::Reset))
    }

    /// When what was lost in a silence is there at last.
    pub(super) fn resend(&mut self, id: LinkId, direction: Direction) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&id) else { return };
        let path = &self.machines[link.machine].path;
        let pipe = link.pipe(direction);
        if pipe.scheduled || pipe.flight.is_empty() {
            return;
        }
        let late = path.retransmission.draw(&mut self.draws.retransmission);
        let latency = match direction {
            Direction::ToHost => path.to_host.draw(&mut self.draws.to_host),
            Direction::ToClient => path.to_client.draw(&mut self.draws.to_client),
        };
        pipe.delay(now + late + latency);
        self.schedule(id, direction);
    }

    /// An empty buffer, used before if possible.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Chains a fault that a test has caused.
    pub(super) fn fault(&self, machine: usize, what: &'static str) {
        self.executor.chain(&Step::Fault { at: self.now(), machine, what });
    }

    /// The links to a machine.
    pub(super) fn links_to(&self, machine: usize) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| link.machine == machine).map(|(id, _)| *id).collect()
    }
}

impl Machine {
    pub(super) fn is_whole(&self) -> bool {
        self.cut == [false; 2]
    }
}

/// When the client's kernel does something about a silent link.
fn due(link: &Link, machine: &Machine) -> Instant {
    let waits = link.client.phase == Phase::Connecting && machine.hangs;
    if waits || !machine.is_whole() {
        link.gives_up_at()
    } else if link.is_half_open() {
        link.probes_at()
    } else {
        Instant::MAX
    }
}
