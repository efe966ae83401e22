//! Values of every kind go both ways.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use pgweir_core::client::Error;
use postgres_types::{FromSql, FromSqlOwned, IsNull, Kind, ToSql, Type, accepts, private::BytesMut, to_sql_checked};

use super::{named, single};
use crate::suite::common::run;
use crate::suite::rt::Client;

/// Sends a value, asks the server how it reads it, and takes it back; then the same with NULL.
#[track_caller]
fn both_ways<'c, T>(
    client: &'c mut Client,
    sql_type: &'c str,
    value: T,
    text: &'c str,
) -> impl Future<Output = ()> + use<'c, T>
where
    T: ToSql + FromSqlOwned + PartialEq + Debug + Sync + 'c,
{
    let caller = std::panic::Location::caller();
    async move {
        let sql = format!("SELECT $1::{sql_type}, ($1::{sql_type})::text, $1 IS NULL");
        let row = client.query_one(&sql, &[&value]).await.unwrap_or_else(|error| panic!("{caller}: {error}"));
        assert_eq!(row.get::<_, T>(0), value, "{sql_type} at {caller}");
        assert_eq!(row.get::<_, String>(1), text, "{sql_type} at {caller}");
        let null: Option<T> = None;
        let row = client.query_one(&sql, &[&null]).await.unwrap_or_else(|error| panic!("{caller}: {error}"));
        assert_eq!((row.get::<_, Option<T>>(0), row.get::<_, bool>(2)), (null, true), "NULL of {sql_type}");
    }
}

/// DESIGN 5: values are postgres-types's, so every type that it knows goes both ways, NULL included.
#[test]
fn built_in_types() {
    run(|_| async {
        let (_pool, mut lease) = single("types").await;
        let client = &mut *lease;
        both_ways(client, "bool", true, "true").await;
        both_ways(client, "\"char\"", b'x' as i8, "x").await;
        both_ways(client, "int2", i16::MIN, "-32768").await;
        both_ways(client, "int4", i32::MAX, "2147483647").await;
        both_ways(client, "int8", i64::MIN, "-9223372036854775808").await;
        both_ways(client, "oid", u32::MAX, "4294967295").await;
        both_ways(client, "float4", 1.5f32, "1.5").await;
        both_ways(client, "float8", f64::INFINITY, "Infinity").await;
        both_ways(client, "text", "grüße, 世界, 🦀, 'quoted' \\ ".to_owned(), "grüße, 世界, 🦀, 'quoted' \\ ").await;
        both_ways(client, "varchar", String::new(), "").await;
        both_ways(client, "name", "a name".to_owned(), "a name").await;
        both_ways(client, "bytea", vec![0u8, 1, 255, b'\''], "\\x0001ff27").await;
        both_ways(client, "inet", "10.1.2.3".parse::<IpAddr>().unwrap(), "10.1.2.3/32").await;
        both_ways(client, "int4[]", vec![1, -2, 3], "{1,-2,3}").await;
        both_ways(client, "int8[]", Vec::<i64>::new(), "{}").await;
        both_ways(client, "text[]", vec![Some("a,b".to_owned()), None], "{\"a,b\",NULL}").await;
        both_ways(client, "bytea[]", vec![vec![1u8], vec![]], "{\"\\\\x01\",\"\\\\x\"}").await;
        let json = serde_json::json!({"a": [1, null, "x"], "b": {"c": 1.5}});
        both_ways(client, "json", json.clone(), "{\"a\":[1,null,\"x\"],\"b\":{\"c\":1.5}}").await;
        both_ways(client, "jsonb", json, "{\"a\": [1, null, \"x\"], \"b\": {\"c\": 1.5}}").await;
        client.batch_execute("SET timezone = 'UTC'").await.unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        both_ways(client, "timestamptz", time, "2023-11-14 22:13:20.25+00").await;
    });
}

/// A number that Rust has no type for travels as text; NaN is itself, though not equal to itself.
#[test]
fn numeric_as_text_and_nan() {
    run(|_| async {
        let (_pool, mut client) = single("types-numeric").await;
        let digits = "12345678901234567890.123456789012345678901234567890";
        let sql = "SELECT ($1::text::numeric + 1)::text, $2::float8";
        let row = client.query_one(sql, &[&digits, &f64::NAN]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "12345678901234567891.123456789012345678901234567890");
        assert!(row.get::<_, f64>(1).is_nan());
        // Asked for as it is, it is refused with a word of advice, not misread.
        let row = client.query_one("SELECT 1.5::numeric AS price", &[]).await.unwrap();
        let error = row.try_get::<_, f64>("price").unwrap_err();
        assert!(matches!(&error, Error::FromSql { column: 0, name, .. } if name == "price"), "{error:?}");
        assert!(error.to_string().contains("numeric"), "{error}");
    });
}

#[derive(Debug, Clone, PartialEq, ToSql, FromSql)]
#[postgres(name = "mood")]
enum Mood {
    #[postgres(name = "sad")]
    Sad,
    #[postgres(name = "very happy")]
    VeryHappy,
}

