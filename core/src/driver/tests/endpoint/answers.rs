//! Each page, of a pool in each state.

use std::time::Duration;

use super::super::{Held, World};
use super::rig::{Answer, Rig};
use crate::endpoint::{Endpoint, ServeError};

#[test]
fn every_page_of_the_list_is_there() {
    let mut rig = Rig::new();
    let index = rig.get("/").json();
    assert_eq!(index["pools"], serde_json::json!(["shop"]));
    let pages: Vec<&String> = index["pages"].as_object().expect("a list").keys().collect();
    assert_eq!(pages, ["/", "/debug/pool", "/health", "/health/live", "/health/ready", "/metrics", "/stats"]);
    for page in pages {
        let answer = rig.get(page);
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        for header in ["cache-control: no-store", "x-content-type-options: nosniff", "date: "] {
            assert!(answer.head.contains(header), "{page}: {answer:?}");
        }
        assert_eq!(rig.get(&format!("{page}?what=else")).status, 200);
    }
}

#[test]
fn documents_are_those_of_the_pool() {
    let mut rig = Rig::new();
    let _lease = rig.world.lease(&rig.pool);
    assert_eq!(rig.get("/health").json(), serde_json::to_value(rig.pool.health()).unwrap());
    assert_eq!(rig.get("/stats").json(), serde_json::to_value(rig.pool.stats()).unwrap());
    assert_eq!(rig.get("/debug/pool").json(), serde_json::to_value(rig.pool.debug_report(50)).unwrap());
    assert_eq!(rig.get("/debug/pool/?limit=1").json(), serde_json::to_value(rig.pool.debug_report(1)).unwrap());
    assert_eq!(rig.get("/debug/pool?limit=999999999").status, 200);
    let refused = rig.get("/debug/pool?limit=-1");
    assert_eq!((refused.status, &refused.json()["error"]), (400, &"bad request".into()));
}

#[test]
fn metrics_come_in_the_format_that_is_taken() {
    let mut rig = Rig::new();
    let usual = rig.get("/metrics");
    assert!(
        usual.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{usual:?}"
    );
    assert!(usual.body.ends_with("# EOF\n") && usual.body.contains("_pool_name=\"shop\""));
    let old = rig.ask("GET /metrics HTTP/1.1\r\nhost: h\r\naccept: text/plain;version=0.0.4\r\n\r\n");
    assert!(old.head.contains("content-type: text/plain; version=0.0.4"), "{old:?}");
    assert!(old.body.contains("# TYPE pgweir_queries_total counter") && !old.body.contains("# EOF"));
}

/// What a load balancer and an orchestrator see from the pool's birth to its end.
#[test]
fn codes_follow_the_pool() {
    let mut rig = Rig::new();
    let codes = |rig: &mut Rig| ["/health", "/health/ready", "/health/live"].map(|page| rig.get(page).status);
    assert_eq!(codes(&mut rig), [200, 200, 200]);
    rig.world.toy.line().refuses.insert(0);
    rig.world.toy.kill(1);
    rig.world.run();
    assert_eq!(rig.pool.health().state.as_str(), "unhealthy");
    assert_eq!(codes(&mut rig), [503, 503, 200], "without a database");
    assert_eq!(rig.get("/health").json()["outage"]["cause"], "refused");
    assert_eq!(rig.get("/metrics").status, 200);
    rig.world.toy.line().refuses.clear();
    rig.pass(20);
    rig.pool.pause();
    assert_eq!(rig.pool.health().status.as_str(), "degraded");
    assert_eq!(codes(&mut rig), [200, 200, 200], "degraded");
    // Its last handle is dropped: to be shown does not keep a pool open.
    let Rig { world, pool, door, serving } = rig;
    let other = World::default().pool(0, 1);
    let mut rig = Rig { world, pool: other, door, serving };
    drop(pool);
    rig.world.run();
    assert_eq!(codes(&mut rig), [503, 503, 200], "ended");
    assert_eq!(rig.get("/health").json()["state"], "terminated");
}

