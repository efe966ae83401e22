//! `mutations.md`: what noticed each mutation of the pool machine, kept by `cargo mutations --record`.

use super::{Judge, Mutation, Verdict, cell};

/// Where it is, from the repository's root.
pub const PAGE: &str = "core/src/pool/tests/mutations.md";

const NOT_RUN: &str = "not run yet";
const NOT_ASKED: &str = "–";

/// Its tables: who noticed first, and what single judges say.
const FIRST: &[&str] = &["Caught by"];
const SINGLE: &[&str] = &["exhaustive, alone", "swarm, alone", "exhaustive", "swarm", "scenarios"];

/// Writes what was `found` of one mutation into the page's text: by the first of all judges that noticed, or by each of
/// these `judges`; `outside` if the machine did not check itself. `all` is every mutation, in the order of the list.
pub fn record(
    page: &str,
    all: &[Mutation],
    mutation: &Mutation,
    judges: &[Judge],
    outside: bool,
    found: &[Verdict],
) -> String {
    let of_the_pool = |mutation: &&Mutation| mutation.file.starts_with("core/src/pool/");
    let names: Vec<&str> = all.iter().filter(of_the_pool).map(|mutation| mutation.name.as_str()).collect();
    let (mut first, mut single) = (Table::read(page, FIRST, NOT_RUN), Table::read(page, SINGLE, NOT_ASKED));
    if judges.is_empty() {
        first.set(&mutation.name, FIRST[0], cell(mutation, &found[0]));
    }
    for (judge, verdict) in judges.iter().zip(found) {
        let column = if outside { format!("{}, alone", judge.name()) } else { judge.name().to_owned() };
        single.set(&mutation.name, &column, guarantee(cell(mutation, verdict)));
    }
    first.rows.retain(|(name, _)| names.contains(&name.as_str()));
    for name in &names {
        first.row(name);
    }
    let place = |name: &str| names.iter().position(|other| *other == name);
    first.rows.sort_by_key(|(name, _)| place(name));
    single.rows.sort_by_key(|(name, _)| place(name));
    let lines = page.lines().map(|line| if is_sum(line) { first.sum() } else { line.to_owned() });
    let text: Vec<String> = lines.collect();
    single.write(&first.write(&text.join("\n")))
}

/// Only which guarantee broke, where a judge names one: the details differ from run to run.
fn guarantee(cell: String) -> String {
    let name = |text: &str| text.split(": ").next().unwrap_or(text).to_owned();
    match cell.strip_prefix("Invariant: ").or(cell.strip_prefix("No panic: ")) {
        // The machine's own check, or a fault of another kind.
        Some(text) => format!("panic: {}", name(text)),
        None if cell.ends_with(": it hangs") => "it hangs".to_owned(),
        None => name(&cell),
    }
}

fn is_sum(line: &str) -> bool {
    line.split_once(" mutations: ").is_some_and(|(count, _)| count.parse::<u32>().is_ok())
}

