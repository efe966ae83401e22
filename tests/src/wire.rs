//! Server messages as bytes, right and wrong, for [`ScriptedServer`](crate::ScriptedServer).
//!
//! Layouts: PostgreSQL documentation, chapter "Frontend/Backend Protocol", section "Message Formats".

/// Any message: type byte, length, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a test's message is under 4 GB");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A message that declares `length` bytes (its own four included) and has none.
pub fn declared_length(tag: u8, length: u32) -> Vec<u8> {
    [&[tag], &length.to_be_bytes()[..]].concat()
}

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    message(b'R', &0u32.to_be_bytes())
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext() -> Vec<u8> {
    message(b'R', &3u32.to_be_bytes())
}

/// AuthenticationSASL with these mechanisms.
pub fn authentication_sasl(mechanisms: &[&str]) -> Vec<u8> {
    let mut body = 10u32.to_be_bytes().to_vec();
    for mechanism in mechanisms {
        body.extend_from_slice(mechanism.as_bytes());
        body.push(0);
    }
    body.push(0);
    message(b'R', &body)
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &[name.as_bytes(), &[0], value.as_bytes(), &[0]].concat())
}

/// BackendKeyData.
pub fn backend_key_data(process_id: u32, secret: u32) -> Vec<u8> {
    message(b'K', &[process_id.to_be_bytes(), secret.to_be_bytes()].concat())
}

/// ReadyForQuery with status `I`, `T` or `E`.
pub fn ready_for_query(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// Everything a server says to a client that it trusts, up to ReadyForQuery.
pub fn welcome() -> Vec<u8> {
    [
        authentication_ok(),
        parameter_status("server_version", "15.0"),
        parameter_status("client_encoding", "UTF8"),
        parameter_status("standard_conforming_strings", "on"),
        backend_key_data(4_242, 42),
        ready_for_query(b'I'),
    ]
    .concat()
}

/// The answer to a statement without rows: CommandComplete and ReadyForQuery.
pub fn command_complete(tag: &str) -> Vec<u8> {
    [message(b'C', &[tag.as_bytes(), &[0]].concat()), ready_for_query(b'I')].concat()
}

/// The answer to a query of the simple protocol with one row of one text column.
pub fn one_row(value: &str) -> Vec<u8> {
    let description =
        [&1u16.to_be_bytes()[..], b"value\0", &[0; 6], &25u32.to_be_bytes(), &[0xff; 6], &[0; 2]].concat();
    let length = u32::try_from(value.len()).expect("a test's value is under 4 GB").to_be_bytes();
    let row = [&1u16.to_be_bytes()[..], &length, value.as_bytes()].concat();
    [message(b'T', &description), message(b'D', &row), command_complete("SELECT 1")].concat()
}

/// ErrorResponse, for example `error("FATAL", "57P03", "the database system is starting up")`.
pub fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', &fields(severity, sqlstate, text))
}

/// NoticeResponse, for example the 57P01 of an immediate shutdown.
pub fn notice(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'N', &fields(severity, sqlstate, text))
}

/// The frontend's Terminate.
pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

fn fields(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (tag, value) in [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', text)] {
        body.push(tag);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    body
}
