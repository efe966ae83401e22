//! Requests as bytes, and the answers that each will get.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend::{self, BindError};
use postgres_types::{IsNull, Oid, ToSql, Type};

use super::error::SubmitError;
use super::exchange::{Draft, Kind, Round, Step, Steps};
use super::request::{Fetch, Params, Portal, Request, TypedParams};
use super::statements::{Owner, Statement, Statements};

/// How many statements are closed along with one request.
const CLOSES: usize = 16;
const BINARY: i16 = 1;

/// A request that has been written to the scratch buffer.
pub(super) struct Encoded {
    pub(super) kind: Kind,
    pub(super) steps: Steps,
    pub(super) round: Round,
    pub(super) statement: Option<Arc<Statement>>,
    pub(super) width: Option<usize>,
    /// How many of the statements to be closed travel along.
    pub(super) closes: usize,
}

/// Writes `request`, whole, into the empty `out`. On an error what `out` holds is of no use, and nothing else has
/// changed; user code (`ToSql`) sees no other buffer than this.
pub(super) fn encode(
    request: &Request<'_>,
    statements: &mut Statements,
    owner: &Owner,
    out: &mut BytesMut,
) -> Result<Encoded, SubmitError> {
    if let Request::Simple { sql } = request {
        frontend::query(sql, out).map_err(SubmitError::Unsendable)?;
        return Ok(Encoded {
            kind: Kind::Simple,
            steps: Steps::of(0, &[Step::Simple]),
            round: Round::Synced,
            statement: None,
            width: None,
            closes: 0,
        });
    }
    let mut closes = 0;
    for name in statements.due_for_close(CLOSES) {
        frontend::close(b'S', name, out).map_err(SubmitError::Unsendable)?;
        closes += 1;
    }
    extended(request, statements, owner, closes, out)
}

fn extended(
    request: &Request<'_>,
    statements: &mut Statements,
    owner: &Owner,
    closes: usize,
    out: &mut BytesMut,
) -> Result<Encoded, SubmitError> {
    let mut encoded = Encoded {
        kind: Kind::Query,
        steps: Steps::default(),
        round: Round::Synced,
        statement: None,
        width: None,
        closes,
    };
    let steps: &[Step] = match *request {
        Request::Simple { .. } => &[],
        Request::Prepare { sql, types } => {
            encoded.kind = Kind::Prepare(describe(statements.fresh_name(), sql, types, out)?);
            &[Step::Parse, Step::Parameters, Step::Statement]
        }
        Request::Unprepared { sql, types } => {
            encoded.kind = Kind::Prepare(describe("".into(), sql, types, out)?);
            encoded.round = Round::Open;
            &[Step::Parse, Step::Parameters, Step::Statement]
        }
        Request::Query { statement, params, fetch } => {
            own(statement, owner)?;
            bind("", statement, params, out)?;
            encoded.round = execute("", fetch, out)?;
            encoded.statement = Some(statement.clone());
            encoded.width = Some(statement.columns.len());
            &[Step::Bind, Step::Execute]
        }
        Request::QueryTyped { sql, params, fetch } => {
            typed(sql, params, out)?;
            encoded.round = execute("", fetch, out)?;
            &[Step::Parse, Step::Bind, Step::Portal, Step::Execute]
        }
        Request::OpenPortal { statement, params } => {
            own(statement, owner)?;
            let portal = Portal { name: statements.fresh_name(), statement: statement.clone(), owner: owner.clone() };
            bind(&portal.name, statement, params, out)?;
            encoded.kind = Kind::OpenPortal(portal);
            encoded.statement = Some(statement.clone());
            &[Step::Bind]
        }
        Request::FetchPortal { portal, fetch } => {
            same(&portal.owner, owner)?;
            // The portal outlives this round, which can therefore end at once.
            execute(&portal.name, fetch, out)?;
            encoded.width = Some(portal.statement.columns.len());
            &[Step::Execute]
        }
        Request::ClosePortal { portal } => {
            same(&portal.owner, owner)?;
            frontend::close(b'P', &portal.name, out).map_err(SubmitError::Unsendable)?;
            encoded.kind = Kind::Close;
            &[Step::Close]
        }
        Request::CloseStatement { statement } => {
            own(statement, owner)?;
            frontend::close(b'S', &statement.name, out).map_err(SubmitError::Unsendable)?;
            encoded.kind = Kind::Close;
            encoded.statement = Some(statement.clone());
            &[Step::Close]
        }
    };
    encoded.steps = Steps::of(closes, steps);
    match encoded.round {
        Round::Synced => frontend::sync(out),
        _ => frontend::flush(out),
    }
    Ok(encoded)
}

