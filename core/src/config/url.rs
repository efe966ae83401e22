//! Connection URLs (PostgreSQL's manual, "Connection URIs") and `key=value` strings ("Keyword/Value Connection
//! Strings"), into parameters.
//!
//! Whatever is wrong with them, no problem quotes a part that could belong to a password: with an unescaped `/` or
//! `@` in it, a password ends up in the place of a host, a port, a database or a parameter.

use std::fmt::Write;

use super::connect::{ConnectConfig, Host, SslMode, TargetSessionAttrs};
use super::error::{Problems, Source};
use super::params::{Params, Reader};

/// Longer than any address, shorter than any mischief.
const MAX_BYTES: usize = 16 * 1024;

const EXAMPLE: &str = "write it as postgres://user:password@host:5432/database";
const ESCAPE: &str = "in user and password write @ as %40, / as %2F, ? as %3F, : as %3A and % as %25";

/// Reads a URL or a `key=value` string.
pub(crate) fn parse(text: &str, source: &Source, problems: &mut Problems) -> Params {
    let mut params = Params::default();
    let mut reader = Reader { params: &mut params, problems, source, clear: true };
    // Files and secrets often end in a newline.
    let text = text.trim();
    if text.len() > MAX_BYTES {
        reader.refuse("is longer than 16 KiB", EXAMPLE);
    } else if text.contains('\0') {
        reader.refuse("contains a NUL character", "remove it");
    } else {
        match text.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('=') => {
                if check_scheme(scheme, &mut reader) {
                    uri(rest, &mut reader);
                }
            }
            _ if text.contains('=') => conninfo(text, &mut reader),
            _ => reader.refuse("is neither a connection URL nor a key=value string", EXAMPLE),
        }
    }
    params
}

fn check_scheme(scheme: &str, reader: &mut Reader<'_>) -> bool {
    let scheme = scheme.to_ascii_lowercase();
    // SQLAlchemy writes the driver behind a plus.
    let base = scheme.split('+').next().unwrap_or_default();
    match base {
        "postgres" | "postgresql" => true,
        "jdbc:postgresql" => {
            reader.refuse("is a JDBC URL", "remove the leading jdbc: and write user:password@ before the host");
            false
        }
        "mysql" | "mariadb" | "mssql" | "sqlserver" | "sqlite" | "redis" | "mongodb" | "http" | "https" => {
            reader.refuse(&format!("is a URL for {base}, not for PostgreSQL"), EXAMPLE);
            false
        }
        _ => {
            reader.refuse("does not start with postgres:// or postgresql://", EXAMPLE);
            false
        }
    }
}

/// What follows `postgres://`: `[user[:password]@][host[:port],...][/dbname][?name=value&...]`
fn uri(rest: &str, reader: &mut Reader<'_>) {
    let (before_query, query) = split_at_first(rest, '?');
    let (authority, path) = split_at_first(before_query, '/');
    let (credentials, hosts) = match authority.split_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    // An @ where none belongs: the @ before the host was not the first, or something before it ended the authority.
    if hosts.contains('@') || path.is_some_and(|path| path.contains('@')) {
        return reader.refuse("has an @ in the wrong place", ESCAPE);
    }
    let stray = query.is_some_and(|query| query.contains('@'));
    if stray && credentials.is_none() && !authority.is_empty() && path.is_none() {
        return reader.refuse("has an @ after a ?, which can be read in two ways", ESCAPE);
    }
    // An @ in the query may be the one before the host, and all between the two @ a password.
    reader.clear = !stray;
    // `user:secret/db`, the host forgotten, looks just like `host:port/db`.
    let clear = reader.clear && (credentials.is_some() || !authority.contains(':'));
    if let Some(credentials) = credentials {
        let (user, password) = split_at_first(credentials, ':');
        set_decoded(reader, "user", user);
        let clear = reader.clear;
        set_decoded(reader, "password", password.unwrap_or_default());
        // Here the password ended at an @, so that what follows is none of it.
        reader.clear = clear;
    }
    let was_clear = std::mem::replace(&mut reader.clear, clear);
    let Some((host_list, port_list)) = split_hosts(hosts) else {
        return reader.refuse("has a [ or ] that does not enclose an IPv6 address", "write the host as [::1]:5432");
    };
    set_decoded(reader, "host", &host_list);
    set_decoded(reader, "port", &port_list);
    set_decoded(reader, "dbname", path.unwrap_or_default());
    reader.clear = was_clear;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            reader.refuse("has a parameter without a value", "write parameters as ?name=value&name=value");
            continue;
        };
        match decode(name) {
            Ok(name) => set_decoded(reader, &name, value),
            Err(rule) => reader.refuse(rule, ESCAPE),
        }
    }
}

