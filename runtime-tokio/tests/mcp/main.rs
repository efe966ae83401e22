//! The example `code_search`, from an MCP host's side: `cargo mcp-check` does the same with a real client.

mod host;
// What of the example can be tested by itself has its tests beside it. (An example with tests of its own would not be
// built as a program by `cargo test`.)
#[allow(dead_code, reason = "the example uses the rest")]
#[path = "../../examples/code_search/snippet.rs"]
mod snippet;
#[allow(dead_code, reason = "the example uses the rest")]
#[path = "../../examples/code_search/walk.rs"]
mod walk;
#[allow(dead_code, reason = "the example uses the rest")]
#[path = "../../examples/code_search/words.rs"]
mod words;

use std::fs;

use host::{Host, url};
use pgweir_tests::{Client, LIMIT, LocalPostgres, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const BACKOFF: &str =
    "pub fn backoff_delay(attempt: u32) -> Duration {\n    // doubles every time\n    BASE * 2_u32.pow(attempt)\n}\n";

/// A folder with code.
fn code() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/backoff.rs"), BACKOFF).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "mod backoff;\n\npub struct Pool;\n").unwrap();
    fs::write(folder.path().join("tool.py"), "def backoff(n):\n    return 2 ** n\n").unwrap();
    fs::write(folder.path().join("logo.bin"), [0, 1, 2]).unwrap();
    folder
}

fn paths(found: &Value) -> Vec<&str> {
    let matches = found["matches"].as_array().expect("matches");
    matches.iter().map(|found| found["path"].as_str().expect("a path").rsplit('/').next().unwrap()).collect()
}

/// Takes the table away from everybody else: searches wait until the session's transaction ends.
fn lock(server: &LocalPostgres) -> Client {
    let mut session = server.client().unwrap();
    session.query("BEGIN; LOCK TABLE code_search.file IN ACCESS EXCLUSIVE MODE").unwrap();
    session
}

/// A search that waits in the database.
fn blocked_search(host: &mut Host, server: &LocalPostgres, name: &str) -> u64 {
    let call = host.begin_call("search_code", json!({"query": "backoff"}));
    server.wait_until("a search waits for the lock", || {
        let backends = server.backends(name).unwrap();
        backends.iter().any(|backend| backend.wait_event.starts_with("Lock/"))
    });
    call
}

/// the protocol, both tools, what is incremental, and the pool's health.
#[test]
fn a_folder_is_indexed_and_searched() {
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    let mut host = Host::start(&url(&server, "mcp-search"), folder.path(), &[]);
    assert_eq!(host.initialize()["serverInfo"]["name"], "code_search");
    let tools = host.request("tools/list", json!({})).unwrap();
    let names: Vec<&str> =
        tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["index_folder", "index_status", "search_code"]);
    let resources = host.request("resources/list", json!({})).unwrap();
    assert_eq!(resources["resources"][0]["uri"], "health://connection-pool");
    assert_eq!(resources["resources"][1]["uri"], "metrics://prometheus");

    let counts = |indexed: &Value| {
        ["added", "changed", "unchanged", "removed", "skipped"].map(|field| indexed[field].as_u64().unwrap())
    };
    let indexed = host.call("index_folder", json!({"folder": "."})).unwrap();
    assert_eq!((counts(&indexed), &indexed["complete"]), ([3, 0, 0, 0, 1], &json!(true)));
    let found = host.call("search_code", json!({"query": "backoffDelay"})).unwrap();
    assert_eq!(paths(&found), ["backoff.rs"]);
    assert_eq!((&found["matches"][0]["line"], &found["matches"][0]["language"]), (&json!(1), &json!("rust")));
    assert!(found["matches"][0]["snippet"].as_str().unwrap().contains("fn backoff_delay"));
    assert_eq!(paths(&host.call("search_code", json!({"query": "backoff"})).unwrap()).len(), 3);
    assert_eq!(
        paths(&host.call("search_code", json!({"query": "backoff", "language": "python"})).unwrap()),
        ["tool.py"]
    );
    assert_eq!(paths(&host.call("search_code", json!({"query": "backoff -mod", "limit": 1})).unwrap()).len(), 1);
    assert!(paths(&host.call("search_code", json!({"query": "nowhere"})).unwrap()).is_empty());

    // Only what changed is written.
    fs::write(folder.path().join("src/lib.rs"), "pub struct Reservoir;\n").unwrap();
    fs::write(folder.path().join("src/new.rs"), "pub struct Weir;\n").unwrap();
    fs::remove_file(folder.path().join("tool.py")).unwrap();
    let indexed = host.call("index_folder", json!({"folder": "."})).unwrap();
    assert_eq!(counts(&indexed), [1, 1, 1, 1, 1]);
    assert_eq!(paths(&host.call("search_code", json!({"query": "reservoir or weir"})).unwrap()).len(), 2);
    let status = host.call("index_status", json!({})).unwrap();
    assert_eq!((&status["files"], &status["languages"][0]["language"]), (&json!(3), &json!("rust")));

    // What cannot be done is refused, and is not the database's fault: the answer says why.
    for (tool, arguments, why) in [
        ("search_code", json!({"query": "--"}), "no word"),
        ("search_code", json!({"query": "x", "limit": 0}), "1 to 50"),
        ("search_code", json!({}), "query"),
        ("index_folder", json!({"folder": "/"}), "--root"),
        ("index_folder", json!({"folder": "nowhere"}), "nowhere"),
    ] {
        let refusal = host.call(tool, arguments).unwrap_err();
        assert!(refusal["content"][0]["text"].as_str().unwrap().contains(why), "{tool}: {refusal}");
    }
    assert!(host.request("resources/read", json!({"uri": "health://nothing"})).is_err());
    let metrics = host.resource("metrics://prometheus");
    assert!(metrics.contains("db_client_connection_count{"), "{metrics}");
    let health = host.health();
    assert_eq!((&health["status"], &health["database"]["pool"]["max_size"]), (&json!("healthy"), &json!(3)));
    host.end_input();
    let ended = host.wait();
    assert!(ended.status.success(), "{}", ended.status);
    for field in ["timestamp", "level", "target", "message", "fields"] {
        assert!(ended.log.iter().all(|event| !event[field].is_null()), "{field}");
    }
    assert_eq!(ended.named("pgweir.init.done").len(), 1);
    assert_eq!(ended.named("code_search.ending")[0]["fields"]["reason"], "the end of the input");
}