struct Table {
    columns: &'static [&'static str],
    /// What a cell holds that nobody has filled.
    empty: &'static str,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// The rows of the table with these columns; none where the page has no such table.
    fn read(page: &str, columns: &'static [&'static str], empty: &'static str) -> Table {
        let mut table = Table { columns, empty, rows: Vec::new() };
        let head = table.head();
        for line in page.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with("| ")) {
            let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            let name = cells.next().unwrap_or_default();
            table.rows.push((name, cells.collect()));
        }
        table
    }

    fn head(&self) -> String {
        format!("| Mutation | {} |", self.columns.join(" | "))
    }

    fn row(&mut self, name: &str) -> &mut Vec<String> {
        let place = self.rows.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            self.rows.push((name.to_owned(), vec![self.empty.to_owned(); self.columns.len()]));
            self.rows.len() - 1
        });
        &mut self.rows[place].1
    }

    fn set(&mut self, name: &str, column: &str, cell: String) {
        // The machine's own tests have no column: they are what the first table is about.
        if let Some(place) = self.columns.iter().position(|other| *other == column) {
            self.row(name)[place] = cell;
        }
    }

    /// The page with this table where it was.
    fn write(&self, page: &str) -> String {
        let head = self.head();
        let mut lines = page.lines();
        let mut text = String::new();
        while let Some(line) = lines.next() {
            text += &format!("{line}\n");
            if line == head {
                text += &format!("{}\n", lines.next().unwrap_or_default());
                self.rows.iter().for_each(|(name, cells)| text += &format!("| {name} | {} |\n", cells.join(" | ")));
                let after = lines.by_ref().find(|line| !line.starts_with("| "));
                text += &after.map_or_else(String::new, |line| format!("{line}\n"));
            }
        }
        text
    }

    fn sum(&self) -> String {
        let count = |is: fn(&str) -> bool| self.rows.iter().filter(|(_, cells)| is(&cells[0])).count();
        let explained = count(|cell| cell.starts_with("nothing: "));
        let open = count(|cell| cell == "**nothing**" || cell.starts_with("does not compile"));
        let not_run = count(|cell| cell == NOT_RUN);
        let caught = self.rows.len() - explained - open - not_run;
        format!(
            "{} mutations: {caught} caught, {explained} explained in the list (nothing can notice them), {open} noticed by \
             nothing, {not_run} not run yet.",
            self.rows.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::mutations::{read_lists, root};

    fn page() -> String {
        fs::read_to_string(root().join(PAGE)).expect("the page")
    }

    #[test]
    fn the_page_has_every_mutation_and_is_written_as_it_is_read() {
        let all = read_lists(&root()).expect("lists");
        let mutation = &all[0];
        let page = page();
        let table = Table::read(&page, FIRST, NOT_RUN);
        let of_the_pool = all.iter().filter(|mutation| mutation.file.starts_with("core/src/pool/"));
        let names: Vec<&str> = of_the_pool.map(|mutation| mutation.name.as_str()).collect();
        let rows: Vec<&str> = table.rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(rows, names, "a mutation without a row, or the other way round: run it with --record");
        let same = record(&page, &all, mutation, &[Judge::Machine], false, &[Verdict::Survived]) == page;
        assert!(same, "the page is not as --record writes it: its sum, or the order of its rows");
        assert!(!Table::read(&page, SINGLE, NOT_ASKED).rows.is_empty());
    }

    #[test]
    fn what_was_found_is_written_into_its_row() {
        let all = read_lists(&root()).expect("lists");
        let mutation = &all[1];
        let caught = |by: &str| Verdict::Caught(by.to_owned());
        let after = record(&page(), &all, mutation, &[], false, &[caught("x::a_test, b")]);
        assert!(after.contains(&format!("| {} | `a_test`, `b` |\n", mutation.name)), "{after}");
        let judges = [Judge::Swarm, Judge::Exhaustive];
        let found = [caught("Cap: 3 exist"), caught("Invariant: True numbers: so many: or not")];
        let after = record(&page(), &all, mutation, &judges, true, &found);
        let table = Table::read(&after, SINGLE, NOT_ASKED);
        let row = table.rows.iter().find(|(name, _)| *name == mutation.name).expect("a row");
        assert_eq!(row.1[..2], ["panic: True numbers", "Cap"]);
    }

    #[test]
    fn the_sum_is_of_the_rows() {
        let page = "9 mutations: old\n\n| Mutation | Caught by |\n| --- | --- |\n| a | `t` |\n| b | nothing: so |\n\
                    | c | **nothing** |\n| d | not run yet |\n";
        let table = Table::read(page, FIRST, NOT_RUN);
        assert!(is_sum(&table.sum()) && is_sum("9 mutations: old") && !is_sum("of mutations: old"));
        assert!(table.sum().starts_with("4 mutations: 1 caught, 1 explained"), "{}", table.sum());
        assert!(table.sum().ends_with("1 noticed by nothing, 1 not run yet."), "{}", table.sum());
        assert_eq!(table.write(page), page);
    }
}
