//! Who cleans up when the test process is killed outright.

use crate::{Error, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads the postmaster's process id, line by line, whenever it changes (an empty line: there is none). At the end of
/// its input, which comes however this process ends, it stops that postmaster as `pg_ctl -m immediate` would, woken up
/// first in case it was paused, and removes the folder. A last line `done` means that there is nothing left to do.
///
/// The postmaster kills what does not answer within five seconds itself, and removes its pid file last; the exit status
/// of a process that is not our child any more is for init.
const SCRIPT: &str = r#"
folder=$1
pid=
while read -r line; do pid=$line; done
[ "$pid" = done ] && exit 0
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    kill -CONT "$pid" 2>/dev/null
    tries=0
    while [ -e "$folder/data/postmaster.pid" ] && [ "$tries" -lt 150 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$folder"
"#;

/// A `sh` that outlives this process just long enough to clean up after it. It holds the reading end of a pipe whose
/// only writing end is ours (and closed on exec), so it needs no unsafe code, no polling and no signal.
#[derive(Debug)]
pub(super) struct Watcher {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watcher {
    pub(super) fn start(folder: &Path) -> Result<Watcher> {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "pgweir-tests-watcher"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("start sh"))?;
        let pipe = child.stdin.take();
        Ok(Watcher { child, pipe })
    }

    /// Tells which postmaster to stop.
    pub(super) fn watch(&mut self, postmaster: Option<u32>) {
        self.tell(&postmaster.map_or(String::new(), |pid| pid.to_string()));
    }

    /// Everything is cleaned up already.
    pub(super) fn dismiss(&mut self) {
        self.tell("done");
        self.end();
    }

    fn tell(&mut self, line: &str) {
        // A watcher that was killed from outside watches nothing; the server is still stopped by our own Drop.
        let _ = self.pipe.as_mut().map(|pipe| pipe.write_all(format!("{line}\n").as_bytes()));
    }

    fn end(&mut self) {
        self.pipe = None;
        let _ = self.child.wait();
    }
}

impl Drop for Watcher {
    /// Without [`Watcher::dismiss`], waits until the watcher has cleaned up.
    fn drop(&mut self) {
        self.end();
    }
}
