//! One run of the server: its process, from spawn to end.

use super::binaries::Binaries;
use super::user::{self, RunAs};
use crate::processes;
use crate::wait::{LIMIT, poll_until};
use crate::{Error, Result, Signal};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
}

impl Postmaster {
    pub(super) fn spawn(binaries: &Binaries, run_as: Option<&RunAs>, folder: &Path, log: &Path) -> Result<Postmaster> {
        let open = || File::options().append(true).create(true).open(log).map_err(Error::io("open the server's log"));
        let child = user::command(&binaries.folder.join("postgres"), run_as, folder)
            .arg("-D")
            .arg(folder.join("data"))
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .map_err(Error::io(format!("run {}", binaries.folder.join("postgres").display())))?;
        Ok(Postmaster { child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What the postmaster says of itself in its pid file: true once it accepts connections. (Line 1 is the process id,
    /// line 8 the status; `pg_ctl -w` waits for the same.)
    pub(super) fn is_ready(&self, data: &Path) -> bool {
        let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
        let mut lines = text.lines();
        let ours = lines.next().is_some_and(|line| line.trim() == self.pid().to_string());
        ours && lines.nth(6).is_some_and(|line| ["ready", "standby"].contains(&line.trim()))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        processes::send(self.pid(), signal).map(drop)
    }

    /// Waits for the end of the process.
    pub(super) fn wait_ended(&mut self, limit: Duration) -> bool {
        poll_until(limit, || self.ended().is_some())
    }

    /// Stops the postmaster and all its children in their tracks, and waits until they are.
    pub(super) fn freeze(&self) -> Result<()> {
        // The postmaster first: it makes no new children then.
        self.signal(Signal::STOP)?;
        let all_stopped = || {
            let running: Vec<u32> = self.family().filter(|process| process.state != 'T').map(|p| p.pid).collect();
            for pid in &running {
                let _ = processes::send(*pid, Signal::STOP);
            }
            running.is_empty()
        };
        if poll_until(LIMIT, all_stopped) {
            return Ok(());
        }
        Err(Error::Timeout { what: "stopping every process of the server".into(), limit: LIMIT, detail: String::new() })
    }

    /// Lets everything run again.
    pub(super) fn thaw(&self) -> Result<()> {
        for process in self.family() {
            processes::send(process.pid, Signal::CONT)?;
        }
        Ok(())
    }

    /// Kills the postmaster and all its children, and waits until they are gone.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let mut victims: Vec<u32> = Vec::new();
        // A child that was forked just before the stop took effect shows up in a later look.
        let no_more = || {
            let fresh: Vec<u32> =
                processes::children(self.pid()).iter().map(|p| p.pid).filter(|pid| !victims.contains(pid)).collect();
            let stopped = self.family().any(|process| process.pid == self.pid() && process.state != 'T');
            for pid in &fresh {
                let _ = processes::send(*pid, Signal::KILL);
            }
            victims.extend(&fresh);
            fresh.is_empty() && !stopped
        };
        poll_until(LIMIT, no_more);
        self.signal(Signal::KILL)?;
        self.child.wait().map_err(Error::io("wait for the killed postmaster"))?;
        if poll_until(LIMIT, || !victims.iter().any(|pid| processes::is_alive(*pid))) {
            return Ok(());
        }
        Err(Error::Timeout { what: "the end of killed backends".into(), limit: LIMIT, detail: String::new() })
    }

    fn family(&self) -> impl Iterator<Item = processes::Process> {
        let own = self.pid();
        processes::table().into_iter().filter(move |p| (p.pid == own || p.parent == own) && p.state != 'Z')
    }
}

/// A killed postmaster leaves its small System V segment behind (line 7 of the pid file: key and id); a machine has
/// room for a few thousand of them.
pub(super) fn remove_shared_memory(data: &Path) {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    let id = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    if let Some(id) = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())) {
        // Best effort: it is 56 bytes, and gone already after any orderly stop.
        let _ = Command::new("ipcrm").args(["-m", id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
