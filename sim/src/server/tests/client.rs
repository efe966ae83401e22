//! A client of its own codec, for tests: bytes in and bytes out on a virtual clock, several connections at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use pgweir_core::time::Instant;

use crate::net::{Accept, Host, LinkId, Output};
use crate::server::{Config, Postgres};

/// A server, and what each of its clients was sent.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) server: Postgres,
    pub(super) received: BTreeMap<LinkId, Vec<u8>>,
    pub(super) ended: BTreeMap<LinkId, Output>,
    next: u64,
}

/// A message: its type byte and its body.
pub(super) type Message = (char, Vec<u8>);

impl World {
    pub(super) fn new(config: Config) -> World {
        let server = Postgres::new(config).expect("a configuration");
        World { now: Instant::ZERO, server, received: BTreeMap::new(), ended: BTreeMap::new(), next: 0 }
    }

    pub(super) fn connect(&mut self) -> Option<LinkId> {
        self.next += 1;
        let link = LinkId(self.next);
        let open = self.server.accept(self.now, link) == Accept::Open;
        open.then_some(link)
    }

    pub(super) fn send(&mut self, link: LinkId, bytes: &[u8]) {
        self.server.receive(self.now, link, bytes);
        self.collect();
    }

    fn collect(&mut self) {
        let mut out = Vec::new();
        self.server.drain(&mut out);
        for (link, output) in out {
            match output {
                Output::Bytes(bytes) => self.received.entry(link).or_default().extend(bytes),
                end => drop(self.ended.insert(link, end)),
            }
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.collect();
        while let Some(at) = self.server.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.tick(self.now);
            self.collect();
        }
        self.now = end;
    }

    /// Logs in and forgets what was said meanwhile.
    pub(super) fn log_in(&mut self, parameters: &[(&str, &str)]) -> LinkId {
        let link = self.connect().expect("it listens");
        self.send(link, &startup(parameters));
        self.pass(Duration::from_millis(5));
        let messages = self.take(link);
        assert_eq!(messages.last().map(|message| message.0), Some('Z'), "{}", told(&messages).join(", "));
        link
    }

    /// What a client was sent since the last call.
    pub(super) fn take(&mut self, link: LinkId) -> Vec<Message> {
        parse(&self.received.remove(&link).unwrap_or_default())
    }

    /// Sends a simple query and returns what comes of it within ten seconds.
    pub(super) fn query(&mut self, link: LinkId, sql: &str) -> Vec<String> {
        self.send(link, &message(b'Q', &text(sql)));
        self.pass(Duration::from_secs(10));
        told(&self.take(link))
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

pub(super) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608u32.to_be_bytes().to_vec();
    for (name, value) in [("user", "alice")].iter().chain(parameters) {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

pub(super) fn parse(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four bytes")) as usize;
        messages.push((char::from(bytes[0]), bytes[5..=length].to_vec()));
        bytes = &bytes[length + 1..];
    }
    assert!(bytes.is_empty(), "half a message: {bytes:?}");
    messages
}

/// Messages in short: `D 1|x`, `C SELECT 1`, `E 42601 ...`, `Z I`.
pub(super) fn told(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|(tag, body)| format!("{tag} {}", short(*tag, body)).trim_end().to_owned()).collect()
}

fn short(tag: char, body: &[u8]) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    match tag {
        'D' => {
            let mut rest = &body[2..];
            let mut values = Vec::new();
            while rest.len() >= 4 {
                let length = i32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
                rest = &rest[4..];
                let Ok(length) = usize::try_from(length) else {
                    values.push("NULL".to_owned());
                    continue;
                };
                values.push(shown(&rest[..length]));
                rest = &rest[length..];
            }
            values.join("|")
        }
        'E' | 'N' => {
            let fields: Vec<&[u8]> = body.split(|byte| *byte == 0).collect();
            let field =
                |kind: u8| fields.iter().find(|field| field.first() == Some(&kind)).map(|field| shown(&field[1..]));
            format!("{} {}", field(b'C').unwrap_or_default(), field(b'M').unwrap_or_default())
        }
        'T' | 't' | 'A' => String::new(),
        _ => shown(body),
    }
}
