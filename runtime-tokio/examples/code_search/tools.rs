//! The server as the protocol sees it.

use std::future::Future;
use std::path::PathBuf;

use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{
    Implementation, ListResourcesResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use tracing::{Instrument, Span, info_span};

use crate::database::Database;
use crate::ending::Calls;
use crate::errors::{CallError, Failure};
use crate::{index, resources, search};

const INSTRUCTIONS: &str = "Searches code in a PostgreSQL database. Index a folder with index_folder (again when files \
     have changed: only what changed is read), then use search_code. An error with code DATABASE_ERROR says in its \
     suggestion whether to call again; health://connection-pool has the state of the database.";

/// The tools and resources, over the pool.
#[derive(Clone)]
pub(crate) struct CodeSearch {
    database: Database,
    root: PathBuf,
    calls: Calls,
}

#[tool_router]
impl CodeSearch {
    pub(crate) fn new(database: Database, root: PathBuf, calls: Calls) -> CodeSearch {
        CodeSearch { database, root, calls }
    }

    /// Brings the index of a folder up to date: new and changed text files go in, files that are gone go out.
    #[tool(annotations(
        title = "Index a folder",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true
    ))]
    async fn index_folder(
        &self,
        Parameters(request): Parameters<index::Request>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<index::Indexed>, CallError> {
        self.call(
            "index_folder",
            info_span!("index_folder"),
            context,
            index::run(&self.database, self.root.clone(), request),
        )
        .await
    }

    /// Full-text search in the indexed files: the best files first, each with the line that fits best.
    #[tool(annotations(title = "Search code", read_only_hint = true))]
    async fn search_code(
        &self,
        Parameters(request): Parameters<search::Request>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<search::Matches>, CallError> {
        self.call("search_code", info_span!("search_code"), context, search::run(&self.database, request)).await
    }

    /// How many files are indexed, in which languages, and when that was last changed.
    #[tool(annotations(title = "What is indexed", read_only_hint = true))]
    async fn index_status(&self, context: RequestContext<RoleServer>) -> Result<Json<search::Status>, CallError> {
        self.call("index_status", info_span!("index_status"), context, search::status(&self.database)).await
    }

    /// Does a call's work unless the server is ending, and drops it when the client cancels: the query is cancelled in
    /// the database, a transaction is rolled back. Whoever looks at the pool sees the span's name beside a connection.
    async fn call<T>(
        &self,
        tool: &'static str,
        span: Span,
        context: RequestContext<RoleServer>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Json<T>, CallError> {
        let outcome = match self.calls.begin() {
            Ok(_call) => tokio::select! {
                outcome = work.instrument(span) => outcome,
                () = context.ct.cancelled() => Err(Failure::Cancelled),
            },
            Err(failure) => Err(failure),
        };
        outcome.map(Json).map_err(|failure| failure.report(tool, self.database.pool()))
    }
}

#[tool_handler]
impl ServerHandler for CodeSearch {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("code_search", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(resources::list())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&request.uri, self.database.pool()).map(ReadResourceResponse::from)
    }
}
