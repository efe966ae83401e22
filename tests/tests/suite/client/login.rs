//! Ways in: authentication, sockets, hosts, parameters.

use std::net::TcpListener;

use pgweir_core::error::OpenError;
use pgweir_core::pool::FaultClass;
use pgweir_tests::{Auth, LocalPostgres};

use crate::suite::common::{config, open, run, server, wait_for_backends};
use crate::suite::rt::{self, Config, Pool};

/// Issue 2, item 3: trust, cleartext, md5 and SCRAM, each with the right password, a wrong one and none. A refusal is
/// permanent, fails at once, and shows no password (PEERS 27, 46).
#[test]
fn every_authentication_method() {
    run(|trace| async move {
        for auth in [Auth::Trust, Auth::Password, Auth::Md5, Auth::ScramSha256] {
            let secret = "c0rrect hörse@/:battery";
            let server = LocalPostgres::builder().auth(auth).password(secret).start().unwrap();
            let pool = open(config(&server.url(), "login").max_size(1)).await;
            let mut client = pool.get().await.unwrap();
            assert_eq!(client.query_one("SELECT current_user::text", &[]).await.unwrap().get::<_, &str>(0), "postgres");
            drop(client);
            pool.close().await;
            if auth == Auth::Trust {
                continue;
            }
            trace.clear();
            let wrong = config(&server.url_with("postgres", "wr0ng", "postgres"), "login").build().unwrap();
            let error = Pool::builder(wrong).open().await.unwrap_err();
            let OpenError::Init { attempts } = &error else { panic!("{error}") };
            assert_eq!(attempts.len(), 1, "{auth:?}: not tried again: {attempts:?}");
            assert_eq!(attempts[0].class, FaultClass::Permanent);
            assert_eq!(attempts[0].sqlstate.unwrap().code(), "28P01", "{error}");
            let text = format!("{error} {error:?} {}", trace.tail(1000));
            assert!(!text.contains("wr0ng"), "{auth:?}: {text}");
            let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
            let error = Pool::builder(config(&url, "login").build().unwrap()).open().await.unwrap_err();
            assert!(error.to_string().contains("password"), "{auth:?}: {error}");
            wait_for_backends(&server, "login", 0).await;
        }
    });
}

/// A Unix socket, by folder and by URL.
#[test]
fn unix_sockets() {
    run(|_| async {
        let server = server();
        let by_folder =
            Config::builder().unix_socket(server.socket_dir(), server.port()).user("postgres").dbname("postgres");
        for builder in [by_folder, Config::builder().database_url(server.unix_url())] {
            let pool = open(builder.application_name("login-unix").max_size(1)).await;
            let mut client = pool.get().await.unwrap();
            let row = client.query_one("SELECT inet_client_addr() IS NULL", &[]).await.unwrap();
            assert!(row.get::<_, bool>(0), "not over TCP");
            // Cancels go the same way.
            let token = client.cancel_token().unwrap();
            let cancel = async {
                super::cancelling::running("login-unix", "pg_sleep(66)", 1).await;
                token.cancel().await.unwrap()
            };
            let (result, there) = rt::join(client.query("SELECT pg_sleep(66)", &[]), cancel).await;
            assert!(there);
            assert_eq!(super::sqlstate(result), "57014");
        }
    });
}

/// A name with several addresses, and several hosts: whichever answers serves.
#[test]
fn names_and_several_hosts() {
    run(|_| async {
        let server = server();
        let by_name = format!("postgres://postgres@localhost:{}/postgres", server.port());
        let pool = open(config(&by_name, "login-name").max_size(1)).await;
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        // A port that refuses: taken, and given up again.
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for order in [[dead, server.port()], [server.port(), dead]] {
            let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", order[0], order[1]);
            let pool = open(config(&url, "login-hosts").min_size(3)).await;
            let mut client = pool.get().await.unwrap();
            let row = client.query_one("SELECT inet_server_port()", &[]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), i32::from(server.port()));
            assert_eq!(order[usize::from(client.host().0)], server.port());
            pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        }
    });
}

/// A read-only server is not taken where a writing one is asked for.
#[test]
fn target_session_attrs() {
    run(|_| async {
        let standby = LocalPostgres::builder().setting("default_transaction_read_only", "on").start().unwrap();
        let parameter = |url: &str, value: &str| {
            config(url, "login-target").max_size(1).connection_parameter("target_session_attrs", value)
        };
        let builder = parameter(&standby.url(), "read-write").init_attempts(1);
        let error = Pool::builder(builder.build().unwrap()).open().await.unwrap_err();
        let OpenError::Init { attempts } = &error else { panic!("{error}") };
        assert_eq!(attempts[0].class, FaultClass::WrongRole, "{error}");
        open(parameter(&standby.url(), "any")).await.close().await;
        open(parameter(&standby.url(), "primary")).await.close().await;
        let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", standby.port(), server().port());
        let pool = open(parameter(&url, "read-write")).await;
        let mut client = pool.get().await.unwrap();
        assert_eq!(client.host().0, 1, "the second host takes writes");
        client.batch_execute("CREATE TEMP TABLE writes (a int)").await.unwrap();
    });
}

/// What the URL and the program say about the session reaches the server; what the server refuses says so.
#[test]
fn connection_parameters() {
    run(|_| async {
        let url = format!("{}?application_name=from%20url&options=-c%20work_mem%3D3MB", server().url());
        let builder = Config::builder().database_url(&url).max_size(1).setting("search_path", "pg_catalog");
        let pool = open(builder).await;
        let mut client = pool.get().await.unwrap();
        let sql =
            "SELECT current_setting('application_name'), current_setting('work_mem'), current_setting('search_path')";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!([0, 1, 2].map(|n| row.get::<_, String>(n)), ["from url", "3MB", "pg_catalog"]);
        // Set at the start of the session, they survive a reset.
        client.batch_execute("SET work_mem = '9MB'; RESET ALL").await.unwrap();
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(1), "3MB");

        let url = format!("{}?options=-c%20nosuch%3D1", server().url());
        let builder = Config::builder().database_url(&url).init_attempts(1);
        let error = Pool::builder(builder.build().unwrap()).open().await.unwrap_err();
        assert!(error.to_string().contains("nosuch"), "{error}");
    });
}

/// A key=value string as libpq takes it, and a database and user that need quoting.
#[test]
fn odd_names() {
    run(|_| async {
        let server = server();
        for sql in ["CREATE ROLE \"o'dd user\" LOGIN", "CREATE DATABASE \"o'dd db\" OWNER \"o'dd user\""] {
            server.query(sql).unwrap();
        }
        let text = format!("host=127.0.0.1 port={} user='o\\'dd user' dbname='o\\'dd db'", server.port());
        let pool = open(Config::builder().database_url(&text).application_name("login-odd").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        let row = client.query_one("SELECT current_user::text, current_database()::text", &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("o'dd user", "o'dd db"));
    });
}
