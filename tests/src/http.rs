//! A small blocking HTTP client, for endpoints on this machine: it sends what it is told and shows what comes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Result;
use crate::{Error, LIMIT};

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the header fields, in lower case.
    pub head: String,
    /// What follows them.
    pub body: String,
}

/// Asks for one page and takes the whole answer.
///
/// # Errors
/// If nobody answers in time, or not in HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    Answer::parse(&exchange(address, request.as_bytes())?)
}

/// Sends these bytes and no more, and returns everything that comes until the other side has ended.
///
/// # Errors
/// If it takes longer than [`LIMIT`], or the connection is reset.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let io = Error::io(format!("ask {address}"));
    let mut answer = Vec::new();
    let mut talk = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(bytes)?;
        stream.read_to_end(&mut answer)?;
        // What has ended already cannot be shut down.
        let _ = stream.shutdown(Shutdown::Both);
        Ok(())
    };
    talk().map_err(io)?;
    Ok(answer)
}

impl Answer {
    /// Takes an answer apart; its body is all that follows the head, or what the head says if it says so in chunks.
    ///
    /// # Errors
    /// If it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let wrong = || Error::io("read an HTTP answer")(std::io::Error::other(format!("not one: {text:.200}")));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).ok_or_else(wrong)?;
        let head = head.to_ascii_lowercase();
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body).ok_or_else(wrong)? } else { body.to_owned() };
        Ok(Answer { status, head, body })
    }
}

fn unchunked(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..size)?);
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}
