//! Configuration from several sources at once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check;
use super::connect::{ConnectConfig, Host, ResetPolicy, Secret};
use super::environment::Environment;
use super::error::{ConfigError, Problems, Source};
use super::fields::{DATABASE_URL, Sources, config_fields};
use super::layer::{Layer, Setting};
use super::params::{self, Params};
use super::pool::{LeakStack, PoolConfig, ValidationPolicy};
use super::resolve::Resolver;
use super::{Config, url, yaml};

/// Makes a [`Config`] from code, environment, YAML and defaults, in this order of precedence, whatever the order of
/// the calls.
///
/// No call fails: all problems of all sources are reported together by [`build`](Self::build).
#[derive(Clone, Default)]
#[must_use]
pub struct ConfigBuilder {
    code: Layer,
    environment: Layer,
    yaml: Layer,
    hosts: Vec<Host>,
    /// Connection parameters from the program.
    explicit: Params,
    settings: Vec<(String, String)>,
    /// What stands below the URL: the PG* variables, user and home.
    fallback: Option<Environment>,
    problems: Problems,
    warnings: Vec<String>,
}

impl ConfigBuilder {
    /// Reads the process's environment: `POOL_*`, `DATABASE_URL`, the `PG*` variables of libpq and `~/.pgpass`.
    pub fn env(self) -> Self {
        self.environment(Environment::process())
    }

    /// Reads this environment: `POOL_*`, `DATABASE_URL`, the `PG*` variables of libpq and `~/.pgpass`.
    pub fn environment(mut self, environment: Environment) -> Self {
        let layer = Layer::from_environment(&environment, &mut self.problems, &mut self.warnings);
        self.environment = layer.over(self.environment);
        self.pg_environment(environment)
    }

    /// Reads of this environment only what libpq reads: the `PG*` variables, and `~/.pgpass`.
    pub fn pg_environment(mut self, environment: Environment) -> Self {
        self.fallback = Some(environment);
        self
    }

    /// Reads a YAML text.
    pub fn yaml_str(mut self, text: &str) -> Self {
        let layer = Layer::from_yaml(text, None, &mut self.problems);
        self.yaml = layer.over(self.yaml);
        self
    }

    /// Reads a YAML file, now.
    pub fn yaml_file(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let name = path.display().to_string();
        match read_file(path) {
            Ok(text) => {
                let layer = Layer::from_yaml(&text, Some(&name), &mut self.problems);
                self.yaml = layer.over(self.yaml);
            }
            Err(why) => {
                let fix = "check the path and who may read it";
                self.problems.add_unshown(&name, &format!("cannot be read ({why})"), fix, &Source::Code);
            }
        }
        self
    }

    /// The database: a libpq URI (`postgres://user:password@host:5432/database?...`) or `key=value` string.
    pub fn database_url(mut self, url: impl AsRef<str>) -> Self {
        self.code.database_url = Some(Setting { value: Secret::new(url.as_ref()), source: Source::Code });
        self
    }

    /// Adds a server. Those added here replace the URL's.
    pub fn host(mut self, host: impl Into<String>, port: u16) -> Self {
        self.hosts.push(Host::Tcp { host: host.into(), port });
        self
    }

    /// Adds a server behind a Unix-domain socket in this folder. Those added here replace the URL's.
    pub fn unix_socket(mut self, directory: impl Into<PathBuf>, port: u16) -> Self {
        self.hosts.push(Host::Unix { directory: directory.into(), port });
        self
    }