#[test]
fn what_is_not_there_is_answered_with_a_hint() {
    let mut rig = Rig::new();
    for path in ["/healthz", "/health/live/now", "/%00", "/metrics/../health", "/debug"] {
        let answer = rig.get(path);
        assert_eq!((answer.status, &answer.json()["error"]), (404, &"not found".into()), "{path}");
        assert!(answer.json()["hint"].as_str().is_some_and(|hint| hint.contains("GET / lists")));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let answer = rig.ask(&format!("{method} /health HTTP/1.1\r\nhost: h\r\n\r\n"));
        assert_eq!((answer.status, &answer.json()["error"]), (405, &"method not allowed".into()), "{method}");
        assert!(answer.head.contains("allow: get, head"), "{answer:?}");
    }
    let unknown = rig.get("/health?pool=shoe%20store");
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["hint"].as_str().is_some_and(|hint| hint.ends_with("there are: shop")), "{unknown:?}");
    assert_eq!(rig.get("/health?pool=sh%6Fp&pool=other").status, 200, "the first counts");
}

#[test]
fn head_says_what_get_would_without_its_body() {
    let mut rig = Rig::new();
    for page in ["/", "/health", "/metrics", "/nothing"] {
        let get = rig.get(page);
        let head = rig.ask(&format!("HEAD {page} HTTP/1.1\r\nhost: h\r\n\r\n"));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{page}");
        // The clock goes on between the two.
        let undated = |head: &str| head.lines().filter(|line| !line.starts_with("date: ")).collect::<String>();
        assert_eq!(undated(&head.head), undated(&get.head), "{page}");
        assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{page}: {head:?}");
    }
}

#[test]
fn several_pools_are_told_apart() {
    let mut world = World::default();
    let (sick, second) = (world.pool(0, 3), world.pool(1, 3));
    let mut rig = Rig::with(|endpoint| endpoint.pool("a \"b\"\\c", &second).pool("sick", &sick));
    assert_eq!(rig.get("/health").status, 200);
    assert!(Held::new(sick.close_timeout(Duration::ZERO)).poll().is_ready(), "nothing is open");
    let health = rig.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (503, &"unhealthy".into()), "the worst of them");
    assert_eq!(health.json()["pools"]["shop"]["status"], "healthy");
    assert_eq!(rig.get("/health?pool=shop").json()["status"], "healthy");
    assert_eq!(rig.get("/health?pool=sick").status, 503);
    let ready = rig.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["pools"]["shop"]), (503, &"healthy".into()));
    assert_eq!(rig.get("/stats").json()["pools"]["a \"b\"\\c"]["max_size"], 3);
    assert_eq!(rig.get("/debug/pool").json()["pools"]["sick"]["active"], 0);
    let metrics = rig.get("/metrics").body;
    assert!(
        metrics.contains(r#"db_client_connection_max{db_client_connection_pool_name="a \"b\"\\c"} 3"#),
        "{metrics}"
    );
    let ask_for_two = |name: &str| {
        let endpoint = Endpoint::bind_on(rig.door.clone(), "127.0.0.1:0").pool("one", &sick).pool(name, &second);
        Held::new(endpoint.serve()).poll()
    };
    let std::task::Poll::Ready(Err(ServeError::SameName(name))) = ask_for_two("one") else { panic!("refused") };
    assert_eq!(name, "one");
}

#[test]
fn an_endpoint_that_cannot_work_says_why() {
    let rig = Rig::new();
    let refusal = |endpoint: Endpoint<super::rig::Door>| match Held::new(endpoint.serve()).poll() {
        std::task::Poll::Ready(Err(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let at = |address: &str| Endpoint::bind_on(rig.door.clone(), address);
    assert_eq!(refusal(at("127.0.0.1:0")), "the endpoint has no pool to show: add one with `pool`");
    for address in ["nonsense", "host:port", "host:99999", "127.0.0.1", "::1", ":9187"] {
        let said = refusal(at(address).pool("shop", &rig.pool));
        assert!(said.contains("not a host and a port") && said.contains(address), "{said}");
    }
    let said = refusal(at("unknown.example:80").pool("shop", &rig.pool));
    assert!(said.starts_with("the endpoint cannot listen at unknown.example:80: "), "{said}");
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let mut rig = Rig::new();
    let client = rig.client();
    let paths = ["/health/live", "/nothing", "/health/live", "/stats"];
    let requests: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n")).collect();
    client.send(requests.as_bytes());
    rig.world.run();
    let answers = client.take();
    let codes: Vec<u16> =
        answers.split("HTTP/1.1 ").skip(1).map(|answer| Answer::parse(&format!("HTTP/1.1 {answer}")).status).collect();
    assert_eq!(codes, [200, 404, 200, 200]);
    assert!(!client.is_closed());
    client.send(b"GET /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    rig.world.run();
    assert_eq!(Answer::parse(&client.take()).status, 200);
    assert!(client.has_ended());
}
