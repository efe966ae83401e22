//! Messages of the server, as bytes.

use super::error::PgError;
use super::value::{Column, Type};

/// Whole messages, one after the other.
#[derive(Debug, Default)]
pub(super) struct Out {
    bytes: Vec<u8>,
    /// They have random contents.
    secret: bool,
}

/// The transaction status of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Idle = b'I' as isize,
    InTransaction = b'T' as isize,
    Failed = b'E' as isize,
}

impl Out {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// What is there is of SASL: random.
    pub(super) fn mark_secret(&mut self) {
        self.secret = true;
    }

    pub(super) fn take_secret(&mut self) -> bool {
        std::mem::take(&mut self.secret)
    }

    /// Bytes that are no message: the answer to SSLRequest, or garbage.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn message(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.push(tag);
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        body(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub(super) fn authentication(&mut self, code: u32, rest: &[u8]) {
        self.message(b'R', |out| {
            out.extend(code.to_be_bytes());
            out.extend(rest);
        });
    }

    pub(super) fn negotiate(&mut self, unknown: &[&str]) {
        self.message(b'v', |out| {
            out.extend((3u32 << 16).to_be_bytes());
            out.extend((unknown.len() as u32).to_be_bytes());
            unknown.iter().for_each(|name| text(out, name));
        });
    }

    pub(super) fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            text(out, name);
            text(out, value);
        });
    }

    pub(super) fn key(&mut self, pid: i32, key: i32) {
        self.message(b'K', |out| {
            out.extend(pid.to_be_bytes());
            out.extend(key.to_be_bytes());
        });
    }

    pub(super) fn ready(&mut self, status: Status) {
        self.message(b'Z', |out| out.push(status as u8));
    }

    pub(super) fn error(&mut self, error: &PgError) {
        self.complaint(b'E', error);
    }

    pub(super) fn notice(&mut self, notice: &PgError) {
        self.complaint(b'N', notice);
    }

    fn complaint(&mut self, tag: u8, error: &PgError) {
        self.message(tag, |out| {
            let mut field = |kind: u8, value: &str| {
                out.push(kind);
                text(out, value);
            };
            field(b'S', error.severity.text());
            field(b'V', error.severity.text());
            field(b'C', &error.code);
            field(b'M', &error.message);
            if let Some(detail) = &error.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &error.hint {
                field(b'H', hint);
            }
            if let Some(position) = error.position {
                field(b'P', &position.to_string());
            }
            out.push(0);
        });
    }

    pub(super) fn columns(&mut self, columns: &[Column], formats: &[i16]) {
        self.message(b'T', |out| {
            out.extend((columns.len() as u16).to_be_bytes());
            for (index, column) in columns.iter().enumerate() {
                text(out, &column.name);
                out.extend([0; 6]);
                out.extend(column.type_.oid().to_be_bytes());
                out.extend(column.type_.size().to_be_bytes());
                out.extend((-1i32).to_be_bytes());
                out.extend(format_of(formats, index).to_be_bytes());
            }
        });
    }

    /// `values` has what each column's encoding is, `None` for NULL.
    pub(super) fn row(&mut self, values: &[Option<Vec<u8>>]) {
        self.message(b'D', |out| {
            out.extend((values.len() as u16).to_be_bytes());
            for value in values {
                match value {
                    None => out.extend((-1i32).to_be_bytes()),
                    Some(bytes) => {
                        out.extend((bytes.len() as u32).to_be_bytes());
                        out.extend(bytes);
                    }
                }
            }
        });
    }

    pub(super) fn parameters(&mut self, types: &[Type]) {
        self.message(b't', |out| {
            out.extend((types.len() as u16).to_be_bytes());
            types.iter().for_each(|type_| out.extend(type_.oid().to_be_bytes()));
        });
    }

    pub(super) fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| text(out, tag));
    }

    pub(super) fn notification(&mut self, pid: i32, channel: &str, payload: &str) {
        self.message(b'A', |out| {
            out.extend(pid.to_be_bytes());
            text(out, channel);
            text(out, payload);
        });
    }

    /// A message without a body: `1` ParseComplete, `2` BindComplete, `3` CloseComplete, `n` NoData, `s`
    /// PortalSuspended, `I` EmptyQueryResponse.
    pub(super) fn bare(&mut self, tag: u8) {
        self.message(tag, |_| {});
    }
}

/// The format of a column or parameter: none given means text, one is for all.
pub(super) fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or_default(),
    }
}

/// A string and its zero byte; a zero byte in it would end it.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}