#[derive(Debug, Clone, PartialEq, ToSql, FromSql)]
#[postgres(name = "positive")]
struct Positive(i32);

#[derive(Debug, Clone, PartialEq, ToSql, FromSql)]
#[postgres(name = "reading")]
struct Reading {
    mood: Mood,
    level: Positive,
    history: Vec<Mood>,
    note: Option<String>,
}

/// The schema of one test: made anew, and first in the search path of the connection.
async fn schema(client: &mut Client, name: &str) {
    let sql = format!(
        "DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}; SET search_path = {name}, public;
         CREATE TYPE mood AS ENUM ('sad', 'very happy');
         CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE TYPE reading AS (mood mood, level positive, history mood[], note text);
         CREATE TYPE span AS RANGE (subtype = float8);
         CREATE DOMAIN readings AS reading[]"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// DESIGN 5: enums, domains, composites and their arrays are looked up when a statement uses them.
#[test]
fn user_defined_types() {
    run(|_| async {
        let (_pool, mut lease) = single("types-user").await;
        let client = &mut *lease;
        schema(client, "types_user").await;
        both_ways(client, "mood", Mood::VeryHappy, "very happy").await;
        both_ways(client, "mood[]", vec![Mood::Sad, Mood::VeryHappy], "{sad,\"very happy\"}").await;
        let reading =
            Reading { mood: Mood::Sad, level: Positive(3), history: vec![Mood::VeryHappy], note: Some("é".into()) };
        both_ways(client, "reading", reading.clone(), "(sad,3,\"{\"\"very happy\"\"}\",é)").await;
        both_ways(client, "reading[]", vec![reading.clone()], "{\"(sad,3,\\\"{\\\"\\\"very happy\\\"\\\"}\\\",é)\"}")
            .await;
        // A domain over an array of a composite whose fields are an enum, a domain and an array.
        let row = client.query_one("SELECT $1::reading[]::readings", &[&vec![reading.clone()]]).await.unwrap();
        assert_eq!(row.get::<_, Vec<Reading>>(0), [reading]);
        // The server's own rules hold for parameters.
        let error = client.query("SELECT $1::int::positive", &[&-1]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23514", "{error}");
    });
}

/// The description of a type has its name, schema and parts, and is learned once per pool.
#[test]
fn types_are_described_and_shared() {
    run(|_| async {
        let pool = super::open(named("types-shared").min_size(2)).await;
        let (mut first, mut second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        schema(&mut first, "types_shared").await;
        let sql = "SELECT 'sad'::mood, '[1,2)'::span, ROW('sad', 1, '{}', NULL)::reading, ARRAY['sad'::mood]";
        let row = first.query_one(sql, &[]).await.unwrap();
        let types: Vec<Type> = row.columns().iter().map(|column| column.type_().clone()).collect();
        assert_eq!((types[0].name(), types[0].schema()), ("mood", "types_shared"));
        assert!(matches!(types[0].kind(), Kind::Enum(labels) if *labels == ["sad", "very happy"]));
        assert!(matches!(types[1].kind(), Kind::Range(subtype) if *subtype == Type::FLOAT8));
        let Kind::Composite(fields) = types[2].kind() else { panic!("{:?}", types[2]) };
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        assert_eq!(names, ["mood", "level", "history", "note"]);
        assert!(matches!(fields[1].type_().kind(), Kind::Domain(base) if *base == Type::INT4));
        assert!(matches!(types[3].kind(), Kind::Array(element) if *element == types[0]));
        // The second connection knows them from the first: it has prepared nothing but the statement itself.
        second.batch_execute("SET search_path = types_shared").await.unwrap();
        let row = second.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, Mood>(0), Mood::Sad);
        let misses = second.statement_cache().misses;
        assert_eq!(misses, 1, "one statement, no look-up of types");
    });
}

/// A base type from elsewhere, as an extension brings it: any Rust type that accepts it by name can read and write it.
#[derive(Debug, PartialEq)]
struct Weird(String);

impl<'a> FromSql<'a> for Weird {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Weird(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(type_: &Type) -> bool {
        type_.name() == "weird" && *type_.kind() == Kind::Simple
    }
}

impl ToSql for Weird {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(type_: &Type) -> bool {
        <Weird as FromSql>::accepts(type_)
    }

    to_sql_checked!();
}

/// DESIGN 5: pgvector and friends just work. A base type that nobody here has heard of is such a friend.
#[test]
fn an_extensions_type() {
    run(|_| async {
        let (_pool, mut lease) = single("types-extension").await;
        let client = &mut *lease;
        client
            .batch_execute(
                "DROP SCHEMA IF EXISTS ext CASCADE; CREATE SCHEMA ext; SET search_path = ext, public;
                 CREATE TYPE weird;
                 CREATE FUNCTION weird_in(cstring) RETURNS weird LANGUAGE internal IMMUTABLE STRICT AS 'textin';
                 CREATE FUNCTION weird_out(weird) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
                 CREATE FUNCTION weird_recv(internal) RETURNS weird LANGUAGE internal IMMUTABLE STRICT AS 'textrecv';
                 CREATE FUNCTION weird_send(weird) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'textsend';
                 CREATE TYPE weird (INPUT = weird_in, OUTPUT = weird_out, RECEIVE = weird_recv, SEND = weird_send,
                                    LIKE = text);
                 CREATE TABLE things (thing weird)",
            )
            .await
            .unwrap();
        both_ways(client, "weird", Weird("vec[1,2]".into()), "vec[1,2]").await;
        let both = vec![Some(Weird("a".into())), None];
        assert_eq!(client.execute("INSERT INTO things SELECT unnest($1::weird[])", &[&both]).await.unwrap(), 2);
        let rows = client.query("SELECT thing FROM things ORDER BY thing::text", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<Option<Weird>>>(), both);
    });
}

/// Takes any value as the bytes it is.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    accepts!(INT4_RANGE, RECORD, UNKNOWN);
}

/// What postgres-types has no Rust type for can still be read: a range, an anonymous record.
#[test]
fn ranges_and_records_as_bytes() {
    run(|_| async {
        let (_pool, mut client) = single("types-raw").await;
        let row = client.query_one("SELECT int4range(3, 7), ROW(1, 'x'::text)", &[]).await.unwrap();
        let Raw(range) = row.get(0);
        // Flags (lower bound included), then each bound with its length.
        assert_eq!(range, [&[2, 0, 0, 0, 4, 0, 0, 0, 3][..], &[0, 0, 0, 4, 0, 0, 0, 7]].concat());
        let Raw(record) = row.get(1);
        assert_eq!(&record[..12], [0, 0, 0, 2, 0, 0, 0, 23, 0, 0, 0, 4], "two fields, the first an int4");
    });
}

/// A value or parameter of the wrong type is an error that says which, and leaves the connection as it was.
#[test]
fn conversions_that_fail() {
    run(|_| async {
        let (_pool, mut client) = single("types-wrong").await;
        let row = client.query_one("SELECT 1 AS one, NULL::text AS nothing, 'x' AS \"Text\"", &[]).await.unwrap();
        assert!(matches!(row.try_get::<_, String>("one"), Err(Error::FromSql { column: 0, .. })));
        let error = row.try_get::<_, String>("nothing").unwrap_err();
        assert!(error.to_string().contains("Option"), "{error}");
        let error = row.try_get::<_, i32>(3).unwrap_err();
        assert!(matches!(error, Error::Column { columns: 3, .. }), "{error}");
        let error = row.try_get::<_, i32>("two").unwrap_err();
        assert!(matches!(&error, Error::Column { index, columns: 3 } if index == "two"), "{error}");
        assert_eq!(row.get::<_, &str>("text"), "x", "a name of another case, where no exact one is");

        let error = client.query("SELECT $1::int, $2::int", &[&1, &"no number"]).await.unwrap_err();
        assert!(matches!(error, Error::ToSql { index: 1, .. }), "{error:?}");
        assert!(error.to_string().contains("$2"), "{error}");
        let error = client.query("SELECT $1::int, $2::int", &[&1]).await.unwrap_err();
        assert!(matches!(error, Error::ParameterCount { expected: 2, given: 1 }), "{error}");
        let error = client.query("SELECT $1", &[&"text with a \0 in it"]).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some("22021"), "{error}");
        assert_eq!(client.query_one("SELECT $1::int", &[&7]).await.unwrap().get::<_, i32>(0), 7);
    });
}

/// A parameter's type can be given instead of inferred.
#[test]
fn typed_parameters() {
    run(|_| async {
        let (_pool, mut client) = single("types-given").await;
        let statement = client.prepare_typed("SELECT $1 || $2::text", &[Type::TEXT]).await.unwrap();
        assert_eq!(statement.params(), [Type::TEXT, Type::TEXT]);
        assert_eq!(client.query_one(&statement, &[&"a", &"b"]).await.unwrap().get::<_, &str>(0), "ab");
        let statement = client.prepare_typed("SELECT $1", &[Type::INT8]).await.unwrap();
        assert_eq!(client.query_one(&statement, &[&5i64]).await.unwrap().get::<_, i64>(0), 5);
        // The same text with another type is another statement.
        let other = client.prepare_typed("SELECT $1", &[Type::BOOL]).await.unwrap();
        assert!(client.query_one(&other, &[&true]).await.unwrap().get::<_, bool>(0));
        assert_eq!(client.query_one(&statement, &[&6i64]).await.unwrap().get::<_, i64>(0), 6);
        let counts: BTreeMap<&str, usize> =
            [("columns", statement.columns().len()), ("params", statement.params().len())].into();
        assert_eq!(counts, BTreeMap::from([("columns", 1), ("params", 1)]));
    });
}
