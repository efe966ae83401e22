//! The two drivers, as far as the bodies need to know them.

use std::future::Future;
use std::time::Duration;

use pgweir_core::config::{Config, ConfigBuilder};
use pgweir_core::manager::Manager;
use pgweir_tokio::tokio_postgres::builder;
use pgweir_tokio::{Lease, Pool, PoolBuilder};
use tokio_postgres::NoTls;

/// A driver under test.
pub(crate) trait Driver: 'static {
    type Manager: Manager;

    /// The connections of `config` over this driver.
    fn builder(config: Config) -> PoolBuilder<Self::Manager>;

    /// Runs statements.
    fn run(
        connection: &mut <Self::Manager as Manager>::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// The first column of the first row, by the extended protocol.
    fn number(
        connection: &mut <Self::Manager as Manager>::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<i32, String>> + Send;
}

/// pgweir's own client.
pub(crate) struct Own;

impl Driver for Own {
    type Manager = pgweir_tokio::Postgres;

    fn builder(config: Config) -> PoolBuilder<Self::Manager> {
        Pool::builder(config)
    }

    async fn run(client: &mut pgweir_tokio::Client, sql: &str) -> Result<(), String> {
        client.batch_execute(sql).await.map_err(|error| error.to_string())
    }

    async fn number(client: &mut pgweir_tokio::Client, sql: &str) -> Result<i32, String> {
        let row = client.query_one(sql, &[]).await.map_err(|error| error.to_string())?;
        Ok(row.get(0))
    }
}

/// tokio-postgres.
pub(crate) struct TokioPostgres;

impl Driver for TokioPostgres {
    type Manager = pgweir_tokio::tokio_postgres::Manager;

    fn builder(config: Config) -> PoolBuilder<Self::Manager> {
        let (pool, connect) = config.into_parts();
        builder(manager(&connect), pool)
    }

    async fn run(client: &mut pgweir_tokio::tokio_postgres::ClientWrapper, sql: &str) -> Result<(), String> {
        client.batch_execute(sql).await.map_err(|error| format!("{error:?}"))
    }

    async fn number(client: &mut pgweir_tokio::tokio_postgres::ClientWrapper, sql: &str) -> Result<i32, String> {
        let row = client.query_one(sql, &[]).await.map_err(|error| format!("{error:?}"))?;
        Ok(row.get(0))
    }
}

/// The same connections by tokio-postgres.
pub(crate) fn manager(connect: &pgweir_core::config::ConnectConfig) -> pgweir_tokio::tokio_postgres::Manager {
    let mut config = tokio_postgres::Config::new();
    for host in connect.hosts() {
        match host {
            pgweir_core::config::Host::Tcp { host, port } => config.host(host).port(*port),
            pgweir_core::config::Host::Unix { directory, port } => config.host_path(directory).port(*port),
        };
    }
    config.user(connect.user()).dbname(connect.dbname());
    if let Some(password) = connect.password_for(0) {
        config.password(password.expose());
    }
    if let Some((_, name)) = connect.parameters().iter().find(|(name, _)| name == "application_name") {
        config.application_name(name);
    }
    let session = connect.session();
    pgweir_tokio::tokio_postgres::Manager::new(config, NoTls)
        .with_reset_policy(session.reset_policy().clone())
        .with_statement_cache_size(session.statement_cache_size())
}

/// A pool as configured.
pub(crate) async fn open<D: Driver>(config: ConfigBuilder) -> Pool<D::Manager> {
    D::builder(config.build().expect("a valid configuration")).open().await.expect("the pool opens")
}

/// The session's process id, by asking it.
pub(crate) async fn pid<D: Driver>(lease: &mut Lease<D::Manager>) -> i32 {
    D::number(lease, "SELECT pg_backend_pid()").await.expect("an answer")
}

/// Begins to run `sql` and drops it half-way.
pub(crate) async fn begin<D: Driver>(lease: &mut Lease<D::Manager>, sql: &str) {
    let ended = tokio::time::timeout(Duration::from_millis(50), D::run(lease, sql)).await;
    assert!(ended.is_err(), "{sql} is over: {ended:?}");
}
