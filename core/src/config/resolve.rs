//! What connection parameters mean: hosts, credentials, session settings, and what this version cannot honour.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::MAX_HOSTS;
use super::connect::{ConnectConfig, Host, Secret, SslMode, TargetSessionAttrs, TcpOptions};
use super::environment::Environment;
use super::error::{Problems, Source};
use super::params::{KEYWORDS, Param, Params, Use};
use super::passfile::{self, Entry};

const DEFAULT_PORT: u16 = 5432;
/// The longest path of a Unix-domain socket on Linux, without its final NUL.
const LONGEST_SOCKET: usize = 107;

/// Reads parameters and says what is wrong with them.
pub(crate) struct Resolver<'a> {
    pub(crate) params: &'a Params,
    /// Where the operating system's user and home folder are found, if anywhere.
    pub(crate) environment: Option<&'a Environment>,
    pub(crate) problems: &'a mut Problems,
    pub(crate) warnings: &'a mut Vec<String>,
}

impl Resolver<'_> {
    /// The configuration; `hosts` from the program, if any, replace those of the parameters. When there are problems
    /// the result is incomplete.
    pub(crate) fn connect_config(&mut self, hosts: &[Host]) -> ConnectConfig {
        self.refuse_what_cannot_be_honoured();
        let named_here = hosts.is_empty();
        let hosts = if named_here { self.hosts() } else { hosts.to_vec() };
        let params = self.params;
        for host in &hosts {
            self.check_host(host, params.get("host").filter(|_| named_here));
        }
        let user = self.user();
        let dbname = self.params.text("dbname").unwrap_or(&user).to_owned();
        let mut config = ConnectConfig::new(hosts, user, dbname);
        self.passwords(&mut config, named_here);
        let name = self.params.text("application_name").or(self.params.text("fallback_application_name"));
        for (keyword, value) in [("application_name", name), ("options", self.params.text("options"))] {
            if let Some(value) = value {
                config.parameters.push((keyword.to_owned(), value.to_owned()));
            }
        }
        config.ssl_mode = self.ssl_mode();
        config.target_session_attrs = self.target_session_attrs();
        config.tcp = self.tcp();
        config
    }

    /// libpq's `connect_timeout`, in whole seconds.
    pub(crate) fn connect_timeout(&mut self) -> Option<(Duration, Source)> {
        let param = self.params.get("connect_timeout")?;
        match param.value.parse::<u32>() {
            Ok(0) => {
                self.wrong("connect_timeout", param, "must be more than 0: a connect must end some time", "5");
                None
            }
            Ok(seconds) => Some((Duration::from_secs(u64::from(seconds)), param.source.clone())),
            Err(_) => {
                self.wrong("connect_timeout", param, "must be a whole number of seconds", "5");
                None
            }
        }
    }

    fn wrong(&mut self, keyword: &str, param: &Param, rule: &str, instead: &str) {
        let fix = param.source.advise(keyword, instead);
        self.refuse(keyword, param, rule, fix);
    }

    fn refuse(&mut self, keyword: &str, param: &Param, rule: &str, fix: String) {
        if param.clear {
            self.problems.add(keyword, &param.value, rule, fix, &param.source);
        } else {
            self.problems.add_unshown(keyword, rule, fix, &param.source);
        }
    }

    fn refuse_what_cannot_be_honoured(&mut self) {
        for (keyword, param) in self.params.iter() {
            // The startup message ends its texts with NUL (protocol, "StartupMessage").
            if param.value.contains('\0') {
                self.problems.add_unshown(keyword, "contains a NUL character", "remove it", &param.source);
            }
            let handling = KEYWORDS.iter().find(|(name, ..)| *name == keyword).map(|(.., handling)| *handling);
            match handling {
                Some(Use::Tls) => {
                    let fix = "remove it, or encrypt by other means, such as a tunnel";
                    self.refuse(keyword, param, "is about TLS, which this version does not have", fix.to_owned());
                }
                Some(Use::Refused(rule, fix)) => self.refuse(keyword, param, rule, fix.to_owned()),
                Some(Use::Read) | None => {}
            }
        }
        const TLS: &str = "asks for TLS, which this version does not have";
        self.accept("sslnegotiation", &["postgres"], TLS);
        self.accept("ssl", &["false"], TLS);
        self.accept("channel_binding", &["disable", "prefer"], TLS);
        self.accept("gssencmode", &["disable", "prefer"], "asks for GSSAPI, which is not supported");
        self.accept("load_balance_hosts", &["disable"], "asks for hosts in random order, which is not supported");
        self.accept("client_encoding", &["UTF8", "utf8", "UTF-8", "utf-8", "auto"], "must be UTF8: all text is");
    }

    fn accept(&mut self, keyword: &str, accepted: &[&str], rule: &str) {
        if let Some(param) = self.params.get(keyword)
            && !accepted.contains(&param.value.as_str())
        {
            self.wrong(keyword, param, rule, accepted[0]);
        }
    }

    /// Hosts, addresses and ports are lists that go together by position.
    fn hosts(&mut self) -> Vec<Host> {
        let list = |keyword: &str| -> Vec<&str> {
            self.params.text(keyword).map_or(Vec::new(), |text| text.split(',').map(str::trim).collect())
        };
        let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = names.len().max(addresses.len()).max(1);
        for (keyword, given, other) in [("hostaddr", addresses.len(), "host"), ("host", names.len(), "hostaddr")] {
            if given > 0
                && given != count
                && let Some(param) = self.params.get(keyword)
            {
                let fix = format!("name as many in {keyword} as in {other}, in the same order");
                self.refuse(keyword, param, &format!("must have {count} entries, one for each {other}"), fix);
                return Vec::new();
            }
        }
        let ports = self.ports(&ports, count);
        let mut hosts = Vec::with_capacity(count.min(MAX_HOSTS + 1));
        for (index, port) in ports.into_iter().enumerate().take(MAX_HOSTS + 1) {
            let at = |list: &[&str]| list.get(index).copied().filter(|text| !text.is_empty()).map(str::to_owned);
            match (at(&addresses), at(&names)) {
                (Some(address), _) => {
                    if address.parse::<IpAddr>().is_err()
                        && let Some(param) = self.params.get("hostaddr")
                    {
                        self.wrong("hostaddr", param, "must be IP addresses", "127.0.0.1");
                    }
                    hosts.push(Host::Tcp { host: address, port });
                }
                (None, Some(path)) if path.starts_with('/') => {
                    hosts.push(Host::Unix { directory: PathBuf::from(path), port });
                }
                (None, name) => hosts.push(Host::Tcp { host: name.unwrap_or_else(|| "localhost".to_owned()), port }),
            }
        }
        hosts
    }

    /// One port for each host: from one for all, or from as many as there are hosts.
    fn ports(&mut self, texts: &[&str], count: usize) -> Vec<u16> {
        let Some(param) = self.params.get("port") else { return vec![DEFAULT_PORT; count] };
        let mut ports = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse::<u16>() {
                _ if text.is_empty() => ports.push(DEFAULT_PORT),
                Ok(port) if port > 0 => ports.push(port),
                _ => {
                    self.wrong("port", param, "must be 1 to 65,535", "5432");
                    return vec![DEFAULT_PORT; count];
                }
            }
        }
        match ports.len() {
            1 => vec![ports[0]; count],
            given if given == count => ports,
            given => {
                let rule = format!("has {given} entries for {count} hosts");
                self.refuse("port", param, &rule, "give one port for all hosts, or one for each".to_owned());
                vec![DEFAULT_PORT; count]
            }
        }
    }

    /// `param`: where the host was named, unless in the program.
    fn check_host(&mut self, host: &Host, param: Option<&Param>) {
        let source = param.map_or(Source::Code, |param| param.source.clone());
        let clear = param.is_none_or(|param| param.clear);
        let mut refuse = |shown: &str, rule: &str, fix: &str| {
            if clear {
                self.problems.add("host", shown, rule, fix.to_owned(), &source);
            } else {
                self.problems.add_unshown("host", rule, fix, &source);
            }
        };
        match host {
            Host::Tcp { host, port } => {
                let odd = |c: char| c.is_whitespace() || c.is_control() || "@/\\?#[]()<>,;'\"=".contains(c);
                if host.starts_with('@') {
                    refuse(host, "is an abstract socket, which is not supported", "use a socket with a path");
                } else if host.is_empty() || host.contains(odd) {
                    // The odd character may be the end of a password.
                    let fix = "write a name or an address, and escape special characters of the password before it";
                    self.problems.add_unshown("host", "is no host's name", fix, &source);
                } else if *port == 0 {
                    refuse(host, "has port 0", "write the server's port, usually 5432");
                }
            }
            Host::Unix { directory, port } => {
                let shown = directory.to_string_lossy();
                let length = directory.join(format!(".s.PGSQL.{port}")).as_os_str().len();
                if !directory.is_absolute() || shown.contains([',', '\0']) {
                    refuse(&shown, "must be an absolute path without commas", "write it as /run/postgresql");
                } else if length > LONGEST_SOCKET {
                    refuse(&shown, "is too long for a Unix socket", "keep the path under 90 characters");
                } else if *port == 0 {
                    refuse(&shown, "has port 0", "write the server's port, usually 5432");
                }
            }
        }
    }

    fn user(&mut self) -> String {
        let os_user = || self.environment.and_then(Environment::os_user);
        match self.params.text("user").map(str::to_owned).or_else(os_user) {
            Some(user) => user,
            None => {
                let fix = "write it into the connection URL as postgres://user@host/database, or set PGUSER";
                let source = self.params.get("host").map(|param| param.source.clone()).unwrap_or_default();
                self.problems.add_unshown("user", "is missing", fix, &source);
                String::new()
            }
        }
    }

    /// As in libpq, the password file is asked only if no password was given otherwise.
    fn passwords(&mut self, config: &mut ConnectConfig, named_here: bool) {
        if let Some(password) = self.params.text("password") {
            config.password = Some(Secret::new(password));
            return;
        }
        let Some(entries) = self.password_file() else { return };
        // With hostaddr, the entry is still looked up by the name.
        let by_name = named_here && self.params.get("hostaddr").is_some();
        let names = self.params.text("host").filter(|_| by_name).unwrap_or_default();
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        let found: Vec<Option<Secret>> = config
            .hosts
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let (name, port) = match host {
                    Host::Tcp { host, port } => {
                        (names.get(index).copied().filter(|name| !name.is_empty()).unwrap_or(host), *port)
                    }
                    Host::Unix { directory, port } => (unix_name(directory), *port),
                };
                passfile::find(&entries, name, port, &config.dbname, &config.user).map(Secret::new)
            })
            .collect();
        if found.iter().all(|password| *password == found[0]) {
            config.password = found.into_iter().next().flatten();
        } else {
            config.host_passwords = found;
        }
    }

    fn password_file(&mut self) -> Option<Vec<Entry>> {
        let explicit = self.params.text("passfile").map(PathBuf::from);
        let is_explicit = explicit.is_some();
        let path = explicit.or_else(|| self.environment.and_then(Environment::password_file))?;
        match passfile::read(&path) {
            Ok(entries) => Some(entries),
            Err(passfile::Unread::Missing) if !is_explicit => None,
            Err(why) => {
                self.warnings.push(format!("the password file {} is ignored: {why}", path.display()));
                None
            }
        }
    }

    fn ssl_mode(&mut self) -> SslMode {
        let Some(param) = self.params.get("sslmode") else { return SslMode::default() };
        match param.value.as_str() {
            "disable" => return SslMode::Disable,
            "allow" => return SslMode::Allow,
            "prefer" => return SslMode::Prefer,
            "require" | "verify-ca" | "verify-full" => {
                self.wrong("sslmode", param, "asks for TLS, which this version does not have", "prefer");
            }
            _ => self.wrong("sslmode", param, "must be disable, allow or prefer", "prefer"),
        }
        SslMode::default()
    }

    fn target_session_attrs(&mut self) -> TargetSessionAttrs {
        let Some(param) = self.params.get("target_session_attrs") else { return TargetSessionAttrs::default() };
        match param.value.as_str() {
            "any" => return TargetSessionAttrs::Any,
            "read-write" => return TargetSessionAttrs::ReadWrite,
            "primary" => return TargetSessionAttrs::Primary,
            "read-only" | "standby" | "prefer-standby" => {
                let rule = "is not supported in this version, which looks for primaries only";
                self.wrong("target_session_attrs", param, rule, "any");
            }
            _ => self.wrong("target_session_attrs", param, "must be any, read-write or primary", "any"),
        }
        TargetSessionAttrs::default()
    }

    fn tcp(&mut self) -> TcpOptions {
        let seconds = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
        TcpOptions {
            keepalives: self.number("keepalives", 1).map(|flag| flag != 0),
            keepalives_idle: self.number("keepalives_idle", i32::MAX as u32).and_then(seconds),
            keepalives_interval: self.number("keepalives_interval", i32::MAX as u32).and_then(seconds),
            keepalives_count: self.number("keepalives_count", i32::MAX as u32).filter(|count| *count > 0),
            user_timeout: self
                .number("tcp_user_timeout", i32::MAX as u32)
                .and_then(|millis| (millis > 0).then(|| Duration::from_millis(u64::from(millis)))),
        }
    }

    /// Zero is the system's default, as in libpq.
    fn number(&mut self, keyword: &str, most: u32) -> Option<u32> {
        let param = self.params.get(keyword)?;
        match param.value.parse::<u32>() {
            Ok(number) if number <= most => Some(number),
            _ => {
                self.wrong(keyword, param, &format!("must be a whole number up to {most}"), "1");
                None
            }
        }
    }
}

/// libpq looks its default socket folders up as localhost.
fn unix_name(directory: &Path) -> &str {
    match directory.to_str() {
        Some("/tmp" | "/var/run/postgresql" | "/run/postgresql") | None => "localhost",
        Some(directory) => directory,
    }
}
