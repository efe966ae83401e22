//! A Prometheus of the test's own.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::ports::Port;
use crate::postgres::install;
use crate::wait::{LIMIT, poll_until};
use crate::{Error, Result, http};

/// A Prometheus that scrapes one endpoint every second and serves its HTTP API on a port of 127.0.0.1.
///
/// As root on Debian or Ubuntu without Prometheus it is installed with apt-get. Dropping this ends it, and so does the end
/// of the process, however it comes.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    pipe: Option<ChildStdin>,
    port: Port,
    folder: TempDir,
}

/// Runs it until the end of its own input, which comes with the end of the process that holds the other end.
const SCRIPT: &str = r#""$@" & pid=$!; cat > /dev/null; kill "$pid"; wait "$pid""#;

impl Prometheus {
    /// Starts one, with the alert rules that come with pgweir; returns when it has scraped its target.
    ///
    /// # Errors
    /// [`Error::NoPostgres`] with the command that installs it, [`Error::Failed`] with its log, or the operating
    /// system's refusal.
    pub fn start(target: SocketAddr) -> Result<Prometheus> {
        let program = find("prometheus")?;
        let port = Port::reserve()?;
        let folder = tempfile::tempdir().map_err(Error::io("make a folder for Prometheus"))?;
        let config = folder.path().join("prometheus.yml");
        let rules = super::alerts_file().canonicalize().map_err(Error::io("find the alert rules"))?;
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n- job_name: shop\n  static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        fs::write(&config, text).map_err(Error::io("write Prometheus's configuration"))?;
        let open = || File::options().append(true).create(true).open(folder.path().join("log"));
        let open = || open().map_err(Error::io("open Prometheus's log"));
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "pgweir-tests-prometheus"])
            .arg(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .stdin(Stdio::piped())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .map_err(Error::io("start sh"))?;
        let pipe = child.stdin.take();
        let prometheus = Prometheus { child, pipe, port, folder };
        if poll_until(LIMIT, || prometheus.query("up == 1", None).is_ok_and(|found| found > 0)) {
            return Ok(prometheus);
        }
        Err(Error::Failed { what: "Prometheus does not scrape".into(), output: prometheus.log() })
    }

    /// How many series an expression has, now or at a time in Unix seconds.
    ///
    /// # Errors
    /// What Prometheus has against it.
    pub fn query(&self, expression: &str, at: Option<u64>) -> Result<usize> {
        let time = at.map_or(String::new(), |at| format!("&time={at}"));
        let answer = self.api(&format!("/api/v1/query?query={}{time}", encoded(expression)))?;
        answer["result"].as_array().map(Vec::len).ok_or_else(|| self.failed(expression, &answer.to_string()))
    }

    /// The names of the alerts that wait for their time or fire.
    ///
    /// # Errors
    /// What Prometheus has against it.
    pub fn alerts(&self) -> Result<Vec<String>> {
        let answer = self.api("/api/v1/alerts")?;
        let alerts = answer["alerts"].as_array().into_iter().flatten();
        Ok(alerts.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect())
    }

    /// Why the last scrape of the target failed; empty if it did not.
    ///
    /// # Errors
    /// What Prometheus has against it.
    pub fn scrape_error(&self) -> Result<String> {
        let answer = self.api("/api/v1/targets?state=active")?;
        Ok(answer["activeTargets"][0]["lastError"].as_str().unwrap_or("there is no target").to_owned())
    }

    fn api(&self, path: &str) -> Result<Value> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port.number()));
        let answer = http::get(address, path)?;
        let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if json["status"] == "success" {
            return Ok(json["data"].clone());
        }
        Err(self.failed(path, &answer.body))
    }

    fn failed(&self, what: &str, output: &str) -> Error {
        Error::Failed { what: format!("Prometheus does not answer {what}"), output: output.to_owned() }
    }

    fn log(&self) -> String {
        fs::read(self.folder.path().join("log")).map_or(String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.child.wait();
    }
}

/// What `promtool check rules` says against a file; empty if nothing.
///
/// # Errors
/// If it cannot be asked.
pub fn check_rules(file: &Path) -> Result<String> {
    promtool(&["check", "rules", &file.display().to_string()], "")
}

/// What `promtool check metrics` says against a scrape in Prometheus's own text; empty if nothing.
///
/// # Errors
/// If it cannot be asked.
pub fn check_metrics(text: &str) -> Result<String> {
    promtool(&["check", "metrics"], text)
}

fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let io = || Error::io("run promtool");
    let mut child = Command::new(find("promtool")?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(io())?;
    }
    let output = child.wait_with_output().map_err(io())?;
    if output.status.success() {
        return Ok(String::new());
    }
    Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

fn find(program: &str) -> Result<PathBuf> {
    let look = || {
        let folders = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        folders.into_iter().flatten().map(|folder| folder.join(program)).find(|file| file.is_file())
    };
    if look().is_none() {
        install::install_prometheus(|| look().is_some())?;
    }
    look().ok_or_else(|| Error::NoPostgres(format!("the package prometheus was installed but brought no {program}")))
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