/// Second half of an unprepared statement.
pub(super) fn bind_and_execute(
    statement: &Statement,
    params: Params<'_>,
    fetch: Fetch,
    out: &mut BytesMut,
) -> Result<Round, SubmitError> {
    bind("", statement, params, out)?;
    let round = execute("", fetch, out)?;
    match round {
        Round::Synced => frontend::sync(out),
        _ => frontend::flush(out),
    }
    Ok(round)
}

/// Asks a suspended portal without a name for more.
pub(super) fn execute_more(fetch: Fetch, out: &mut BytesMut) -> Result<Round, SubmitError> {
    let round = execute("", fetch, out)?;
    match round {
        Round::Synced => frontend::sync(out),
        _ => frontend::flush(out),
    }
    Ok(round)
}

/// Parse, Describe.
fn describe(name: Arc<str>, sql: &str, types: &[Type], out: &mut BytesMut) -> Result<Box<Draft>, SubmitError> {
    let declared: Box<[Oid]> = types.iter().map(Type::oid).collect();
    frontend::parse(&name, sql, declared.iter().copied(), out).map_err(SubmitError::Unsendable)?;
    frontend::describe(b'S', &name, out).map_err(SubmitError::Unsendable)?;
    Ok(Box::new(Draft { name, sql: sql.into(), declared, params: Box::default() }))
}

/// Parse, Bind, Describe of the portal: all of a typed query but its Execute.
fn typed(sql: &str, params: TypedParams<'_>, out: &mut BytesMut) -> Result<(), SubmitError> {
    frontend::parse("", sql, params.iter().map(|(_, type_)| type_.oid()), out).map_err(SubmitError::Unsendable)?;
    write_bind("", "", params.iter().map(|(value, type_)| (*value, type_)), out)?;
    frontend::describe(b'P', "", out).map_err(SubmitError::Unsendable)
}

fn bind(portal: &str, statement: &Statement, params: Params<'_>, out: &mut BytesMut) -> Result<(), SubmitError> {
    if params.len() != statement.params.len() {
        return Err(SubmitError::ParameterCount { expected: statement.params.len(), given: params.len() });
    }
    write_bind(portal, &statement.name, params.iter().copied().zip(&statement.params), out)
}

fn write_bind<'a>(
    portal: &str,
    statement: &str,
    params: impl Iterator<Item = (&'a (dyn ToSql + Sync), &'a Type)> + Clone,
    out: &mut BytesMut,
) -> Result<(), SubmitError> {
    let formats = params.clone().map(|(value, type_)| value.encode_format(type_) as i16);
    let mut index = 0;
    let written = frontend::bind(
        portal,
        statement,
        formats,
        params,
        |(value, type_), out| {
            let null = value.to_sql_checked(type_, out)?;
            index += 1;
            Ok(match null {
                IsNull::Yes => postgres_protocol::IsNull::Yes,
                IsNull::No => postgres_protocol::IsNull::No,
            })
        },
        [BINARY],
        out,
    );
    written.map_err(|error| match error {
        BindError::Conversion(source) => SubmitError::Encode { index, source },
        BindError::Serialization(error) => SubmitError::Unsendable(error),
    })
}

fn execute(portal: &str, fetch: Fetch, out: &mut BytesMut) -> Result<Round, SubmitError> {
    let (max_rows, round) = match fetch {
        Fetch::All => (0, Round::Synced),
        Fetch::Rows(rows) => (i32::try_from(rows.get()).unwrap_or(i32::MAX), Round::Open),
    };
    frontend::execute(portal, max_rows, out).map_err(SubmitError::Unsendable)?;
    Ok(round)
}

/// The unnamed statement does not last: whoever parses next replaces it. A statement that the server is known to have
/// dropped would only fail, and in a transaction take that with it.
fn own(statement: &Statement, owner: &Owner) -> Result<(), SubmitError> {
    if statement.name.is_empty() || statement.is_gone() {
        return Err(SubmitError::Foreign);
    }
    same(&statement.owner, owner)
}

fn same(theirs: &Owner, owner: &Owner) -> Result<(), SubmitError> {
    if theirs == owner { Ok(()) } else { Err(SubmitError::Foreign) }
}
