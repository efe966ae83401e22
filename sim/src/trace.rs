//! Every event and action of a run, one line each.

use std::collections::VecDeque;
use std::io::Write;

use pgweir_core::pool::{Action, Event};
use pgweir_core::time::Instant;

/// Sees every event and action of a run.
pub trait Trace {
    /// The machine is about to be told of `event`.
    fn event(&mut self, now: Instant, event: &Event);
    /// The machine asked for `action`.
    fn action(&mut self, now: Instant, action: &Action);
    /// Something happened to the server, the network or the clients.
    fn remark(&mut self, now: Instant, remark: std::fmt::Arguments<'_>);
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    #[inline]
    fn event(&mut self, _: Instant, _: &Event) {}
    #[inline]
    fn action(&mut self, _: Instant, _: &Action) {}
    #[inline]
    fn remark(&mut self, _: Instant, _: std::fmt::Arguments<'_>) {}
}

impl<T: Trace> Trace for &mut T {
    fn event(&mut self, now: Instant, event: &Event) {
        T::event(self, now, event);
    }

    fn action(&mut self, now: Instant, action: &Action) {
        T::action(self, now, action);
    }

    fn remark(&mut self, now: Instant, remark: std::fmt::Arguments<'_>) {
        T::remark(self, now, remark);
    }
}

/// Two see the same.
impl<A: Trace, B: Trace> Trace for (A, B) {
    fn event(&mut self, now: Instant, event: &Event) {
        self.0.event(now, event);
        self.1.event(now, event);
    }

    fn action(&mut self, now: Instant, action: &Action) {
        self.0.action(now, action);
        self.1.action(now, action);
    }

    fn remark(&mut self, now: Instant, remark: std::fmt::Arguments<'_>) {
        self.0.remark(now, remark);
        self.1.remark(now, remark);
    }
}

/// Writes lines: `>` is what the machine was told, `<` what it asked for, `*` what happened outside.
#[derive(Debug)]
pub struct Lines<W: Write> {
    out: W,
    error: Option<std::io::Error>,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Lines { out, error: None }
    }

    /// The first error of writing, if there was one; nothing was written after it.
    pub fn finish(mut self) -> std::io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{line}").err();
        }
    }
}

impl<W: Write> Trace for Lines<W> {
    fn event(&mut self, now: Instant, event: &Event) {
        self.line(format_args!("{now:?} > {event:?}"));
    }

    fn action(&mut self, now: Instant, action: &Action) {
        self.line(format_args!("{now:?} <   {action:?}"));
    }

    fn remark(&mut self, now: Instant, remark: std::fmt::Arguments<'_>) {
        self.line(format_args!("{now:?} * {remark}"));
    }
}

/// Keeps the last lines.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    most: usize,
}

impl Tail {
    pub(crate) fn new(most: usize) -> Self {
        Tail { lines: VecDeque::new(), most }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_string());
    }
}

impl Trace for Tail {
    fn event(&mut self, now: Instant, event: &Event) {
        self.line(format_args!("{now:?} > {event:?}"));
    }

    fn action(&mut self, now: Instant, action: &Action) {
        self.line(format_args!("{now:?} <   {action:?}"));
    }

    fn remark(&mut self, now: Instant, remark: std::fmt::Arguments<'_>) {
        self.line(format_args!("{now:?} * {remark}"));
    }
}
