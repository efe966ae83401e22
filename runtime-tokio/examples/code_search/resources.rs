//! What the pool says of itself, as resources. They are read without the database, so they say most when it is down.

use pgweir_core::metrics::{self, Format};
use pgweir_tokio::Pool;
use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents};

const HEALTH: &str = "health://connection-pool";
const METRICS: &str = "metrics://prometheus";

/// The pool's name in metrics.
pub(crate) const POOL_NAME: &str = "code_search";

/// What there is.
pub(crate) fn list() -> ListResourcesResult {
    ListResourcesResult::with_all_items(vec![
        Resource::new(HEALTH, "Health of the connection pool")
            .with_description("Whether the database can be used, and why not: status, counts, outage, the last error.")
            .with_mime_type("application/json"),
        Resource::new(METRICS, "Metrics of the connection pool")
            .with_description("The pool's counters, gauges and histograms, as Prometheus scrapes them.")
            .with_mime_type(Format::Prometheus.content_type()),
    ])
}

/// One of them, as of now.
pub(crate) fn read(uri: &str, pool: &Pool) -> Result<ReadResourceResult, ErrorData> {
    let (text, mime_type) = match uri {
        HEALTH => (json(&pool.health())?, "application/json"),
        METRICS => {
            let text = metrics::text(&[(POOL_NAME, pool.metrics())], Format::Prometheus);
            (text, Format::Prometheus.content_type())
        }
        _ => return Err(ErrorData::resource_not_found(format!("there is no resource {uri:?}"), None)),
    };
    let contents = ResourceContents::text(text, uri).with_mime_type(mime_type);
    // Nobody is to keep it.
    Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(0))
}

fn json(report: &impl serde::Serialize) -> Result<String, ErrorData> {
    serde_json::to_string_pretty(report).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}
