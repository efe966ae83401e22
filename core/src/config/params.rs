//! Connection parameters by libpq's names, before anybody has asked what they mean.
//!
//! A URL, a `key=value` string and the PG* variables all become [`Params`]; `resolve` reads them.

use std::collections::BTreeMap;

use super::error::{Problems, Source};
use super::fields::did_you_mean;

/// What is done with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// `resolve` reads it.
    Read,
    /// It asks for TLS, or for something about it.
    Tls,
    /// It cannot be honoured: rule and fix.
    Refused(&'static str, &'static str),
}

const NO_GSS: Use = Use::Refused("asks for GSSAPI, which is not supported", "remove it and log in with a password");
const NO_SERVICE: Use =
    Use::Refused("names a service file, which is not read", "write the service's parameters into the connection URL");
const NO_AUTH_RULES: Use =
    Use::Refused("restricts authentication in a way that is not supported", "remove it if that is acceptable");

/// Every parameter of libpq: its name, its variable if that is read, and what is done with it. See "Parameter Key
/// Words" and "Environment Variables" in PostgreSQL's manual.
pub(crate) const KEYWORDS: &[(&str, Option<&str>, Use)] = &[
    ("host", Some("PGHOST"), Use::Read),
    ("hostaddr", Some("PGHOSTADDR"), Use::Read),
    ("port", Some("PGPORT"), Use::Read),
    ("user", Some("PGUSER"), Use::Read),
    ("password", Some("PGPASSWORD"), Use::Read),
    ("passfile", Some("PGPASSFILE"), Use::Read),
    ("dbname", Some("PGDATABASE"), Use::Read),
    ("application_name", Some("PGAPPNAME"), Use::Read),
    ("fallback_application_name", None, Use::Read),
    ("options", Some("PGOPTIONS"), Use::Read),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT"), Use::Read),
    ("client_encoding", Some("PGCLIENTENCODING"), Use::Read),
    ("sslmode", Some("PGSSLMODE"), Use::Read),
    ("ssl", None, Use::Read),
    ("sslnegotiation", Some("PGSSLNEGOTIATION"), Use::Read),
    ("channel_binding", Some("PGCHANNELBINDING"), Use::Read),
    ("gssencmode", Some("PGGSSENCMODE"), Use::Read),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS"), Use::Read),
    ("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), Use::Read),
    ("keepalives", None, Use::Read),
    ("keepalives_idle", None, Use::Read),
    ("keepalives_interval", None, Use::Read),
    ("keepalives_count", None, Use::Read),
    ("tcp_user_timeout", None, Use::Read),
    ("sslcert", None, Use::Tls),
    ("sslcertmode", None, Use::Tls),
    ("sslcompression", None, Use::Tls),
    ("sslcrl", None, Use::Tls),
    ("sslcrldir", None, Use::Tls),
    ("sslkey", None, Use::Tls),
    ("sslpassword", None, Use::Tls),
    ("sslrootcert", None, Use::Tls),
    ("sslsni", None, Use::Tls),
    ("ssl_min_protocol_version", None, Use::Tls),
    ("ssl_max_protocol_version", None, Use::Tls),
    ("requiressl", Some("PGREQUIRESSL"), Use::Tls),
    ("service", Some("PGSERVICE"), NO_SERVICE),
    ("servicefile", None, NO_SERVICE),
    ("gssdelegation", None, NO_GSS),
    ("gsslib", None, NO_GSS),
    ("krbsrvname", None, NO_GSS),
    ("require_auth", Some("PGREQUIREAUTH"), NO_AUTH_RULES),
    ("requirepeer", Some("PGREQUIREPEER"), NO_AUTH_RULES),
    ("scram_client_key", None, NO_AUTH_RULES),
    ("scram_server_key", None, NO_AUTH_RULES),
    (
        "replication",
        None,
        Use::Refused("asks for a replication connection, which a pool cannot share", "remove it from the URL"),
    ),
];

/// One parameter.
#[derive(Clone)]
pub(crate) struct Param {
    pub(crate) value: String,
    pub(crate) source: Source,
    /// Whether the value may be quoted: it surely is no part of a password.
    pub(crate) clear: bool,
}

/// Parameters by name; an empty value is no value, as in libpq.
#[derive(Clone, Default)]
pub(crate) struct Params(BTreeMap<&'static str, Param>);

impl Params {
    /// A later value replaces an earlier one, as in libpq.
    pub(crate) fn set(&mut self, keyword: &'static str, value: String, source: &Source, clear: bool) {
        if value.is_empty() {
            self.0.remove(keyword);
            return;
        }
        self.0.insert(keyword, Param { value, source: source.clone(), clear: clear && !is_secret(keyword) });
    }

    pub(crate) fn get(&self, keyword: &str) -> Option<&Param> {
        self.0.get(keyword)
    }

    pub(crate) fn text(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(|param| param.value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Param)> {
        self.0.iter().map(|(keyword, param)| (*keyword, param))
    }

    /// These parameters, and those of `lower` that are missing here. An address without its host would lead away from
    /// the host that is named here, so it does not come along (libpq would take it).
    pub(crate) fn over(mut self, mut lower: Params) -> Params {
        if self.get("host").is_some() {
            lower.0.remove("hostaddr");
        }
        for (keyword, param) in lower.0 {
            self.0.entry(keyword).or_insert(param);
        }
        self
    }
}

fn is_secret(keyword: &str) -> bool {
    matches!(keyword, "password" | "sslpassword" | "scram_client_key" | "scram_server_key")
}

/// Takes parameters from a URL's query or a `key=value` string, and keeps track of what may be quoted: after a
/// password, a word may be the rest of one that was not escaped.
pub(crate) struct Reader<'a> {
    pub(crate) params: &'a mut Params,
    pub(crate) problems: &'a mut Problems,
    pub(crate) source: &'a Source,
    pub(crate) clear: bool,
}

impl Reader<'_> {
    pub(crate) fn set(&mut self, keyword: &str, value: String) {
        match KEYWORDS.iter().find(|(name, ..)| *name == keyword) {
            Some((name, ..)) => {
                self.params.set(name, value, self.source, self.clear);
                self.clear &= !is_secret(name);
            }
            None => self.unknown(keyword),
        }
    }

    pub(crate) fn refuse(&mut self, rule: &str, fix: &str) {
        self.problems.add_unshown(super::fields::DATABASE_URL, rule, fix, self.source);
    }

    fn unknown(&mut self, keyword: &str) {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let name = (self.clear && (1..=40).contains(&keyword.len()) && keyword.bytes().all(word)).then_some(keyword);
        let meant = did_you_mean(keyword, KEYWORDS.iter().map(|(name, ..)| *name));
        let fix = match (name, meant) {
            (Some(_), Some(meant)) => format!("did you mean {meant}?"),
            (None, _) => "check the parameters' names, and escape the password's special characters".to_owned(),
            (Some(_), None) => {
                "remove it; a server setting goes into options, such as options=-c%20search_path%3Dapp".to_owned()
            }
        };
        match name {
            Some(name) => self.problems.add_unshown(name, "is not a connection parameter", fix, self.source),
            None => self.refuse("has an unknown parameter", &fix),
        }
        self.clear &= !meant.is_some_and(is_secret);
    }
}

/// The parameters in the PG* variables.
pub(crate) fn from_variables(get: impl Fn(&str) -> Option<String>) -> Params {
    let mut params = Params::default();
    for (keyword, variable, _) in KEYWORDS {
        if let Some(variable) = variable
            && let Some(value) = get(variable)
        {
            params.set(keyword, value, &Source::Variable((*variable).to_owned()), true);
        }
    }
    params
}
