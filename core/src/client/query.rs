//! Prepared queries.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use postgres_types::Type;

use super::connection::{Active, Client};
use super::error::Error;
use super::row::Row;
use super::statement::{Statement, Text, ToStatement};
use crate::pg::{self, Column, Event, Fetch, Params, Request, SubmitError, TransactionStatus};
use crate::runtime::Runtime;

/// Rows that [`Client::query_raw`] lets the server send before it waits.
const FETCH_SIZE: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");

impl<R: Runtime> Client<R> {
    /// Runs a statement and collects its rows.
    ///
    /// # Errors
    /// What the server, a parameter's conversion or the connection says.
    pub async fn query<T>(&mut self, statement: &T, params: Params<'_>) -> Result<Vec<Row>, Error>
    where
        T: ToStatement + ?Sized,
    {
        let mut rows = Vec::new();
        self.run(statement.text(), params, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    /// As [`Client::query`], and [`Error::RowCount`] for any other number of rows.
    pub async fn query_one<T>(&mut self, statement: &T, params: Params<'_>) -> Result<Row, Error>
    where
        T: ToStatement + ?Sized,
    {
        let (row, rows) = self.first_row(statement.text(), params).await?;
        match row {
            Some(row) if rows == 1 => Ok(row),
            _ => Err(Error::RowCount { expected: "exactly one row", rows }),
        }
    }

    /// Runs a statement that returns one row or none.
    ///
    /// # Errors
    /// As [`Client::query`], and [`Error::RowCount`] for more rows.
    pub async fn query_opt<T>(&mut self, statement: &T, params: Params<'_>) -> Result<Option<Row>, Error>
    where
        T: ToStatement + ?Sized,
    {
        match self.first_row(statement.text(), params).await? {
            (row, 0 | 1) => Ok(row),
            (_, rows) => Err(Error::RowCount { expected: "at most one row", rows }),
        }
    }

    /// Runs a statement and says how many rows it changed (or returned; 0 where the command has no such number). Rows
    /// are dropped.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn execute<T>(&mut self, statement: &T, params: Params<'_>) -> Result<u64, Error>
    where
        T: ToStatement + ?Sized,
    {
        self.run(statement.text(), params, drop).await
    }

    /// Runs a statement and streams its rows, 1,000 from the server at a time: see [`Client::query_stream`].
    ///
    /// # Errors
    /// As [`Client::query`]; what goes wrong while the statement runs comes from the stream.
    pub async fn query_raw<T>(&mut self, statement: &T, params: Params<'_>) -> Result<RowStream<'_, R>, Error>
    where
        T: ToStatement + ?Sized,
    {
        self.query_stream(statement, params, FETCH_SIZE).await
    }

    /// Runs a statement and streams its rows. The server sends `fetch` rows and waits until they are taken, so memory
    /// stays bounded here, and an early end spares the rest there. The stream can be dropped half-way.
    ///
    /// # Errors
    /// As [`Client::query`]; what goes wrong while the statement runs comes from the stream.
    pub async fn query_stream<T>(
        &mut self,
        statement: &T,
        params: Params<'_>,
        fetch: NonZeroU32,
    ) -> Result<RowStream<'_, R>, Error>
    where
        T: ToStatement + ?Sized,
    {
        let fetch = Fetch::Rows(fetch);
        let (active, columns) = self.start(statement.text(), params, fetch).await?;
        Ok(RowStream { active, columns, fetch, rows: 0, earlier: 0, affected: None })
    }

    /// Prepares a statement and keeps it while the result or the connection's cache holds it. Without a cache
    /// (statement_cache_size 0) it is described only, and prepared without a name each time that it is used.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        self.prepare_typed(sql, &[]).await
    }

    /// Prepares a statement with the types of its first parameters given; the server infers the others.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn prepare_typed(&mut self, sql: &str, types: &[Type]) -> Result<Statement, Error> {
        let prepared = match self.channel.machine_mut().cached(sql, types) {
            Some(prepared) => prepared,
            None if self.caches_statements => self.prepare_now(sql, types).await?,
            None => self.describe(Text { sql, types, prepared: None }).await?.1,
        };
        Ok(Statement { prepared, types: types.into() })
    }

    async fn first_row(&mut self, text: Text<'_>, params: Params<'_>) -> Result<(Option<Row>, u64), Error> {
        let mut first = None;
        let mut rows = 0;
        self.run(text, params, |row| {
            rows += 1;
            first.get_or_insert(row);
        })
        .await?;
        Ok((first, rows))
    }

    /// Runs a statement to its end; again if the server said that it has dropped the statement, which it does before
    /// it does anything else. A held statement may be stale, then the cached one of the same text; a third one is new.
    pub(super) async fn run(
        &mut self,
        mut text: Text<'_>,
        params: Params<'_>,
        mut row: impl FnMut(Row),
    ) -> Result<u64, Error> {
        for _ in 0..2 {
            match self.run_once(text, params, &mut row).await {
                Err(error) if error.is_stale_statement() && self.transaction_status() == TransactionStatus::Idle => {
                    text.prepared = None;
                }
                result => return result,
            }
        }
        self.run_once(text, params, &mut row).await
    }

    async fn run_once(&mut self, text: Text<'_>, params: Params<'_>, row: &mut impl FnMut(Row)) -> Result<u64, Error> {
        let (mut active, columns) = self.start(text, params, Fetch::All).await?;
        let mut affected = 0;
        loop {
            match active.next().await? {
                Event::Row { row: body, .. } => row(Row::new(Arc::clone(&columns), &body)?),
                Event::Complete { rows, .. } => affected = rows.unwrap_or(0),
                Event::Done { .. } => return Ok(affected),
                _ => {}
            }
        }
    }

    /// Submits a statement, prepared first if need be, and says which columns its rows have.
    pub(super) async fn start(
        &mut self,
        text: Text<'_>,
        params: Params<'_>,
        fetch: Fetch,
    ) -> Result<(Active<'_, R>, Arc<[Column]>), Error> {
        if let Some(statement) = text.prepared {
            match self.submit(Request::Query { statement, params, fetch }) {
                Ok(id) => return Ok((Active::new(self, id), Arc::clone(statement.columns()))),
                // Prepared on another connection, or dropped by the server since: its text will do.
                Err(SubmitError::Foreign) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !self.caches_statements {
            return Box::pin(self.start_unprepared(text, params, fetch)).await;
        }
        let statement = match self.channel.machine_mut().cached(text.sql, text.types) {
            Some(statement) => statement,
            None => Box::pin(self.prepare_now(text.sql, text.types)).await?,
        };
        let id = self.submit(Request::Query { statement: &statement, params, fetch })?;
        Ok((Active::new(self, id), Arc::clone(statement.columns())))
    }

    /// In one round of messages and without a name, as a transaction pooler between us and the server needs it.
    async fn start_unprepared(
        &mut self,
        text: Text<'_>,
        params: Params<'_>,
        fetch: Fetch,
    ) -> Result<(Active<'_, R>, Arc<[Column]>), Error> {
        let (mut active, statement) = self.describe(text).await?;
        active.bind(params, fetch)?;
        Ok((active, Arc::clone(statement.columns())))
    }

    /// The first half of such a round. Types that are not known end it and are looked up by one of their own.
    ///
    /// Nothing else is on its way when a round begins: its first half does not end with a Sync, so PgBouncer would take
    /// the ReadyForQuery of an earlier request for the last one and give the server's connection to somebody else.
    async fn describe(&mut self, text: Text<'_>) -> Result<(Active<'_, R>, Arc<pg::Statement>), Error> {
        loop {
            self.quiesce().await?;
            let mut active = self.begin(Request::Unprepared { sql: text.sql, types: text.types })?;
            let statement = prepared_by(&mut active).await?;
            let unknown = statement.unknown_types();
            if unknown.is_empty() {
                let id = active.detach();
                return Ok((Active::new(self, id), statement));
            }
            drop(active);
            self.quiesce().await?;
            self.learn_types(&unknown).await?;
        }
    }

    /// Prepares a statement under a name, with every type known.
    pub(super) async fn prepare_now(&mut self, sql: &str, types: &[Type]) -> Result<Arc<pg::Statement>, Error> {
        let mut active = self.begin(Request::Prepare { sql, types })?;
        let statement = prepared_by(&mut active).await?;
        active.finish().await?;
        drop(active);
        let unknown = statement.unknown_types();
        if unknown.is_empty() {
            return Ok(statement);
        }
        self.learn_types(&unknown).await?;
        Ok(self.channel.machine_mut().resolve(&statement))
    }
}

async fn prepared_by<R: Runtime>(active: &mut Active<'_, R>) -> Result<Arc<pg::Statement>, Error> {
    loop {
        match active.next().await? {
            Event::Prepared { statement, .. } => return Ok(statement),
            Event::Done { .. } => return Err(Error::protocol("a statement was not described")),
            _ => {}
        }
    }
}

/// The rows of a running query.
///
/// Dropping it is safe at any time: the rest of the result is not asked for.
pub struct RowStream<'a, R: Runtime> {
    active: Active<'a, R>,
    columns: Arc<[Column]>,
    fetch: Fetch,
    /// How many came so far.
    rows: u64,
    /// How many of them in the batches before this one.
    earlier: u64,
    affected: Option<u64>,
}

impl<R: Runtime> RowStream<'_, R> {
    /// The next row, `None` after the last. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What the server or the connection says; then the stream is over. command_timeout counts anew for every batch.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`RowStream::next`], to build other streams from.
    ///
    /// # Errors
    /// As [`RowStream::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Row>, Error>> {
        while self.active.is_open() {
            match ready!(self.active.poll_next(cx))? {
                Event::Row { row, .. } => {
                    self.rows += 1;
                    return Poll::Ready(Row::new(Arc::clone(&self.columns), &row).map(Some));
                }
                Event::Suspended { .. } => {
                    self.earlier = self.rows;
                    self.active.fetch(self.fetch)?;
                }
                // The server counts the last batch only.
                Event::Complete { rows, .. } => self.affected = rows.map(|last| self.earlier + last),
                _ => {}
            }
        }
        Poll::Ready(Ok(None))
    }

    /// The columns of the rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// After the last row: how many rows the statement returned or changed, where it has such a number.
    pub fn rows_affected(&self) -> Option<u64> {
        self.affected
    }
}