    /// Who logs in.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.explicit("user", user.into())
    }

    /// The password.
    pub fn password(self, password: impl Into<String>) -> Self {
        self.explicit("password", password.into())
    }

    /// The password file instead of `~/.pgpass`. Asked only when there is no password otherwise.
    pub fn password_file(self, path: impl Into<String>) -> Self {
        self.explicit("passfile", path.into())
    }

    /// The database's name.
    pub fn dbname(self, dbname: impl Into<String>) -> Self {
        self.explicit("dbname", dbname.into())
    }

    /// The name shown in `pg_stat_activity`.
    pub fn application_name(self, name: impl Into<String>) -> Self {
        self.explicit("application_name", name.into())
    }

    /// A server setting for every session, such as `search_path`: part of the startup message, so that it survives a
    /// reset.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Another connection parameter, by libpq's name: `connection_parameter("target_session_attrs", "primary")`.
    pub fn connection_parameter(mut self, keyword: &str, value: impl Into<String>) -> Self {
        params::Reader { params: &mut self.explicit, problems: &mut self.problems, source: &Source::Code, clear: true }
            .set(keyword, value.into());
        self
    }

    fn explicit(mut self, keyword: &'static str, value: String) -> Self {
        self.explicit.set(keyword, value, &Source::Code, true);
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// Everything that is wrong with any source, at once.
    pub fn build(mut self) -> Result<Config, ConfigError> {
        let mut layer = self.code.over(self.environment).over(self.yaml);
        let params = connection_params(
            layer.database_url.take(),
            self.explicit,
            &self.hosts,
            self.fallback.as_ref(),
            &mut self.problems,
        );
        let (mut pool, mut sources) = (PoolConfig::default(), Sources::default());
        let mut connect = ConnectConfig::new(vec![], "", "");
        if let Some(params) = params {
            let mut resolver = Resolver {
                params: &params,
                environment: self.fallback.as_ref(),
                problems: &mut self.problems,
                warnings: &mut self.warnings,
            };
            connect = resolver.connect_config(&self.hosts);
            if layer.connect_timeout.is_none()
                && let Some((timeout, source)) = resolver.connect_timeout()
            {
                pool.connect_timeout = timeout;
                sources.insert("connect_timeout", source);
            }
        }
        layer.apply(&mut pool, &mut connect.session, &mut sources);
        add_settings(self.settings, &mut connect, &mut self.problems);
        if !sources.contains("min_size") {
            pool.fit_min_size();
        }
        pool.reset_on_release = connect.session.reset != ResetPolicy::Nothing;
        pool.hosts = u16::try_from(connect.hosts.len()).unwrap_or(u16::MAX).max(1);
        check::pool(&pool, &sources, &mut self.problems);
        check::session(&connect.session, &sources, &mut self.problems);
        self.problems.into_result(Config { pool, connect, warnings: self.warnings })
    }
}

/// The program's parameters over the URL's over the PG* variables. `None`: there is nothing to go on with, and the
/// problems say why.
fn connection_params(
    url: Option<Setting<Secret>>,
    explicit: Params,
    hosts: &[Host],
    fallback: Option<&Environment>,
    problems: &mut Problems,
) -> Option<Params> {
    let variables = fallback.map(|env| params::from_variables(|name| env.get(name).map(str::to_owned)));
    let variables = variables.unwrap_or_default();
    let named =
        explicit.get("host").or(variables.get("host")).or(variables.get("hostaddr")).or(variables.get("dbname"));
    let mut from_url = Params::default();
    if let Some(url) = url {
        let before = problems.count();
        from_url = url::parse(url.value.expose(), &Source::Url { origin: Box::new(url.source) }, problems);
        if problems.count() > before {
            // Half a URL would only bring forth further problems.
            return None;
        }
    } else if named.is_none() && hosts.is_empty() {
        let fix = "set DATABASE_URL to postgres://user:password@host:5432/database, or pass one to database_url()";
        problems.add_unshown(DATABASE_URL, "is missing", fix, &Source::Default);
        return None;
    }
    Some(explicit.over(from_url).over(variables))
}

/// Settings for the startup message. The protocol's own words are not among them (protocol, "StartupMessage").
fn add_settings(settings: Vec<(String, String)>, connect: &mut ConnectConfig, problems: &mut Problems) {
    for (name, value) in settings {
        let ours = ["user", "database", "replication", "client_encoding", "password"].contains(&name.as_str());
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            let fix = "pass a server setting's name and value to setting()";
            problems.add_unshown("setting", "has no name or contains a NUL character", fix, &Source::Code);
        } else if ours || name.starts_with("_pq_.") {
            let fix = "use the setter of that name, or leave it to the pool".to_owned();
            problems.add("setting", &name, "is not a server setting", fix, &Source::Code);
        } else {
            connect.parameters.retain(|(earlier, _)| *earlier != name);
            connect.parameters.push((name, value));
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    // Opening a named pipe would wait for a writer.
    if metadata.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    // A text cut in the middle of a character is refused for its size, not for the cut.
    if bytes.len() > yaml::MAX_BYTES {
        bytes.clear();
        bytes.resize(yaml::MAX_BYTES + 1, b' ');
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

macro_rules! setters {
    (pool { $($(#[$pd:meta])* $p:ident: $pt:ty = $pdef:literal, $pr:literal;)* }
     session { $($(#[$sd:meta])* $s:ident: $st:ty = $sdef:literal, $sr:literal;)* }) => {
        impl ConfigBuilder {
            $($(#[$pd])*
            #[doc = concat!("\n\nDefault: ", $pdef, ". Range: ", $pr, ".")]
            pub fn $p(mut self, $p: $pt) -> Self {
                self.code.$p = Some(Setting { value: $p, source: Source::Code });
                self
            })*

            $($(#[$sd])*
            #[doc = concat!("\n\nDefault: ", $sdef, ". Range: ", $sr, ".")]
            pub fn $s(mut self, $s: $st) -> Self {
                self.code.$s = Some(Setting { value: $s, source: Source::Code });
                self
            })*
        }
    };
}
config_fields!(setters);

impl std::fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigBuilder").finish_non_exhaustive()
    }
}
