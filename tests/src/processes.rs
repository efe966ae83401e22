//! Looking at processes and signalling them.

use crate::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Command;

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The state's letter: `T` is stopped, `Z` a zombie.
    pub(crate) state: char,
}

/// Sends a signal; false if there is no such process.
pub(crate) fn send(pid: u32, signal: Signal) -> Result<bool> {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    match kill_process(target, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(Error::io(format!("send {signal:?} to process {pid}"))(error.into())),
    }
}

/// Whether the process is there and more than a zombie that nobody has reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    table().iter().any(|process| process.pid == pid && process.state != 'Z')
}

/// The living children of a process.
pub(crate) fn children(parent: u32) -> Vec<Process> {
    table().into_iter().filter(|process| process.parent == parent && process.state != 'Z').collect()
}

/// The process table, from /proc where there is one (slim containers have no `ps`), else from `ps`.
pub(crate) fn table() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return from_ps() };
    let found: Vec<Process> = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect();
    if found.is_empty() { from_ps() } else { found }
}

/// `pid (command) state parent ...`; the command may hold anything, brackets too.
fn parse_stat(line: &str) -> Option<Process> {
    let (pid, _) = line.split_once(' ')?;
    let (_, rest) = line.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Process { pid: pid.parse().ok()?, parent: fields.next()?.parse().ok()?, state })
}

fn from_ps() -> Vec<Process> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat="]).output() else { return Vec::new() };
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        Some(Process {
            pid: fields.next()?.parse().ok()?,
            parent: fields.next()?.parse().ok()?,
            state: fields.next()?.chars().next()?,
        })
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_and_spaces_is_parsed() {
        let parsed = parse_stat("42 (a) b (c) T 7 42 42 0 -1").expect("a stat line");
        assert_eq!(parsed, Process { pid: 42, parent: 7, state: 'T' });
        assert_eq!(parse_stat("42 nothing"), None);
    }

    #[test]
    fn both_sources_know_this_process() {
        let own = std::process::id();
        assert!(table().iter().any(|process| process.pid == own));
        assert!(is_alive(own));
        let parent = table().iter().find(|process| process.pid == own).map(|process| process.parent);
        let by_ps = from_ps();
        if !by_ps.is_empty() {
            assert_eq!(by_ps.iter().find(|process| process.pid == own).map(|process| process.parent), parent);
        }
    }
}
