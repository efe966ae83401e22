//! Startup and authentication.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::wire::{self, auth, auth_ok, empty, error, message};
use super::{T0, config, flush, words};
use crate::config::Secret;
use crate::pg::{Connection, Error, Phase, SessionConfig};
use crate::pool::{Fate, FaultClass};

fn start(config: SessionConfig) -> Connection {
    let mut connection = Connection::new(Arc::new(config), T0).unwrap();
    flush(&mut connection);
    connection
}

fn refused(answer: &[u8]) -> Error {
    let mut connection = start(config());
    let error = connection.receive(T0, answer).unwrap_err();
    assert_eq!(connection.fate(), Fate::Broken);
    assert_eq!(connection.error(), Some(&error));
    assert!(connection.outgoing().is_empty());
    // And so it stays.
    assert_eq!(connection.receive(T0, &auth_ok()).unwrap_err(), error);
    error
}

#[test]
fn the_startup_message_names_user_database_encoding_and_parameters() {
    let connection = Connection::new(Arc::new(config()), T0).unwrap();
    let body = b"user\0alice\0database\0app\0client_encoding\0UTF8\0application_name\0tests\0\0";
    let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
    assert_eq!(connection.outgoing(), [&length[..], &[0, 3, 0, 0], body].concat());
}

#[test]
fn trust_leads_to_ready() {
    let mut connection = start(config());
    assert_eq!(connection.fate(), Fate::Broken);
    connection.receive(T0, &wire::welcome()).unwrap();
    assert_eq!(words(&mut connection), ["ready"]);
    assert_eq!(connection.parameter("server_version"), Some("15.4"));
    let key = connection.backend_key().unwrap();
    assert_eq!(key.process_id, 99);
    assert_eq!(crate::pg::cancel_request(&key), *b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x63\0\0\x12\x67");
    assert_eq!(connection.fate(), Fate::Clean);
}

#[test]
fn cleartext_and_md5_passwords() {
    for (request, answer) in [
        (auth(3, &[]), "wonderland".to_owned()),
        // md5(md5("wonderland" + "alice") + salt), computed with md5sum.
        (auth(5, &[1, 2, 3, 4]), "md5370dfac54ebb2bdeedf68eab452ffd72".to_owned()),
    ] {
        let mut connection = start(config());
        connection.receive(T0, &request).unwrap();
        assert_eq!(connection.phase(), Phase::Authentication);
        assert_eq!(flush(&mut connection), message(b'p', &wire::texts(&[&answer])));
        connection.receive(T0, &wire::welcome()).unwrap();
        assert_eq!(words(&mut connection), ["ready"]);
    }
}

/// The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677).
struct ScramServer {
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    client_first: String,
    server_first: String,
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// As a server asks for. Each is two blocks of SHA-256, which take Miri a good part of a second.
const ROUNDS: u32 = if cfg!(miri) { 4 } else { 4096 };

impl ScramServer {
    fn new(client_message: &[u8], password: &str) -> Self {
        let (tag, body) = wire::client_messages(client_message).remove(0);
        assert_eq!(tag, 'p');
        let body = String::from_utf8(body[b"SCRAM-SHA-256\0".len() + 4..].to_vec()).unwrap();
        let client_first = body.strip_prefix("n,,").unwrap().to_owned();
        let nonce = client_first.strip_prefix("n=,r=").unwrap();
        let (salt, rounds) = (b"sodium chloride", ROUNDS);
        let server_first = format!("r={nonce}SERVER,s={},i={rounds}", STANDARD.encode(salt));
        let mut block = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
        let mut salted = block.clone();
        for _ in 1..rounds {
            block = hmac(password.as_bytes(), &block);
            salted.iter_mut().zip(&block).for_each(|(sum, byte)| *sum ^= byte);
        }
        ScramServer {
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).to_vec(),
            server_key: hmac(&salted, b"Server Key"),
            client_first,
            server_first,
        }
    }

    /// Checks the client's proof; the server's own.
    fn finish(&self, client_message: &[u8]) -> Option<String> {
        let (_, body) = wire::client_messages(client_message).remove(0);
        let client_final = String::from_utf8(body).unwrap();
        let (without_proof, proof) = client_final.rsplit_once(",p=").unwrap();
        let auth_message = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let signature = hmac(&self.stored_key, auth_message.as_bytes());
        let proof = STANDARD.decode(proof).unwrap();
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let right = Sha256::digest(&client_key).to_vec() == self.stored_key;
        right.then(|| format!("v={}", STANDARD.encode(hmac(&self.server_key, auth_message.as_bytes()))))
    }
}

fn scram_offer() -> Vec<u8> {
    auth(10, &[&wire::texts(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])[..], &[0]].concat())
}

