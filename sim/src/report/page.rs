//! What a report is made of, whatever it reports: sections of facts, tables and figures over time.

use std::fmt;

/// A report: one file.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What it is called.
    pub title: String,
    /// Its sections, in order.
    pub sections: Vec<Section>,
}

/// One subject of a report.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// What it is called.
    pub title: String,
    /// What it is about, for people.
    pub about: String,
    /// How it ended, if it could fail: whether well, and in a word.
    pub verdict: Option<(bool, String)>,
    /// Names and values.
    pub facts: Vec<(String, String)>,
    /// Its tables, before the figures.
    pub tables: Vec<Table>,
    /// What happened when; marked in every figure.
    pub marks: Vec<Mark>,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// Tables after the figures: the details.
    pub details: Vec<Table>,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What it is called.
    pub caption: String,
    /// A name for each column, or nothing if they need none.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Whether it is a number, to be set to the right.
    pub number: bool,
    /// Whether it is good or bad.
    pub tone: Tone,
}

/// Whether something is good or bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Neither.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
}

impl Cell {
    /// Some text.
    pub fn text(text: impl Into<String>) -> Self {
        Cell { text: text.into(), ..Cell::default() }
    }

    /// A number, or something else that is compared with what stands above it.
    pub fn number(text: impl fmt::Display) -> Self {
        Cell { text: text.to_string(), number: true, tone: Tone::Plain }
    }

    /// The same, good or bad.
    #[must_use]
    pub fn toned(self, tone: Tone) -> Self {
        Cell { tone, ..self }
    }
}

/// A picture over time.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is called.
    pub title: String,
    /// What it shows, for those who do not see it, and as its caption.
    pub about: String,
    /// What its values are, with their unit: `connections`.
    pub unit: String,
    /// From when to when, in seconds.
    pub span: (f64, f64),
    /// How values are scaled.
    pub scale: Scale,
    /// What is drawn.
    pub layer: Layer,
    /// A value that is not to be exceeded.
    pub limit: Option<Limit>,
}

/// How values are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero, evenly.
    Linear,
    /// Durations in seconds, each power of ten as far as the next.
    LogSeconds,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Series one above the other, each point lasting until the next.
    Stack(Vec<Series>),
    /// Series beside each other, each point lasting until the next.
    Steps(Vec<Series>),
    /// Single points, each series with a shape of its own.
    Points(Vec<Series>),
    /// Times in which something was so: a name for each lane, and the bands in them.
    Lanes(Vec<(String, Ink)>, Vec<Band>),
}

/// Values over time.
#[derive(Clone, Debug)]
pub struct Series {
    /// What they are called.
    pub name: String,
    /// How they are drawn.
    pub ink: Ink,
    /// Seconds and values, in order of time.
    pub points: Vec<(f64, f64)>,
}

/// A time in which something was so.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Which lane it is in.
    pub lane: usize,
    /// From when, in seconds.
    pub from: f64,
    /// Until when.
    pub to: f64,
}

/// A value that is not to be exceeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What it is called.
    pub name: String,
    /// How much it is.
    pub value: f64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// When, in seconds.
    pub at: f64,
    /// A letter for it.
    pub letter: char,
    /// What happened.
    pub text: String,
}

/// A colour: one of eight that people with any colour vision can tell apart, in a light and a dark variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ink {
    Blue,
    Sky,
    Green,
    Orange,
    Red,
    Purple,
    Yellow,
    Grey,
}

impl Ink {
    /// All of them, in the order in which equal things get them.
    pub const ALL: [Ink; 8] =
        [Ink::Blue, Ink::Red, Ink::Green, Ink::Orange, Ink::Purple, Ink::Sky, Ink::Yellow, Ink::Grey];

    /// On white.
    pub(crate) fn light(self) -> (u8, u8, u8) {
        match self {
            Ink::Blue => (0x00, 0x72, 0xB2),
            Ink::Sky => (0x56, 0xB4, 0xE9),
            Ink::Green => (0x00, 0x8F, 0x69),
            Ink::Orange => (0xE0, 0x95, 0x00),
            Ink::Red => (0xC9, 0x45, 0x00),
            Ink::Purple => (0xB4, 0x55, 0x8C),
            Ink::Yellow => (0xB8, 0xA8, 0x00),
            Ink::Grey => (0x8A, 0x8F, 0x98),
        }
    }

    /// On black.
    pub(crate) fn dark(self) -> (u8, u8, u8) {
        match self {
            Ink::Blue => (0x4B, 0xA3, 0xE3),
            Ink::Sky => (0x8C, 0xD3, 0xF7),
            Ink::Green => (0x2C, 0xC2, 0x95),
            Ink::Orange => (0xF0, 0xB4, 0x29),
            Ink::Red => (0xF2, 0x79, 0x3A),
            Ink::Purple => (0xDE, 0x94, 0xBF),
            Ink::Yellow => (0xE5, 0xDB, 0x4F),
            Ink::Grey => (0x7B, 0x84, 0x91),
        }
    }
}
