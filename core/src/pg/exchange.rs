//! One request on its way: which answers are still to come, and what they make of it.

use std::sync::Arc;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, ParameterDescriptionBody, RowDescriptionBody};
use postgres_types::{Oid, Type};

use super::request::{Portal, RequestId};
use super::statements::{Column, Statement, Types};

/// The answers of an extended query, in the order in which they come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// CloseComplete.
    Close,
    /// ParseComplete.
    Parse,
    /// ParameterDescription.
    Parameters,
    /// RowDescription or NoData, of a statement.
    Statement,
    /// BindComplete.
    Bind,
    /// RowDescription or NoData, of a portal.
    Portal,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// What the simple protocol sends, any number of results.
    Simple,
}

/// The order of all steps but [`Step::Close`], of which there may be several.
const ORDER: [Step; 7] =
    [Step::Parse, Step::Parameters, Step::Statement, Step::Bind, Step::Portal, Step::Execute, Step::Simple];

/// Which steps are outstanding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Steps {
    closes: u32,
    /// One bit for each of [`ORDER`].
    others: u8,
}

impl Steps {
    pub(super) fn of(closes: usize, steps: &[Step]) -> Self {
        let mut all = Steps { closes: u32::try_from(closes).expect("few closes"), others: 0 };
        steps.iter().for_each(|&step| all.add(step));
        all
    }

    pub(super) fn add(&mut self, step: Step) {
        match ORDER.iter().position(|&other| other == step) {
            Some(bit) => self.others |= 1 << bit,
            None => self.closes += 1,
        }
    }

    /// The one that is to be answered next; `None` is ReadyForQuery.
    pub(super) fn current(self) -> Option<Step> {
        if self.closes > 0 {
            return Some(Step::Close);
        }
        ORDER.get(self.others.trailing_zeros() as usize).copied()
    }

    /// The current one was answered.
    pub(super) fn advance(&mut self) {
        if self.closes > 0 {
            self.closes -= 1;
        } else {
            self.others &= self.others.wrapping_sub(1);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Steps::default();
    }
}

/// What a request is, as far as its answers depend on it.
pub(super) enum Kind {
    /// The simple protocol.
    Simple,
    /// Prepare and Unprepared.
    Prepare(Box<Draft>),
    /// Everything that executes.
    Query,
    /// OpenPortal.
    OpenPortal(Portal),
    /// CloseStatement and ClosePortal.
    Close,
}

impl Kind {
    /// Whether it runs something, and so counts as a query. Preparing a named statement and closing do not.
    pub(super) fn runs(&self) -> bool {
        match self {
            Kind::Simple | Kind::Query | Kind::OpenPortal(_) => true,
            Kind::Prepare(draft) => draft.name.is_empty(),
            Kind::Close => false,
        }
    }
}

/// A statement that is being described.
pub(super) struct Draft {
    pub(super) name: Arc<str>,
    pub(super) sql: Arc<str>,
    pub(super) declared: Box<[Oid]>,
    pub(super) params: Box<[Type]>,
}

/// Whether the request's last message, the Sync, is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Round {
    /// It is: the server will say ReadyForQuery.
    Synced,
    /// It is not: the server works or has answered, and more may come from us.
    Open,
    /// It is not, and the parameters are awaited.
    AwaitsBind,
    /// It is not, and a wish for more rows is awaited.
    Suspended,
}

/// One request, from its submission to its ReadyForQuery.
pub(super) struct Exchange {
    pub(super) id: RequestId,
    pub(super) kind: Kind,
    pub(super) steps: Steps,
    pub(super) round: Round,
    /// Where its bytes begin and end in the outgoing stream.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Nobody wants its events.
    pub(super) abandoned: bool,
    /// One of ours: a rollback or a barrier.
    pub(super) internal: bool,
    /// It has failed: nothing but ReadyForQuery is reported any more.
    pub(super) failed: bool,
    /// What it runs, if that is a prepared statement.
    pub(super) statement: Option<Arc<Statement>>,
    /// Statements that are closed along with it.
    pub(super) closes: Vec<Arc<str>>,
    /// The number of columns while rows may come.
    pub(super) width: Option<usize>,
    /// COPY data comes and is thrown away.
    pub(super) copying_out: bool,
}

impl Exchange {
    /// Whether its events are reported.
    pub(super) fn speaks(&self) -> bool {
        !self.abandoned && !self.failed
    }

    /// Whether the server waits for us to go on with it.
    pub(super) fn is_our_turn(&self) -> bool {
        matches!(self.round, Round::AwaitsBind | Round::Suspended)
    }
}

/// What is known of parameter types after ParameterDescription.
pub(super) fn read_parameters(body: &ParameterDescriptionBody, types: &Types) -> std::io::Result<Box<[Type]>> {
    Ok(gather(body.parameters().map(|oid| Ok(types.get(oid))))?.into())
}

/// The columns of a RowDescription. That of a statement cannot know the format of the rows to come; we always ask for
/// binary.
pub(super) fn read_columns(
    body: &RowDescriptionBody,
    step: Option<Step>,
    types: &Types,
) -> std::io::Result<Arc<[Column]>> {
    let columns = body.fields().map(|field| {
        Ok(Column {
            name: field.name().into(),
            type_: types.get(field.type_oid()),
            type_modifier: field.type_modifier(),
            table_oid: field.table_oid(),
            column_id: field.column_id(),
            binary: field.format() == 1 || step == Some(Step::Statement),
        })
    });
    Ok(gather(columns)?.into())
}

/// All of them. `collect` would reserve what the server declares, megabytes for a message of a dozen bytes.
fn gather<T>(mut items: impl FallibleIterator<Item = T, Error = std::io::Error>) -> std::io::Result<Vec<T>> {
    let mut all = Vec::new();
    while let Some(item) = items.next()? {
        all.push(item);
    }
    Ok(all)
}

/// The number of rows at the end of a command tag (`INSERT 0 5`, `SELECT 3`), for the commands that have one.
pub(super) fn rows_of(tag: &[u8]) -> Option<u64> {
    let last = tag.rsplit(|&byte| byte == b' ').next().filter(|last| last.len() < tag.len())?;
    std::str::from_utf8(last).ok()?.parse().ok()
}

/// Whether a row has this many columns, and lengths that add up.
pub(super) fn check_row(row: &DataRowBody, width: usize) -> std::io::Result<bool> {
    let mut ranges = row.ranges();
    let mut columns = 0;
    while ranges.next()?.is_some() {
        columns += 1;
    }
    Ok(columns == width)
}
