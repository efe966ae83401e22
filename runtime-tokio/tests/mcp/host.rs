//! What an MCP host does, by hand: it starts the example and talks JSON-RPC to it, a message a line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use pgweir_tests::{LIMIT, LocalPostgres, eventually, example};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A started example. Everything is checked on the way: standard output is JSON-RPC only, standard error empty.
pub(crate) struct Host {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    answers: HashMap<u64, Value>,
    last: u64,
    log: PathBuf,
}

/// How an example ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) log: Vec<Value>,
}

impl Host {
    /// Starts the example over `url`; its log and what it may index are in `folder`.
    pub(crate) fn start(url: &str, folder: &Path, settings: &[(&str, &str)]) -> Host {
        let program = example("code_search").expect("the example");
        let log = folder.join(".log");
        let mut child = Command::new(program)
            .args(["--log-level", "info,pgweir=debug", "--log"])
            .arg(&log)
            .arg("--root")
            .arg(folder)
            .env("DATABASE_URL", url)
            .envs([("POOL_MIN_SIZE", "1"), ("POOL_MAX_SIZE", "3"), ("POOL_OUTAGE_GRACE", "300ms")])
            .envs([("POOL_BACKOFF_INITIAL", "100ms"), ("POOL_BACKOFF_MAX", "500ms")])
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("its output"));
        let (sender, receiver) = channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Host { child, input, output: receiver, answers: HashMap::new(), last: 0, log }
    }

    /// The first messages of the protocol.
    pub(crate) fn initialize(&mut self) -> Value {
        let client = json!({"name": "by hand", "version": "1"});
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        let answer = self.request("initialize", params).expect("an answer");
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer
    }

    /// Calls a tool: its structured answer, or the error.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Result<Value, Value> {
        let id = self.begin_call(tool, arguments);
        self.end_call(id)
    }

    /// Calls a tool without waiting.
    pub(crate) fn begin_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.send("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The answer to a call.
    pub(crate) fn end_call(&mut self, id: u64) -> Result<Value, Value> {
        let mut result = self.answer(id)?;
        if result["isError"] == true { Err(result) } else { Ok(result["structuredContent"].take()) }
    }

    /// Tells the server that the answer to a request is not wanted any more.
    pub(crate) fn cancel(&mut self, id: u64) {
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}));
    }

    /// The pool's health, as the resource has it.
    pub(crate) fn health(&mut self) -> Value {
        serde_json::from_str(&self.resource("health://connection-pool")).expect("JSON")
    }

    /// A resource's text.
    pub(crate) fn resource(&mut self, uri: &str) -> String {
        let result = self.request("resources/read", json!({"uri": uri})).expect("a text");
        result["contents"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// Sends a request and waits for the answer.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Tells the server to end.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("signalled");
    }

    /// Ends the input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Waits until an event of this name is in the log.
    pub(crate) fn wait_for_event(&self, name: &str) -> Value {
        let find = || events(&self.log).into_iter().find(|event| event["name"] == name);
        let mut found = None;
        eventually(&format!("event {name}"), LIMIT, || {
            found = find();
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Waits for the end of the program.
    pub(crate) fn wait(mut self) -> Ended {
        let mut status = None;
        eventually("the end of the example", LIMIT, || {
            status = self.child.try_wait().expect("a status");
            status.is_some()
        });
        while let Ok(line) = self.output.recv() {
            parse(&line);
        }
        let mut errors = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut errors).expect("its errors");
        assert_eq!(errors, "", "standard error is to be empty");
        let log = std::fs::read_to_string(&self.log).expect("a log");
        let event =
            |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("a line of the log is no JSON: {line:?}"));
        Ended { status: status.expect("it has ended"), log: log.lines().map(event).collect() }
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last += 1;
        self.write(&json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}));
        self.last
    }

    fn write(&mut self, message: &Value) {
        writeln!(self.input.as_mut().expect("the input is open"), "{message}").expect("the example reads");
    }

    fn answer(&mut self, id: u64) -> Result<Value, Value> {
        let end = Instant::now() + LIMIT;
        let mut answer = loop {
            if let Some(answer) = self.answers.remove(&id) {
                break answer;
            }
            let line = self.output.recv_timeout(end.saturating_duration_since(Instant::now()));
            let message = parse(&line.unwrap_or_else(|_| panic!("no answer to request {id}")));
            if let Some(id) = message["id"].as_u64() {
                self.answers.insert(id, message);
            }
        };
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].take()) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The events of this name.
    pub(crate) fn named(&self, name: &str) -> Vec<&Value> {
        self.log.iter().filter(|event| event["name"] == name).collect()
    }
}

/// The URL of the superuser, with a name for the sessions.
pub(crate) fn url(server: &LocalPostgres, name: &str) -> String {
    format!("{}?application_name={name}", server.url())
}

fn parse(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("standard output has {line:?}"));
    assert_eq!(message["jsonrpc"], "2.0", "{line}");
    message
}

/// The whole lines of a log that may still be written.
fn events(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
