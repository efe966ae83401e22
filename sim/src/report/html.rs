//! A page as one file of HTML: no scripts, no fonts, nothing that is fetched from elsewhere. All text is escaped by maud.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::page::{Cell, Figure, Ink, Layer, Mark, Page, Section, Series, Table, Tone};
use super::plot::{GRID, MARK, Rgb, TEXT, svg};

/// Figures are drawn twice: for a screen and for a phone.
const WIDE: u32 = 920;
const NARROW: u32 = 360;

/// Colours that are no [`Ink`], with their dark variants.
const OTHERS: [(Rgb, Rgb); 3] = [(TEXT, (0xC6, 0xCD, 0xD6)), (GRID, (0x2E, 0x35, 0x3E)), (MARK, (0x9A, 0xA3, 0xAE))];

impl Page {
    /// The file.
    pub fn html(&self) -> String {
        let many = self.sections.len() > 1;
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) }
                    style { (PreEscaped(style())) }
                }
                body {
                    header { h1 { (self.title) " " @if !many { @for section in &self.sections { (verdict(section)) } } } }
                    @if many {
                        nav aria-label="Contents" {
                            ol {
                                @for (index, section) in self.sections.iter().enumerate() {
                                    li { a href={ "#s" (index) } { (section.title) } " " (verdict(section)) }
                                }
                            }
                        }
                    }
                    main {
                        @for (index, section) in self.sections.iter().enumerate() {
                            (section_html(index, section, many))
                        }
                    }
                }
            }
        }
        .into_string()
    }
}

fn verdict(section: &Section) -> Markup {
    html! {
        @if let Some((good, word)) = &section.verdict {
            span class=(if *good { "verdict good" } else { "verdict bad" }) { (word) }
        }
    }
}

/// `headed`: whether it needs a heading of its own.
fn section_html(index: usize, section: &Section, headed: bool) -> Markup {
    html! {
        section id={ "s" (index) } {
            @if headed { h2 { (section.title) " " (verdict(section)) } }
            @for paragraph in section.about.split("\n\n").filter(|text| !text.trim().is_empty()) {
                p { (paragraph.trim()) }
            }
            @if !section.facts.is_empty() {
                dl {
                    @for (name, value) in &section.facts {
                        div { dt { (name) } dd { (value) } }
                    }
                }
            }
            @for table in &section.tables { (table_html(table)) }
            @if !section.marks.is_empty() && !section.figures.is_empty() { (marks_html(&section.marks)) }
            @for (number, figure) in section.figures.iter().enumerate() {
                (figure_html(&format!("s{index}f{number}"), figure, &section.marks))
            }
            @for table in &section.details { (table_html(table)) }
        }
    }
}

fn marks_html(marks: &[Mark]) -> Markup {
    html! {
        h3 { "What happened, and when" }
        ul class="marks" {
            @for mark in marks {
                li { b { (mark.letter) } " " span class="at" { (format!("{:.3}", mark.at).trim_end_matches('0').trim_end_matches('.')) " s" } " " (mark.text) }
            }
        }
    }
}

fn table_html(table: &Table) -> Markup {
    html! {
        div class="table" tabindex="0" role="region" aria-label=(table.caption) {
            table {
                caption { (table.caption) }
                @if !table.head.is_empty() {
                    thead { tr {
                        @for (column, name) in table.head.iter().enumerate() {
                            th scope="col" class=[is_number(table, column).then_some("number")] { (name) }
                        }
                    } }
                }
                tbody {
                    @for row in &table.rows {
                        tr { @for cell in row { (cell_html(cell)) } }
                    }
                }
            }
        }
    }
}

fn is_number(table: &Table, column: usize) -> bool {
    table.rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.number)
}

fn cell_html(cell: &Cell) -> Markup {
    let class = match (cell.number, cell.tone) {
        (false, Tone::Plain) => None,
        (true, Tone::Plain) => Some("number"),
        (false, Tone::Good) => Some("good"),
        (false, Tone::Bad) => Some("bad"),
        (true, Tone::Good) => Some("number good"),
        (true, Tone::Bad) => Some("number bad"),
    };
    html! { td class=[class] { (cell.text) } }
}