fn split_at_first(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// `a:1,[::1]:2,c` as `a,::1,c` and `1,2,`; no ports at all as the empty text.
fn split_hosts(text: &str) -> Option<(String, String)> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for part in text.split(',') {
        let (host, port) = match part.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').filter(|(host, _)| !host.is_empty())?;
                match port.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if port.is_empty() => (host, ""),
                    None => return None,
                }
            }
            None => part.split_once(':').unwrap_or((part, "")),
        };
        if host.contains(['[', ']']) {
            return None;
        }
        hosts.push(host);
        ports.push(port);
    }
    let ports = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    let hosts = if hosts.iter().all(|host| host.is_empty()) { String::new() } else { hosts.join(",") };
    Some((hosts, ports))
}

fn set_decoded(reader: &mut Reader<'_>, keyword: &str, text: &str) {
    match decode(text) {
        Ok(value) => reader.set(keyword, value),
        Err(rule) => reader.refuse(rule, ESCAPE),
    }
}

fn decode(text: &str) -> Result<String, &'static str> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] == b'%' {
            let digits = bytes.get(index + 1..index + 3).ok_or("has a % without two hexadecimal digits")?;
            let digit = |byte: u8| (byte as char).to_digit(16).ok_or("has a % without two hexadecimal digits");
            decoded.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
            index += 3;
        } else {
            decoded.push(bytes[index]);
            index += 1;
        }
    }
    String::from_utf8(decoded).map_err(|_| "has escapes that are not UTF-8")
}

/// `name=value name='it''s quoted with \' and \\'`
fn conninfo(text: &str, reader: &mut Reader<'_>) {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return;
        }
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            return reader.refuse("has a word that is no name=value", "quote values with blanks: password='a b'");
        };
        let Some((value, after)) = conninfo_value(value.trim_start()) else {
            return reader.refuse("has a quote that is not closed", "in a quoted value write ' as \\' and \\ as \\\\");
        };
        reader.set(name, value);
        rest = after;
    }
}

/// A value and what follows it.
fn conninfo_value(text: &str) -> Option<(String, &str)> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Some((value, &body[index + 1..])),
            c if !quoted && c.is_whitespace() => return Some((value, &body[index..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

impl ConnectConfig {
    /// The configuration as a URL for logs: `***` stands for a password.
    pub fn redacted_url(&self) -> String {
        let secret = self.password.is_some() || self.host_passwords.iter().any(Option::is_some);
        self.to_url(secret.then_some("***"))
    }

    /// [`parse`] and `resolve` read it back.
    pub(super) fn to_url(&self, password: Option<&str>) -> String {
        let mut url = format!("postgres://{}", Encoded(&self.user));
        if let Some(password) = password {
            // Asterisks need no escape, and read better without one.
            let _ = write!(url, ":{}", Encoded(password));
        }
        url.push('@');
        for (index, host) in self.hosts.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            let _ = match host {
                Host::Tcp { host, port } if host.contains(':') => {
                    write!(url, "{separator}[{}]:{port}", Encoded(host).to_string().replace("%3A", ":"))
                }
                Host::Tcp { host, port } => write!(url, "{separator}{}:{port}", Encoded(host)),
                Host::Unix { directory, port } => {
                    write!(url, "{separator}{}:{port}", Encoded(&directory.to_string_lossy()))
                }
            };
        }
        let _ = write!(url, "/{}", Encoded(&self.dbname));
        let mut separator = '?';
        for (name, value) in self.query() {
            let _ = write!(url, "{separator}{name}={}", Encoded(&value));
            separator = '&';
        }
        url
    }

    /// What a URL's parameters can say. Other settings of the startup message have no place in a URL of libpq's.
    fn query(&self) -> Vec<(&str, String)> {
        let mut query: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.parameters {
            if matches!(name.as_str(), "application_name" | "options") {
                query.push((name, value.clone()));
            }
        }
        match self.target_session_attrs {
            TargetSessionAttrs::Any => {}
            TargetSessionAttrs::ReadWrite => query.push(("target_session_attrs", "read-write".to_owned())),
            TargetSessionAttrs::Primary => query.push(("target_session_attrs", "primary".to_owned())),
        }
        match self.ssl_mode {
            SslMode::Disable => query.push(("sslmode", "disable".to_owned())),
            SslMode::Allow => query.push(("sslmode", "allow".to_owned())),
            SslMode::Prefer => {}
        }
        query
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3) and the asterisk.
struct Encoded<'a>(&'a str);

impl std::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'*') {
                f.write_char(byte as char)?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}