fn scram_started(password: &str) -> (Connection, ScramServer) {
    let mut connection = start(SessionConfig { password: Some(Secret::new("wonderland")), ..config() });
    connection.receive(T0, &scram_offer()).unwrap();
    let server = ScramServer::new(&flush(&mut connection), password);
    connection.receive(T0, &auth(11, server.server_first.as_bytes())).unwrap();
    (connection, server)
}

#[test]
fn scram_proves_both_sides() {
    let (mut connection, server) = scram_started("wonderland");
    let proof = server.finish(&flush(&mut connection)).expect("the client knows the password");
    connection.receive(T0, &auth(12, proof.as_bytes())).unwrap();
    connection.receive(T0, &wire::welcome()).unwrap();
    assert_eq!(words(&mut connection), ["ready"]);

    let (mut connection, server) = scram_started("looking-glass");
    assert_eq!(server.finish(&flush(&mut connection)), None);
}

#[test]
fn scram_rejects_a_server_that_does_not_know_the_password() {
    let (mut connection, server) = scram_started("wonderland");
    let mut proof = server.finish(&flush(&mut connection)).unwrap();
    proof.replace_range(2..4, "AA");
    let error = connection.receive(T0, &auth(12, proof.as_bytes())).unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
    assert_eq!(error.fault().class, FaultClass::Permanent);

    // Nor may it skip its proof.
    let (mut connection, _) = scram_started("wonderland");
    let error = connection.receive(T0, &wire::welcome()).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");

    // Nor change its mind and have the password in clear.
    let (mut connection, _) = scram_started("wonderland");
    assert!(connection.receive(T0, &auth(3, &[])).is_err());
}

#[test]
fn scram_iterations_are_capped() {
    let mut connection = start(config());
    connection.receive(T0, &scram_offer()).unwrap();
    let server = ScramServer::new(&flush(&mut connection), "wonderland");
    let greedy = server.server_first.replace(&format!("i={ROUNDS}"), "i=2000000000");
    let error = connection.receive(T0, &auth(11, greedy.as_bytes())).unwrap_err();
    assert!(error.to_string().contains("iteration count"), "{error}");
}

#[test]
fn methods_that_are_not_supported_are_named() {
    for (method, name) in [(2, "Kerberos"), (6, "SCM"), (7, "GSSAPI"), (9, "SSPI"), (77, "77")] {
        let error = refused(&auth(method, &[]));
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.fault().class, FaultClass::Permanent);
    }
    let plus_only = auth(10, &[&wire::texts(&["SCRAM-SHA-256-PLUS"])[..], &[0]].concat());
    assert!(refused(&plus_only).to_string().contains("SCRAM-SHA-256-PLUS"));
}

#[test]
fn a_missing_password_is_a_permanent_fault_and_named() {
    for request in [auth(3, &[]), auth(5, &[0; 4]), scram_offer()] {
        let mut connection = start(SessionConfig { password: None, ..config() });
        let error = connection.receive(T0, &request).unwrap_err();
        assert_eq!(error.fault().class, FaultClass::Permanent);
        assert!(error.to_string().contains("\"alice\""), "{error}");
    }
}