fn figure_html(id: &str, figure: &Figure, marks: &[Mark]) -> Markup {
    html! {
        figure {
            h3 { (figure.title) }
            (legend(&figure.layer))
            div class="wide" { (described(&svg(figure, marks, WIDE), &format!("{id}w"), figure)) }
            div class="narrow" { (described(&svg(figure, marks, NARROW), &format!("{id}n"), figure)) }
            figcaption { (figure.about) }
        }
    }
}

/// The picture with a title and a description, for those who do not see it.
fn described(svg: &str, id: &str, figure: &Figure) -> Markup {
    let Some((head, body)) = svg.split_once('>') else { return html! {} };
    html! {
        (PreEscaped(head))
        // The id is ours, so that there is nothing to escape.
        (PreEscaped(format!(" role=\"img\" aria-labelledby=\"{id}t\" aria-describedby=\"{id}d\">")))
        title id={ (id) "t" } { (figure.title) }
        desc id={ (id) "d" } { (figure.about) }
        (PreEscaped(body))
    }
}

/// A name for each colour and shape.
fn legend(layer: &Layer) -> Markup {
    let (series, points): (&[Series], bool) = match layer {
        Layer::Stack(series) | Layer::Steps(series) => (series, false),
        Layer::Points(series) => (series, true),
        // Lanes have their names beside them.
        Layer::Lanes(..) => return html! {},
    };
    let shape = |index: usize| match (points, index) {
        (false, _) => "■",
        (true, 0) => "●",
        (true, 1) => "✕",
        (true, _) => "▲",
    };
    html! {
        ul class="legend" {
            @for (index, one) in series.iter().enumerate() {
                li { span class=(class(one.ink)) aria-hidden="true" { (shape(index)) } " " (one.name) }
            }
        }
    }
}

fn class(ink: Ink) -> String {
    format!("ink-{}", format!("{ink:?}").to_lowercase())
}

fn hex((red, green, blue): Rgb) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The style sheet; the colours of figures are overridden by what they are, since plotters writes them as attributes.
fn style() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    for ink in Ink::ALL {
        light.push_str(&format!(".{}{{color:{}}}", class(ink), hex(ink.light())));
        dark.push_str(&format!(".{}{{color:{}}}", class(ink), hex(ink.dark())));
    }
    let inks = Ink::ALL.map(|ink| (ink.light(), ink.dark()));
    for (from, to) in inks.into_iter().chain(OTHERS) {
        let (from, to) = (hex(from), hex(to));
        dark.push_str(&format!("svg [fill=\"{from}\"]{{fill:{to}}}svg [stroke=\"{from}\"]{{stroke:{to}}}"));
    }
    format!("{BASE}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}")
}

