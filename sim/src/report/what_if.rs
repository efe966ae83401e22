//! What a what-if answered, as a section of a page.

use super::page::{Cell, Section, Table, Tone};
use crate::what_if::{Answer, Row};

/// The section of an answer. `title` says what was asked about; `about` where the history comes from.
pub fn what_if_section(title: impl Into<String>, about: impl Into<String>, answer: &Answer) -> Section {
    let off: Vec<&str> = answer.off().map(|row| row.name).collect();
    let verdict = match &off[..] {
        [] => (true, "simulated as recorded, within the rule".to_owned()),
        off => (false, format!("the simulation of the recorded configuration is off in: {}", off.join(", "))),
    };
    let facts = answer.changes.iter().map(|(name, from, to)| (name.clone(), format!("{from} → {to}"))).collect();
    let notes = answer.notes.iter().map(|note| vec![Cell::text(note.clone())]).collect();
    Section {
        title: title.into(),
        about: about.into(),
        verdict: Some(verdict),
        facts,
        tables: vec![comparison(answer)],
        details: vec![Table { caption: "Read out, assumed, left out".to_owned(), head: Vec::new(), rows: notes }],
        ..Section::default()
    }
}

fn comparison(answer: &Answer) -> Table {
    let mut head = vec!["", "recorded", "simulated"];
    head.extend((!answer.changed.is_empty()).then_some("changed"));
    let row = |row: &Row| {
        let tone = if row.is_off { Tone::Bad } else { Tone::Plain };
        let mut cells =
            vec![Cell::text(row.name), Cell::number(&row.recorded), Cell::number(&row.simulated).toned(tone)];
        cells.extend((!answer.changed.is_empty()).then(|| Cell::number(&row.changed)));
        cells
    };
    Table {
        caption: "Side by side".to_owned(),
        head: head.into_iter().map(str::to_owned).collect(),
        rows: answer.rows.iter().map(row).collect(),
    }
}
