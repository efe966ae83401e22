//! From a request to its answer: which page, of which pool.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::pages::{self, Page};
use super::patience::Progress;
use crate::driver::Observe;
use crate::runtime::Runtime;

/// The pools that an endpoint shows, by name.
pub(super) struct Pages {
    pub(super) pools: Vec<(String, Box<dyn Observe>)>,
}

/// Answers the requests of one connection, each at once.
pub(super) struct Service<R> {
    pages: Arc<Pages>,
    runtime: R,
    progress: Progress,
}

impl<R> Unpin for Service<R> {}

impl<R: Runtime> Service<R> {
    pub(super) fn new(pages: Arc<Pages>, runtime: R, progress: Progress) -> Self {
        Service { pages, runtime, progress }
    }
}

impl<R: Runtime> hyper::service::Service<Request<Incoming>> for Service<R> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.progress.requested(self.runtime.now());
        let (parts, body) = request.into_parts();
        let mut response = if body.is_end_stream() {
            answer(&self.pages, &parts.method, parts.uri.path(), parts.uri.query().unwrap_or(""), &parts.headers)
        } else {
            let hint = "this endpoint reads no request bodies: send GET without one";
            respond(pages::refusal(StatusCode::PAYLOAD_TOO_LARGE, hint))
        };
        if !body.is_end_stream() {
            // What follows is the body, not a request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        ready(Ok(response))
    }
}

fn answer(pages: &Pages, method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    // A path that ends in a slash is the same page.
    let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
    let Some(render) = pages::find(path) else {
        return respond(pages::refusal(
            StatusCode::NOT_FOUND,
            "there is no such page; GET / lists those that there are",
        ));
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = respond(pages::refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let asked = pages::Asked::new(query, accept);
    match pages::chosen(pages, &asked) {
        Ok(pools) => respond(render(&pools, &asked)),
        Err(refusal) => respond(refusal),
    }
}

fn respond(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
