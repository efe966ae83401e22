//! Several queries in one go.

use std::collections::VecDeque;
use std::sync::Arc;

use super::connection::{Active, Client};
use super::error::Error;
use super::row::Row;
use super::statement::{Text, ToStatement};
use crate::pg::{self, Column, Event, Fetch, Params, Request, RequestId, SubmitError};
use crate::runtime::Runtime;

/// What one query of a pipeline gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its rows.
    pub rows: Vec<Row>,
    /// How many rows it returned or changed; 0 where the command has no such number.
    pub affected: u64,
}

impl<R: Runtime> Client<R> {
    /// Sends several queries without waiting for the answers in between: one round trip instead of many. The results
    /// come in the order of the queries. Each query is a transaction of its own (unless one is open), and one that
    /// fails does not stop the others. All are prepared before the first is run. Without a statement cache
    /// (statement_cache_size 0, as PgBouncer's transaction mode needs it) they are sent one after another.
    ///
    /// ```
    /// # use pgweir_core::{client::{Client, Error}, runtime::Runtime};
    /// # async fn example<R: Runtime>(client: &mut Client<R>) -> Result<(), Error> {
    /// let results = client.pipeline(&[(&"INSERT INTO a VALUES ($1)", &[&1]), (&"SELECT now()", &[])]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What ended the connection or the time for it. What the server says about a single query is in its place in the
    /// result.
    pub async fn pipeline(
        &mut self,
        queries: &[(&dyn ToStatement, Params<'_>)],
    ) -> Result<Vec<Result<Outcome, Error>>, Error> {
        if !self.caches_statements {
            return self.one_by_one(queries).await;
        }
        let mut statements = Vec::with_capacity(queries.len());
        for (source, _) in queries {
            statements.push(match self.statement(source.text()).await {
                Err(error) if error.is_closed() || matches!(error, Error::Timeout { .. }) => return Err(error),
                result => result,
            });
        }
        let mut batch = Batch { client: self, sent: VecDeque::with_capacity(queries.len()) };
        let mut results = Vec::with_capacity(queries.len());
        for (statement, (_, params)) in statements.into_iter().zip(queries) {
            let submitted = match statement {
                Ok(statement) => batch.submit(&statement, params, &mut results).await?,
                Err(error) => Err(error),
            };
            batch.sent.push_back(submitted);
        }
        while !batch.sent.is_empty() {
            results.push(batch.receive().await?);
        }
        Ok(results)
    }

    async fn one_by_one(
        &mut self,
        queries: &[(&dyn ToStatement, Params<'_>)],
    ) -> Result<Vec<Result<Outcome, Error>>, Error> {
        let mut results = Vec::with_capacity(queries.len());
        for (source, params) in queries {
            let mut rows = Vec::new();
            let result = self.run(source.text(), params, |row| rows.push(row)).await;
            results.push(match result {
                Err(error) if error.is_closed() || matches!(error, Error::Timeout { .. }) => return Err(error),
                result => result.map(|affected| Outcome { rows, affected }),
            });
        }
        Ok(results)
    }

    async fn statement(&mut self, text: Text<'_>) -> Result<Arc<pg::Statement>, Error> {
        if let Some(prepared) = text.prepared.filter(|prepared| self.channel.machine().owns(prepared)) {
            return Ok(Arc::clone(prepared));
        }
        match self.channel.machine_mut().cached(text.sql, text.types) {
            Some(prepared) => Ok(prepared),
            None => self.prepare_now(text.sql, text.types).await,
        }
    }
}

/// Queries that were sent and whose answers are still to be read, oldest first. Dropped, they are abandoned.
struct Batch<'a, R: Runtime> {
    client: &'a mut Client<R>,
    sent: VecDeque<Result<Sent, Error>>,
}

struct Sent {
    id: RequestId,
    columns: Arc<[Column]>,
}

impl<R: Runtime> Batch<'_, R> {
    /// Sends one query. When the connection takes no more, answers are read first.
    async fn submit(
        &mut self,
        statement: &Arc<pg::Statement>,
        params: Params<'_>,
        results: &mut Vec<Result<Outcome, Error>>,
    ) -> Result<Result<Sent, Error>, Error> {
        loop {
            match self.client.submit(Request::Query { statement, params, fetch: Fetch::All }) {
                Ok(id) => return Ok(Ok(Sent { id, columns: Arc::clone(statement.columns()) })),
                Err(SubmitError::QueueFull) if !self.sent.is_empty() => results.push(self.receive().await?),
                Err(error @ SubmitError::NotReady { .. }) => return Err(error.into()),
                Err(error) => return Ok(Err(error.into())),
            }
        }
    }

    /// The oldest query's result.
    async fn receive(&mut self) -> Result<Result<Outcome, Error>, Error> {
        let sent = match self.sent.pop_front().expect("asked for no more results than queries") {
            Ok(sent) => sent,
            Err(error) => return Ok(Err(error)),
        };
        self.client.start_clock(self.client.channel.runtime().now());
        let mut active = Active::new(self.client, sent.id);
        let mut outcome = Outcome { rows: Vec::new(), affected: 0 };
        loop {
            match active.next().await {
                Ok(Event::Row { row, .. }) => outcome.rows.push(Row::new(Arc::clone(&sent.columns), &row)?),
                Ok(Event::Complete { rows, .. }) => outcome.affected = rows.unwrap_or(0),
                Ok(Event::Done { .. }) => return Ok(Ok(outcome)),
                Ok(_) => {}
                // The request is over and the connection goes on.
                Err(error) if !active.is_open() => return Ok(Err(error)),
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Runtime> Drop for Batch<'_, R> {
    fn drop(&mut self) {
        for sent in self.sent.iter().flatten() {
            self.client.channel.machine_mut().abandon(sent.id);
        }
    }
}
