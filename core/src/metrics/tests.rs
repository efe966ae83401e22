//! The table, its page and the two texts. What a pool's numbers become is in `driver/tests/metrics.rs`.

use std::collections::BTreeSet;

use super::sample::Kind;
use super::{Format, Label, TABLE};

/// The table as the page shows it.
fn page_table() -> String {
    let mut page = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in TABLE {
        let label = |label: &Label| match label.values {
            [] => format!("`{}`", label.name),
            values => format!("`{}`: `{}`", label.name, values.join("`, `")),
        };
        let labels: Vec<String> = metric.labels.iter().map(label).collect();
        let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
        page += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join("; "));
    }
    page
}

#[test]
fn the_page_has_the_table() {
    let page = include_str!("../../docs/metrics.md");
    assert!(page.contains(&page_table()), "core/docs/metrics.md does not have this table:\n\n{}", page_table());
}

#[test]
fn names_say_kind_and_unit() {
    let names: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), TABLE.len(), "each name once");
    for metric in TABLE {
        let name = metric.name;
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert_eq!(metric.unit(), name.ends_with("_seconds").then_some("seconds"), "{name}");
        assert!(metric.kind != Kind::Histogram || metric.unit().is_some(), "{name}");
        assert!(
            !metric.help.contains(['\\', '\n', '"', '|']) && metric.help.ends_with('.'),
            "{name}: needs no escapes"
        );
        assert!(metric.labels.len() <= 2, "{name}");
    }
}

#[test]
fn the_format_is_what_the_client_takes() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
    for accept in ["", "*/*", "application/openmetrics-text", prometheus, "text/html, */*", "application/json"] {
        assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
    }
    for accept in ["text/plain", "text/plain; version=0.0.4; charset=utf-8", "TEXT/PLAIN"] {
        assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
    }
}
