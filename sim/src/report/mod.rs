//! A run for people. `text` writes a scenario's run for a terminal; `page` is what any report is made of, `scenario`,
//! `fleet` and `what_if` make one of a run, `plot` draws a figure, `html` writes a page as one file, `lines` what terminals share.

mod fleet;
mod html;
mod lines;
mod page;
mod plot;
mod scenario;
mod text;
mod what_if;

pub use fleet::{FleetReport, fleet_section, fleet_table};
pub(crate) use lines::{COLUMNS, sparkline};
pub use page::{Band, Cell, Figure, Ink, Layer, Limit, Mark, Page, Scale, Section, Series, Table, Tone};
pub use scenario::{failure_section, scenario_section};
pub use text::Report;
pub use what_if::what_if_section;
