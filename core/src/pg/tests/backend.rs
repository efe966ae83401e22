//! A server that speaks just enough of the protocol to keep answers and requests apart: `rows 3 tag` returns the rows
//! `tag:0` to `tag:2`, `fail tag` fails when it runs, `unparsable tag` when it is parsed.

use std::collections::BTreeMap;

use super::wire::{self, complete, empty};

#[derive(Default)]
pub(super) struct Backend {
    input: Vec<u8>,
    started: bool,
    /// What it has said and nobody has read yet.
    pub(super) output: Vec<u8>,
    /// After an error: until the next Sync.
    skipping: bool,
    in_transaction: bool,
    statements: BTreeMap<String, String>,
    /// The unnamed portal: what it runs, and how many rows it has returned.
    portal: Option<(String, usize)>,
}

impl Backend {
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        if !self.started {
            let Some(length) = self.input.first_chunk() else { return };
            let length = u32::from_be_bytes(*length) as usize;
            if self.input.len() < length {
                return;
            }
            self.input.drain(..length);
            self.started = true;
            self.output.extend(wire::welcome());
        }
        while let [tag, a, b, c, d, ..] = self.input[..] {
            let end = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            if self.input.len() < end {
                return;
            }
            let body: Vec<u8> = self.input.drain(..end).skip(5).collect();
            self.message(tag, &body);
        }
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'Q' => {
                let sql = text(body, 0);
                self.portal = Some((sql.clone(), 0));
                match sql.as_str() {
                    "" => self.output.extend(empty(b'I')),
                    "ROLLBACK" | "BEGIN" => {
                        self.in_transaction = sql == "BEGIN";
                        self.output.extend(complete(&sql));
                    }
                    _ => {
                        if sql.starts_with("rows") {
                            self.output.extend(wire::columns(&[("a", 25)]));
                        }
                        self.execute(usize::MAX);
                    }
                }
                self.skipping = false;
                self.ready();
            }
            b'S' => {
                self.skipping = false;
                self.ready();
            }
            b'H' => {}
            _ if self.skipping => {}
            b'P' => {
                let (name, sql) = (text(body, 0), text(body, 1));
                if sql.starts_with("unparsable") {
                    return self.fail(&sql);
                }
                self.statements.insert(name, sql);
                self.output.extend(empty(b'1'));
            }
            b'D' if body[0] == b'S' => {
                assert!(self.statements.contains_key(&text(&body[1..], 0)));
                self.output.extend(wire::parameters(&[]));
                self.output.extend(wire::columns(&[("a", 25)]));
            }
            b'D' => self.output.extend(wire::columns(&[("a", 25)])),
            b'B' => {
                let name = text(body, 1);
                let Some(sql) = self.statements.get(&name) else { panic!("no statement {name:?}") };
                self.portal = Some((sql.clone(), 0));
                self.output.extend(empty(b'2'));
            }
            b'E' => {
                let limit = u32::from_be_bytes(*body.last_chunk().unwrap()) as usize;
                self.execute(if limit == 0 { usize::MAX } else { limit });
            }
            b'C' => {
                let name = text(&body[1..], 0);
                assert!(self.statements.remove(&name).is_some(), "{name:?} closed twice");
                self.output.extend(empty(b'3'));
            }
            _ => panic!("a client sent {:?}", tag as char),
        }
    }

    fn execute(&mut self, limit: usize) {
        let (sql, sent) = self.portal.take().expect("a portal");
        let words: Vec<&str> = sql.split(' ').collect();
        let ["rows", count, tag] = words[..] else { return self.fail(&sql) };
        let count: usize = count.parse().unwrap();
        let upto = count.min(sent.saturating_add(limit));
        for n in sent..upto {
            self.output.extend(wire::row(&[&format!("{tag}:{n}")]));
        }
        // As the server does: a portal that was asked for just as many rows as there are does not know that it is done.
        if upto - sent == limit {
            self.output.extend(empty(b's'));
            self.portal = Some((sql, upto));
        } else {
            self.output.extend(complete(&format!("SELECT {}", upto - sent)));
        }
    }

    fn fail(&mut self, why: &str) {
        self.output.extend(wire::error("ERROR", "P0001", why));
        self.skipping = true;
    }

    fn ready(&mut self) {
        self.output.extend(wire::ready(if self.in_transaction { b'T' } else { b'I' }));
    }
}

/// The `n`th zero-terminated text.
fn text(body: &[u8], n: usize) -> String {
    String::from_utf8(body.split(|&byte| byte == 0).nth(n).unwrap().to_vec()).unwrap()
}