/// while the database is down calls fail with what the pool knows, the server stays, and it recovers by
/// itself.
#[test]
fn a_crash_of_the_database_is_told_and_survived() {
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    let mut host = Host::start(&url(&server, "mcp-crash"), folder.path(), &[]);
    host.initialize();
    host.call("index_folder", json!({"folder": "."})).unwrap();

    // A crash in the middle of a call.
    let _session = lock(&server);
    let call = blocked_search(&mut host, &server, "mcp-crash");
    server.crash().unwrap();
    let error = host.end_call(call).unwrap_err();
    assert_eq!(error["data"]["details"]["error_type"], "connection_lost", "{error}");
    eventually("the pool knows", LIMIT, || host.health()["status"] == "unhealthy");
    let error = host.call("search_code", json!({"query": "backoff"})).unwrap_err();
    assert_eq!((&error["data"]["code"], &error["data"]["message"]), (&json!("DATABASE_ERROR"), &error["message"]));
    let details = &error["data"]["details"];
    assert_eq!(details["error_type"], "unavailable", "{error}");
    assert!(details["suggestion"].as_str().unwrap().contains("reconnects by itself"), "{error}");
    assert_eq!(details["pool_statistics"]["state"], "unhealthy", "{error}");
    assert!(details["pool_statistics"]["reconnect_attempts"].as_u64().unwrap() > 0, "{error}");
    assert_eq!(host.health()["database"]["status"], "disconnected");

    server.start_again().unwrap();
    eventually("it recovers", LIMIT, || host.call("search_code", json!({"query": "backoff"})).is_ok());
    eventually("it is healthy", LIMIT, || host.health()["state"] == "healthy" || host.health()["state"] == "degraded");
    host.signal(Signal::INT);
    let ended = host.wait();
    assert!(ended.status.success(), "{}", ended.status);
    for name in ["pgweir.connectivity.lost", "pgweir.reconnect.scheduled", "pgweir.connectivity.recovered"] {
        assert!(!ended.named(name).is_empty(), "no {name} in the log");
    }
    assert!(ended.named("code_search.call.failed").len() >= 2);
}

/// SIGTERM lets a call finish, takes no new one, and leaves nothing on the server.
#[test]
fn a_call_in_progress_is_finished_before_the_end() {
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    let mut host = Host::start(&url(&server, "mcp-drain"), folder.path(), &[]);
    host.initialize();
    host.call("index_folder", json!({"folder": "."})).unwrap();
    let session = lock(&server);
    let call = blocked_search(&mut host, &server, "mcp-drain");
    assert_eq!(host.health()["holders"][0]["span"], "search_code");
    host.signal(Signal::TERM);
    host.wait_for_event("code_search.ending");
    let refused = host.call("index_status", json!({})).unwrap_err();
    assert_eq!(refused["data"]["code"], "SHUTTING_DOWN", "{refused}");
    drop(session);
    assert_eq!(paths(&host.end_call(call).unwrap()).len(), 3);
    let ended = host.wait();
    assert!(ended.status.success(), "{}", ended.status);
    let fields = &ended.named("code_search.ended")[0]["fields"];
    assert_eq!((&fields["drained"], &fields["forced"]), (&json!(true), &json!(0)));
    assert_eq!(ended.named("pgweir.shutdown.done").len(), 1);
    server.wait_for_backends("mcp-drain", 0);
}

