//! The database that is made to fail: a throw-away server, the one behind DATABASE_URL with a proxy in front, or a
//! simulated one.

use std::net::SocketAddr;
use std::time::Duration;

use pgweir_core::config::{Config, ConfigBuilder, Environment, Host};
use pgweir_core::runtime::Runtime;
use pgweir_sim::scenario::ServerState;
use pgweir_sim::server::{self as simulated, TcpServer};

use super::error::Error;
use crate::{Client, ClientConfig, Endpoint, LocalPostgres, Proxy, Row};

/// How long the simulated server says "in recovery mode".
const STARTING: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(10);

/// Says whose sessions are whose in pg_stat_activity.
pub(crate) struct Server {
    kind: Kind,
    config: ConfigBuilder,
    observer: ClientConfig,
    application_name: String,
}

enum Kind {
    Local(LocalPostgres),
    Behind(Proxy, Host),
    Simulated(TcpServer),
}

/// Whether a simulated server is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Simulated {
    Never,
    /// If there is no PostgreSQL.
    IfNeeded,
    Always,
}

impl Server {
    /// The server of DATABASE_URL, if that is set, else a new one of its own: a real one, or a simulated one.
    pub(crate) async fn start<R: Runtime>(runtime: &R, wanted: Simulated) -> Result<Server, Error> {
        let application_name = format!("pgweir-demo-{}", std::process::id());
        if wanted == Simulated::Always {
            return Server::simulated(application_name);
        }
        if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            return Server::behind(runtime, &url, application_name).await;
        }
        match LocalPostgres::start() {
            Ok(local) => {
                let config = Config::builder().database_url(local.url());
                let observer = local.client_config();
                Ok(Server { kind: Kind::Local(local), config, observer, application_name })
            }
            Err(crate::Error::NoPostgres(_)) if wanted == Simulated::IfNeeded => Server::simulated(application_name),
            Err(error) => Err(error.into()),
        }
    }

    fn simulated(application_name: String) -> Result<Server, Error> {
        let failed = |error| Error::Testkit(crate::Error::io("start the simulated server")(error));
        let server = TcpServer::start(simulated::Config::default()).map_err(failed)?;
        let address = server.address();
        let config =
            Config::builder().host(address.ip().to_string(), address.port()).user("postgres").dbname("postgres");
        let observer = ClientConfig {
            endpoint: Endpoint::Tcp(address),
            user: "postgres".to_owned(),
            password: String::new(),
            database: "postgres".to_owned(),
            application_name: "pgweir-demo-observer".to_owned(),
            timeout: Duration::from_secs(10),
        };
        Ok(Server { kind: Kind::Simulated(server), config, observer, application_name })
    }

    async fn behind<R: Runtime>(runtime: &R, url: &str, application_name: String) -> Result<Server, Error> {
        let config = Config::builder().database_url(url).pg_environment(Environment::process());
        let connect = config.clone().build()?.into_parts().1;
        let host = connect.hosts()[0].clone();
        let Host::Tcp { host: name, port } = &host else {
            return Err(Error::NotTcp(host.to_string()));
        };
        let resolved = runtime.resolve(name, *port).await;
        let address: SocketAddr = match resolved {
            Ok(addresses) if !addresses.is_empty() => addresses[0],
            Ok(_) => return Err(Error::Resolve(name.clone(), "it has no address".to_owned())),
            Err(error) => return Err(Error::Resolve(name.clone(), error.to_string())),
        };
        let password = connect.password_for(0).map(|password| password.expose().to_owned());
        let observer = ClientConfig {
            endpoint: Endpoint::Tcp(address),
            user: connect.user().to_owned(),
            password: password.clone().unwrap_or_default(),
            database: connect.dbname().to_owned(),
            application_name: "pgweir-demo-observer".to_owned(),
            timeout: Duration::from_secs(10),
        };
        let proxy = Proxy::start(address)?;
        let mut config = config.host("127.0.0.1", proxy.port());
        if let Some(password) = password {
            // A password file knows it by the server's own name.
            config = config.password(password);
        }
        Ok(Server { kind: Kind::Behind(proxy, host), config, observer, application_name })
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match &self.kind {
            Kind::Local(local) => format!("a throw-away server on port {}, started for this", local.port()),
            Kind::Behind(_, host) => format!("DATABASE_URL at {host}, through a proxy"),
            Kind::Simulated(server) => format!(
                "SIMULATED: no real database, but a server of pgweir-sim that speaks its protocol, on port {}",
                server.address().port()
            ),
        }
    }

    /// How it crashes, for people.
    pub(crate) fn crash_text(&self) -> &'static str {
        match &self.kind {
            Kind::Local(_) => "kill -9 to the server and its backends",
            Kind::Behind(..) => "the proxy resets every connection and refuses new ones",
            Kind::Simulated(_) => "the simulated server drops every connection and refuses new ones",
        }
    }

    /// A pool's configuration, so far as it is about the server.
    pub(crate) fn config(&self) -> ConfigBuilder {
        self.config.clone().application_name(&self.application_name)
    }

    /// Crashes; returns when it is dead. Blocks.
    pub(crate) fn crash(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Local(local) => local.crash()?,
            Kind::Behind(proxy, _) => {
                proxy.refuse();
                proxy.reset_all();
            }
            Kind::Simulated(server) => server.with(|postgres, now| postgres.power_off(now)),
        }
        Ok(())
    }

    /// Begins to start again.
    pub(crate) fn begin_start(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Local(local) => local.begin_start()?,
            Kind::Behind(proxy, _) => proxy.listen()?,
            Kind::Simulated(server) => server.with(|postgres, now| postgres.start(now, STARTING)),
        }
        Ok(())
    }

    /// Waits until it accepts connections. Blocks.
    pub(crate) fn wait_ready(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Local(local) => local.wait_ready()?,
            Kind::Behind(..) => {}
            Kind::Simulated(server) => {
                let up = || server.with(|postgres, _| postgres.state() == ServerState::Up);
                if !crate::poll_until(LIMIT, || up() && Client::connect(&self.observer).is_ok()) {
                    return Err(Error::Late { what: "the start of the simulated server", limit: LIMIT });
                }
            }
        }
        Ok(())
    }

    /// A look from the outside, past pool and proxy. Blocks.
    pub(crate) fn query(&self, sql: &str) -> Result<Vec<Row>, Error> {
        Ok(Client::connect(&self.observer)?.query(sql)?)
    }

    /// The process ids of the pool's backends. Blocks.
    pub(crate) fn backends(&self) -> Result<Vec<String>, Error> {
        let name = &self.application_name;
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' ORDER BY pid");
        Ok(self.query(&sql)?.iter().map(|row| row.text(0).to_owned()).collect())
    }
}
