//! Server messages, byte by byte: deliberately not by means of the crate that parses them.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

pub(super) fn auth(method: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&method.to_be_bytes(), data].concat())
}

pub(super) fn auth_ok() -> Vec<u8> {
    auth(0, &[])
}

pub(super) fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &texts(&[name, value]))
}

pub(super) fn key(process_id: i32, secret: i32) -> Vec<u8> {
    message(b'K', &[process_id.to_be_bytes(), secret.to_be_bytes()].concat())
}

pub(super) fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// What a server sends after AuthenticationOk, and that.
pub(super) fn welcome() -> Vec<u8> {
    [auth_ok(), parameter("server_version", "15.4"), parameter("client_encoding", "UTF8"), key(99, 4711), ready(b'I')]
        .concat()
}

pub(super) fn fields(tag: u8, fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> =
        fields.iter().flat_map(|(letter, text)| [*letter].into_iter().chain(text.bytes()).chain([0])).collect();
    body.push(0);
    message(tag, &body)
}

pub(super) fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    fields(b'E', &[(b'S', severity), (b'V', severity), (b'C', code), (b'M', text)])
}

pub(super) fn notice(code: &str, text: &str) -> Vec<u8> {
    fields(b'N', &[(b'S', "WARNING"), (b'V', "WARNING"), (b'C', code), (b'M', text)])
}

pub(super) fn notification(process_id: i32, channel: &str, payload: &str) -> Vec<u8> {
    message(b'A', &[process_id.to_be_bytes().to_vec(), texts(&[channel, payload])].concat())
}

/// RowDescription of columns of these types.
pub(super) fn columns(columns: &[(&str, u32)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (name, oid) in columns {
        body.extend(texts(&[name]));
        body.extend(0_u32.to_be_bytes());
        body.extend(0_i16.to_be_bytes());
        body.extend(oid.to_be_bytes());
        body.extend((-1_i16).to_be_bytes());
        body.extend((-1_i32).to_be_bytes());
        body.extend(0_i16.to_be_bytes());
    }
    message(b'T', &body)
}

pub(super) fn parameters(oids: &[u32]) -> Vec<u8> {
    let mut body = u16::try_from(oids.len()).unwrap().to_be_bytes().to_vec();
    oids.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message(b't', &body)
}

pub(super) fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.bytes());
    }
    message(b'D', &body)
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &texts(&[tag]))
}

pub(super) fn empty(tag: u8) -> Vec<u8> {
    message(tag, &[])
}

/// CopyInResponse (`G`), CopyOutResponse (`H`) or CopyBothResponse (`W`) of one text column.
pub(super) fn copy(tag: u8) -> Vec<u8> {
    message(tag, &[0, 0, 1, 0, 0])
}

/// The messages that a client sent: type and body, the startup message excluded.
pub(super) fn client_messages(mut bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut all = Vec::new();
    while let [tag, a, b, c, d, ..] = *bytes {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        all.push((tag as char, bytes[5..=length].to_vec()));
        bytes = &bytes[length + 1..];
    }
    assert!(bytes.is_empty(), "half a message: {bytes:?}");
    all
}

/// The types of the messages that a client sent.
pub(super) fn client_tags(bytes: &[u8]) -> String {
    client_messages(bytes).into_iter().map(|(tag, _)| tag).collect()
}

/// The value of a row with one column.
pub(super) fn only_value(row: &DataRowBody) -> String {
    let range = row.ranges().next().unwrap().unwrap().expect("not null");
    String::from_utf8_lossy(&row.buffer()[range]).into_owned()
}