/// a call that does not end is cut off at the deadline, and says so; here after the end of the input.
#[test]
fn a_call_that_does_not_end_is_cut_off() {
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    let settings = [("POOL_SHUTDOWN_TIMEOUT", "500ms")];
    let mut host = Host::start(&url(&server, "mcp-forced"), folder.path(), &settings);
    host.initialize();
    host.call("index_folder", json!({"folder": "."})).unwrap();
    let _session = lock(&server);
    let call = blocked_search(&mut host, &server, "mcp-forced");
    host.end_input();
    let error = host.end_call(call).unwrap_err();
    assert_eq!(error["data"]["code"], "DATABASE_ERROR", "{error}");
    let ended = host.wait();
    assert!(ended.status.success(), "{}", ended.status);
    let fields = &ended.named("code_search.ended")[0]["fields"];
    assert_eq!((&fields["drained"], &fields["forced"]), (&json!(false), &json!(1)));
    let forced = ended.named("pgweir.shutdown.forced");
    assert!(forced[0]["fields"]["location"].as_str().unwrap().contains("database.rs"), "{}", forced[0]);
    server.wait_for_backends("mcp-forced", 0);
}

/// A call that the client cancels is cancelled in the database.
#[test]
fn a_cancelled_call_leaves_the_database() {
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    let mut host = Host::start(&url(&server, "mcp-cancel"), folder.path(), &[]);
    host.initialize();
    host.call("index_folder", json!({"folder": "."})).unwrap();
    let _session = lock(&server);
    let call = blocked_search(&mut host, &server, "mcp-cancel");
    host.cancel(call);
    server.wait_until("nobody waits for the lock", || {
        server.backends("mcp-cancel").unwrap().iter().all(|backend| backend.state == "idle")
    });
    eventually("the connection is back", LIMIT, || host.health()["database"]["pool"]["active"] == 0);
    host.end_input();
    assert!(host.wait().status.success());
}

/// a database that is down is no reason not to serve; one that refuses for good is, with a word in the log.
#[test]
fn the_database_may_come_later_but_not_refuse() {
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    server.stop_fast().unwrap();
    let settings = [("POOL_INIT_ATTEMPTS", "1")];
    let mut host = Host::start(&url(&server, "mcp-later"), folder.path(), &settings);
    host.initialize();
    let error = host.call("index_status", json!({})).unwrap_err();
    assert_eq!(error["data"]["details"]["error_type"], "unavailable", "{error}");
    server.start_again().unwrap();
    eventually("it serves", LIMIT, || host.call("index_folder", json!({"folder": "."})).is_ok());
    host.signal(Signal::TERM);
    let ended = host.wait();
    assert!(ended.status.success(), "{}", ended.status);
    assert_eq!(ended.named("code_search.database.absent").len(), 1);

    for (url, settings, why) in [
        (server.url_with("postgres", "hush-hush", "nosuch"), vec![], "nosuch"),
        (server.url(), vec![("POOL_MAX_SIZE", "none")], "POOL_MAX_SIZE"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let ended = Host::start(&url, folder.path(), &settings).wait();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.status);
        let last = ended.log.last().unwrap();
        assert_eq!((&last["name"], &last["level"]), (&json!("code_search.failed"), &json!("ERROR")), "{last}");
        assert!(last["message"].as_str().unwrap().contains(why), "{last}");
        assert!(!ended.log.iter().any(|event| event.to_string().contains("hush-hush")));
    }
}

/// with `--endpoint` the same over HTTP.
#[cfg(feature = "endpoint")]
#[test]
fn health_is_served_over_http_too() {
    use std::io::{Read, Write};
    let (server, folder) = (LocalPostgres::start().unwrap(), code());
    let settings = [("CODE_SEARCH_ENDPOINT", "127.0.0.1:0")];
    let mut host = Host::start(&url(&server, "mcp-http"), folder.path(), &settings);
    host.initialize();
    let event = host.wait_for_event("code_search.endpoint");
    let mut stream = std::net::TcpStream::connect(event["fields"]["address"].as_str().unwrap()).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"status\":\"healthy\""), "{answer}");
    host.end_input();
    assert!(host.wait().status.success());
}