const BASE: &str = "
:root{--ground:#fff;--panel:#f6f8fa;--line:#d9dee4;--text:#1f2328;--soft:#545c66;--good:#00704f;--bad:#b42318;--link:#0060a8}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--ground);color:var(--text);
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.25rem;margin:0 0 .5rem}h3{font-size:1rem;margin:1.25rem 0 .25rem}
a{color:var(--link)}p{margin:.5rem 0;max-width:46rem}
section{border-top:1px solid var(--line);padding:1.25rem 0}
nav ol{padding-left:1.5rem}nav li{margin:.15rem 0}
.verdict{font-size:.8rem;font-weight:600;padding:.1rem .5rem;border:1px solid currentColor;border-radius:1rem;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.5rem;margin:.75rem 0}
dl div{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;padding:.4rem .6rem}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.table{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.25rem 0}
th,td{text-align:left;padding:.25rem .65rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td:not(.number){min-width:5.5rem}
@media(min-width:40.01rem){td:not(.number):not(:last-child){white-space:nowrap}}
th{color:var(--soft);font-weight:600}
.number{text-align:right;white-space:nowrap}
figure{margin:1.25rem 0}figcaption{color:var(--soft);font-size:.85rem;max-width:46rem}
svg{display:block;width:100%;height:auto}svg text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
.narrow{display:none}
ul.legend,ul.marks{list-style:none;padding:0;margin:.25rem 0;display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:.9rem}
ul.marks{flex-direction:column}ul.marks .at{color:var(--soft);font-variant-numeric:tabular-nums}
@media(max-width:40rem){td:last-child:not(.number){min-width:13rem}.wide{display:none}.narrow{display:block}body{padding:.75rem}}
";

const DARK: &str = ":root{--ground:#14171c;--panel:#1b2027;--line:#2e353e;--text:#e3e7ec;--soft:#a3acb7;--good:#3fce9f;--bad:#ff8a73;--link:#6cb6f2}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Limit, Scale};

    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;";

    fn hostile_page() -> Page {
        let series = || vec![Series { name: HOSTILE.into(), ink: Ink::Red, points: vec![(0.0, 1.0), (5.0, 2.0)] }];
        let figure = |layer| Figure {
            title: HOSTILE.into(),
            about: HOSTILE.into(),
            unit: HOSTILE.into(),
            span: (0.0, 10.0),
            scale: Scale::Linear,
            layer,
            limit: Some(Limit { name: HOSTILE.into(), value: 3.0 }),
        };
        let table = Table {
            caption: HOSTILE.into(),
            head: vec![HOSTILE.into()],
            rows: vec![vec![Cell::text(HOSTILE).toned(Tone::Bad)]],
        };
        let section = Section {
            title: HOSTILE.into(),
            about: HOSTILE.into(),
            verdict: Some((false, HOSTILE.into())),
            facts: vec![(HOSTILE.into(), HOSTILE.into())],
            tables: vec![table.clone()],
            marks: vec![Mark { at: 1.0, letter: '<', text: HOSTILE.into() }],
            figures: vec![
                figure(Layer::Steps(series())),
                figure(Layer::Stack(series())),
                figure(Layer::Points(series())),
                figure(Layer::Lanes(
                    vec![(HOSTILE.into(), Ink::Blue)],
                    vec![crate::report::Band { lane: 0, from: 1.0, to: 2.0 }],
                )),
            ],
            details: vec![table],
        };
        Page { title: HOSTILE.into(), sections: vec![section.clone(), section] }
    }

    #[test]
    fn nothing_that_a_report_is_about_becomes_markup() {
        let text = hostile_page().html();
        for forbidden in ["<script", "<img", "&amp;amp;amp;", "mark><"] {
            assert!(!text.contains(forbidden), "{forbidden:?} is in the page");
        }
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        // Outside of tags there is no stray bracket: every `<` begins a tag that we write.
        let ours = [
            "!DOCTYPE",
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "h1",
            "h2",
            "h3",
            "nav",
            "ol",
            "li",
            "a ",
            "span",
            "main",
            "section",
            "p>",
            "dl",
            "div",
            "dt",
            "dd",
            "ul",
            "b>",
            "figure",
            "figcaption",
            "svg",
            "desc",
            "table",
            "caption",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "rect",
            "line",
            "polyline",
            "polygon",
            "circle",
            "text",
            "path",
        ];
        for piece in text.split('<').skip(1) {
            let name = piece.trim_start_matches('/');
            assert!(
                ours.iter().any(|tag| name.starts_with(tag) || name.starts_with(&format!("{}>", tag.trim()))),
                "<{name}"
            );
        }
    }

    #[test]
    fn a_page_fetches_nothing() {
        let text = hostile_page().html();
        let namespace = "xmlns=\"http://www.w3.org/2000/svg\"";
        let rest = text.replace(namespace, "");
        for forbidden in ["http:", "https:", "url(", "@import", "<link", "src=\"", "href=\"/"] {
            assert!(!rest.contains(forbidden), "{forbidden:?} is in the page");
        }
        assert!(text.contains("default-src 'none'"));
    }

    #[test]
    fn pictures_are_described_and_drawn_for_both_widths() {
        let text = hostile_page().html();
        assert_eq!(text.matches("role=\"img\"").count(), 2 * 4 * 2);
        assert_eq!(text.matches("<desc").count(), 2 * 4 * 2);
        assert!(text.contains("prefers-color-scheme:dark") && text.contains("max-width:40rem"));
        // Every id is used once.
        let ids: Vec<&str> = text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let distinct: std::collections::BTreeSet<&&str> = ids.iter().collect();
        assert_eq!(ids.len(), distinct.len());
    }

    #[test]
    fn several_sections_have_a_table_of_contents() {
        let mut page = hostile_page();
        assert!(page.html().contains("<nav") && page.html().contains("href=\"#s1\""));
        page.sections.pop();
        assert!(!page.html().contains("<nav"));
    }
}
