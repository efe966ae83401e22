//! Messages of a client, from bytes.

use super::error::PgError;

/// The longest packet before the session begins; PostgreSQL's limit.
const MAX_OPENING: usize = 10_000;

/// Bytes that have arrived and were not yet read.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.rest().get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    fn take(&mut self, skip: usize, end: usize) -> Vec<u8> {
        let taken = self.rest()[skip..end].to_vec();
        self.start += end;
        taken
    }
}

/// What a client says first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// SSLRequest or GSSENCRequest.
    Encryption,
    Cancel {
        pid: i32,
        key: i32,
    },
    Startup {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

/// The next packet without a type byte.
pub(super) fn opening(input: &mut Input) -> Result<Option<Opening>, PgError> {
    let Some(length) = input.word(0) else { return Ok(None) };
    let length = length as usize;
    if !(8..=MAX_OPENING).contains(&length) {
        return Err(PgError::violation("invalid length of startup packet"));
    }
    if input.len() < length {
        return Ok(None);
    }
    let packet = input.take(4, length);
    let mut body = Body(&packet);
    match body.u32()? {
        80_877_103 | 80_877_104 if body.0.is_empty() => Ok(Some(Opening::Encryption)),
        80_877_102 => {
            let (pid, key) = (body.i32()?, body.i32()?);
            Ok(Some(Opening::Cancel { pid, key }))
        }
        version if version >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = body.text()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, body.text()?));
            }
            body.end()?;
            Ok(Some(Opening::Startup { minor: version as u16, parameters }))
        }
        version => Err(PgError::fatal(
            "0A000",
            format!("unsupported frontend protocol {}.{}: server supports 3.0 to 3.0", version >> 16, version & 0xffff),
        )),
    }
}

/// A statement or a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// A message of a session.
#[derive(Debug, PartialEq)]
pub(super) enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target, String),
    Close(Target, String),
    Execute {
        portal: String,
        max_rows: i32,
    },
    Flush,
    Sync,
    Terminate,
    /// A password, or a SASL message.
    Password(Vec<u8>),
    /// CopyData, CopyDone, CopyFail: left over from a COPY that has failed, PostgreSQL ignores them.
    Copy,
    FunctionCall,
}

/// Bind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<i16>,
    pub(super) params: Vec<Option<Vec<u8>>>,
    pub(super) results: Vec<i16>,
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

/// The next message, if it is there as a whole.
pub(super) fn frame(input: &mut Input, max_length: usize) -> Result<Option<Frame>, PgError> {
    let Some(&tag) = input.rest().first() else { return Ok(None) };
    if !b"QPBDCEHSXpdcfF".contains(&tag) {
        return Err(PgError::violation(format!("invalid frontend message type {tag}")));
    }
    let Some(length) = input.word(1) else { return Ok(None) };
    let length = length as usize;
    if length < 4 || length > max_length {
        return Err(PgError::violation("invalid message length"));
    }
    if input.len() < length + 1 {
        return Ok(None);
    }
    Ok(Some(Frame { tag, body: input.take(5, length + 1) }))
}

impl Frame {
    pub(super) fn parse(&self) -> Result<Frontend, PgError> {
        let mut body = Body(&self.body);
        let message = match self.tag {
            b'Q' => Frontend::Query(body.text()?),
            b'P' => {
                let (name, sql) = (body.text()?, body.text()?);
                let count = body.u16()?;
                Frontend::Parse { name, sql, types: (0..count).map(|_| body.u32()).collect::<Result<_, _>>()? }
            }
            b'B' => Frontend::Bind(bind(&mut body)?),
            b'D' => Frontend::Describe(body.target("DESCRIBE")?, body.text()?),
            b'C' => Frontend::Close(body.target("CLOSE")?, body.text()?),
            b'E' => Frontend::Execute { portal: body.text()?, max_rows: body.i32()? },
            b'H' => Frontend::Flush,
            b'S' => Frontend::Sync,
            b'X' => Frontend::Terminate,
            b'p' => return Ok(Frontend::Password(self.body.clone())),
            b'F' => return Ok(Frontend::FunctionCall),
            _ => return Ok(Frontend::Copy),
        };
        body.end()?;
        Ok(message)
    }
}

fn bind(body: &mut Body<'_>) -> Result<Bind, PgError> {
    let (portal, statement) = (body.text()?, body.text()?);
    let count = body.u16()?;
    let formats = (0..count).map(|_| body.i16()).collect::<Result<_, _>>()?;
    let count = body.u16()?;
    let mut params = Vec::new();
    for _ in 0..count {
        params.push(match body.i32()? {
            -1 => None,
            length => Some(body.bytes(usize::try_from(length).map_err(|_| short())?)?.to_vec()),
        });
    }
    let count = body.u16()?;
    let results = (0..count).map(|_| body.i16()).collect::<Result<_, _>>()?;
    Ok(Bind { portal, statement, formats, params, results })
}

/// The text of a password message.
pub(super) fn password(body: &[u8]) -> Result<String, PgError> {
    let mut body = Body(body);
    let text = body.text()?;
    body.end()?;
    Ok(text)
}

/// SASLInitialResponse: the mechanism, and the data if there is any.
pub(super) fn sasl_initial(body: &[u8]) -> Result<(String, Vec<u8>), PgError> {
    let mut body = Body(body);
    let mechanism = body.text()?;
    let data = match body.i32()? {
        -1 => Vec::new(),
        length => body.bytes(usize::try_from(length).map_err(|_| short())?)?.to_vec(),
    };
    body.end()?;
    Ok((mechanism, data))
}

fn short() -> PgError {
    PgError::violation("insufficient data left in message")
}

/// The rest of a message.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], PgError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PgError> {
        self.bytes(N)?.try_into().map_err(|_| short())
    }

    fn u16(&mut self) -> Result<u16, PgError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i16(&mut self) -> Result<i16, PgError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, PgError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, PgError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Up to a zero byte.
    fn text(&mut self) -> Result<String, PgError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| PgError::violation("invalid string in message"))?;
        let text = std::str::from_utf8(&self.0[..end])
            .map_err(|_| PgError::error("22021", "invalid byte sequence for encoding \"UTF8\""))?;
        self.0 = &self.0[end + 1..];
        Ok(text.to_owned())
    }

    fn target(&mut self, what: &str) -> Result<Target, PgError> {
        match self.array::<1>()? {
            [b'S'] => Ok(Target::Statement),
            [b'P'] => Ok(Target::Portal),
            [other] => Err(PgError::violation(format!("invalid {what} message subtype {other}"))),
        }
    }

    fn end(&self) -> Result<(), PgError> {
        if self.0.is_empty() { Ok(()) } else { Err(PgError::violation("invalid message format")) }
    }
}