#[test]
fn the_servers_refusal_comes_with_all_its_fields() {
    let answer = wire::fields(
        b'E',
        &[
            (b'S', "FATALE"),
            (b'V', "FATAL"),
            (b'C', "28P01"),
            (b'M', "no"),
            (b'D', "detail"),
            (b'H', "hint"),
            (b'p', "7"),
            (b'q', "SELECT"),
            (b'W', "where"),
            (b's', "schema"),
            (b't', "table"),
            (b'c', "column"),
            (b'd', "type"),
            (b'n', "constraint"),
            (b'F', "auth.c"),
            (b'L', "12"),
            (b'R', "auth_failed"),
            (b'?', "whatever"),
        ],
    );
    let error = refused(&answer);
    assert_eq!(error.to_string(), "no (28P01)");
    assert_eq!(error.fault().to_string(), "no (SQLSTATE 28P01)");
    assert_eq!(error.fault().class, FaultClass::Permanent);
    let db = error.db_error().unwrap();
    assert!(db.is_fatal());
    let texts = [&db.detail, &db.hint, &db.context, &db.schema, &db.table, &db.column, &db.datatype, &db.constraint];
    let expected = ["detail", "hint", "where", "schema", "table", "column", "type", "constraint"];
    assert!(texts.into_iter().zip(expected).all(|(text, expected)| text.as_deref() == Some(expected)), "{db:?}");
    assert_eq!(db.position, Some(crate::pg::Position::Internal { position: 7, query: "SELECT".into() }));
    assert_eq!((db.file.as_deref(), db.line, db.routine.as_deref()), (Some("auth.c"), Some(12), Some("auth_failed")));
}

#[test]
fn not_yet_and_capacity_are_told_apart() {
    assert_eq!(refused(&error("FATAL", "57P03", "starting up")).fault().class, FaultClass::NotYet);
    assert_eq!(refused(&error("FATAL", "53300", "too many clients")).fault().class, FaultClass::Capacity);
    // What a postmaster that cannot fork says is of protocol 2.
    let error = refused(b"Ecould not fork new process for connection: out of memory\n\0");
    assert_eq!(error.fault().class, FaultClass::Capacity);
    assert!(error.to_string().starts_with("could not fork"), "{error}");
}

#[test]
fn another_kind_of_server_is_recognised() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"SSH-2.0-OpenSSH_9.2", b"\x4a\x00\x00\x00\x0a8.0.36"] {
        let error = refused(answer);
        assert!(error.to_string().contains("PostgreSQL server's port"), "{error}");
        assert_eq!(error.fault().class, FaultClass::Permanent);
    }
}

#[test]
fn the_end_of_the_stream_says_where() {
    let mut connection = start(config());
    let error = connection.receive_eof(T0).unwrap_err();
    assert!(error.to_string().contains("startup message"), "{error}");
    assert_eq!(error.fault().class, FaultClass::Transient);
    assert!(connection.receive_eof(T0).is_ok());
}

#[test]
fn negotiation_of_the_version_is_accepted() {
    let mut connection = start(config());
    let mut body = 0_u32.to_be_bytes().to_vec();
    body.extend(1_u32.to_be_bytes());
    body.extend(wire::texts(&["_pq_.something"]));
    connection.receive(T0, &[message(b'v', &body), wire::welcome()].concat()).unwrap();
    assert_eq!(words(&mut connection), ["ready"]);
}

#[test]
fn messages_of_another_phase_are_refused() {
    for bytes in [wire::ready(b'I'), wire::row(&["x"]), empty(b'1'), wire::parameter("a", "b"), wire::complete("X")] {
        let error = refused(&bytes);
        assert!(error.to_string().contains("waiting for the answer to the startup message"), "{error}");
    }
    assert!(refused(&[auth_ok(), wire::row(&["x"])].concat()).to_string().contains("DataRow"));
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    for (name, value) in [("a\0b", "c"), ("a", "b\0"), ("Client_Encoding", "LATIN1"), ("user", "eve"), ("", "x")] {
        let parameters = vec![(name.to_owned(), value.to_owned())];
        let error = Connection::new(Arc::new(SessionConfig { parameters, ..config() }), T0).unwrap_err();
        assert_eq!(error.fault().class, FaultClass::Permanent);
    }
}
