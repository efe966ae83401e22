//! The simple protocol: several statements in one text, every value as text.

use std::sync::Arc;

use super::connection::Client;
use super::error::Error;
use super::row::SimpleRow;
use crate::pg::{Column, Event, Request};
use crate::runtime::Runtime;

/// One piece of a simple query's answer, in the order of the statements.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SimpleQueryMessage {
    /// A result with these columns begins.
    RowDescription(Arc<[Column]>),
    /// A row of it.
    Row(SimpleRow),
    /// A statement is complete; it returned or changed so many rows.
    CommandComplete(u64),
}

impl<R: Runtime> Client<R> {
    /// Runs one or more statements, separated by semicolons, without parameters. Without BEGIN in it, all of them
    /// together are one transaction. Never put values into the text that come from elsewhere.
    ///
    /// # Errors
    /// What the server or the connection says; statements after a failed one are not run.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        let mut messages = Vec::new();
        let mut described: Arc<[Column]> = Arc::default();
        let mut active = self.begin(Request::Simple { sql })?;
        loop {
            messages.push(match active.next().await? {
                Event::Columns { columns, .. } => {
                    described = Arc::clone(&columns);
                    SimpleQueryMessage::RowDescription(columns)
                }
                Event::Row { row, .. } => SimpleQueryMessage::Row(SimpleRow::new(Arc::clone(&described), &row)?),
                Event::Complete { rows, .. } => SimpleQueryMessage::CommandComplete(rows.unwrap_or(0)),
                Event::Done { .. } => return Ok(messages),
                _ => continue,
            });
        }
    }

    /// As [`Client::simple_query`], for what returns nothing of interest.
    ///
    /// # Errors
    /// As [`Client::simple_query`].
    pub async fn batch_execute(&mut self, sql: &str) -> Result<(), Error> {
        self.begin(Request::Simple { sql })?.finish().await
    }

    /// Runs a command and gives its tag, such as `COMMIT`.
    pub(super) async fn command(&mut self, sql: &str) -> Result<bytes::Bytes, Error> {
        let mut last = bytes::Bytes::new();
        let mut active = self.begin(Request::Simple { sql })?;
        loop {
            match active.next().await? {
                Event::Complete { tag, .. } => last = tag,
                Event::Done { .. } => return Ok(last),
                _ => {}
            }
        }
    }
}
