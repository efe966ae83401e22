//! What the programs print: plain lines, and on a terminal colour and a status line that is updated in place.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where the text begins, behind the label.
const INDENT: usize = 15;
/// Lines are this wide where there is no terminal to say so, and at most where there is one.
const WIDTH: usize = 100;

/// What a line says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// A figure, or what happened.
    Plain,
    /// As it should be.
    Good,
    /// An error that was meant to happen.
    Warning,
    /// Not as it should be.
    Bad,
}

/// Standard output.
pub(crate) struct Screen {
    terminal: bool,
    colour: bool,
    width: usize,
    silent: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    status: bool,
    updated: Option<Instant>,
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        let terminal = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        // https://no-color.org: any value but the empty one.
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let width = if terminal && columns > 0 { columns.clamp(40, WIDTH) } else { WIDTH };
        Screen { terminal, colour, width, silent: false, state: Mutex::default() }
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Screen { terminal: false, colour: false, width: WIDTH, silent: true, state: Mutex::default() }
    }

    /// A stage's title.
    pub(crate) fn title(&self, text: &str) {
        self.write(&format!("\n{}\n", self.paint("1", text)));
    }

    /// A line of its own.
    pub(crate) fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// A label and a text, wrapped under itself.
    pub(crate) fn say(&self, tone: Tone, label: &str, text: &str) {
        let code = match tone {
            Tone::Plain => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
        };
        let mut out = String::new();
        for (n, line) in wrap(text, self.width - INDENT).iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            let padded = format!("{label:<width$}", width = INDENT - 3);
            out.push_str(&format!("   {}{line}\n", self.paint(code, &padded)));
        }
        self.write(&out);
    }

    /// A label and the cells of a table's row.
    pub(crate) fn row(&self, label: &str, cells: &[String]) {
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        let padded = format!("{label:<width$}", width = INDENT - 3);
        self.write(&format!("   {}{cells}\n", self.paint("2", &padded)));
    }

    /// Shows how things stand, in place; only on a terminal, and at most ten times a second.
    pub(crate) fn status(&self, text: impl FnOnce() -> String) {
        if !self.terminal {
            return;
        }
        let mut state = self.state();
        if state.updated.is_some_and(|at| at.elapsed() < Duration::from_millis(100)) {
            return;
        }
        let text: String = text().chars().take(self.width - 1).collect();
        (state.status, state.updated) = (true, Some(Instant::now()));
        emit(&format!("\r\x1b[2K{}", self.paint("36", &text)));
    }

    /// Takes the status line away.
    pub(crate) fn clear(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        let mut state = self.state();
        let erase = if std::mem::take(&mut state.status) { "\r\x1b[2K" } else { "" };
        if !self.silent {
            emit(&format!("{erase}{text}"));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn emit(text: &str) {
    let mut out = io::stdout().lock();
    // Whoever closed the pipe does not want to read on; the exit code still tells how it went.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The text in lines of at most `width` characters, broken at spaces; a word that is longer stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// `12345` as `12,345`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration with three digits or so: `0.21 ms`, `4.2 ms`, `215 ms`, `1.53 s`.
pub(crate) fn span(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 0.995 => format!("{ms:.2} ms"),
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_spaces() {
        assert_eq!(wrap("a bb ccc dddddddd e", 6), ["a bb", "ccc", "dddddddd", "e"]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(wrap("two  spaces", 20), ["two  spaces"]);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0_u64, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let micros = [4, 994, 996, 9_949, 9_951, 215_400, 999_600, 12_345_678];
        let shown = micros.map(|us| span(Duration::from_micros(us)));
        assert_eq!(shown, ["0.00 ms", "0.99 ms", "1.0 ms", "9.9 ms", "10 ms", "215 ms", "1.00 s", "12.35 s"]);
    }
}
