//! Proofs of a password: MD5 and SCRAM-SHA-256, the server's side.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::error::PgError;

type Hash = [u8; 32];

/// What a client answers to an MD5 challenge.
pub(super) fn md5_answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    let hex = |parts: &[&[u8]]| {
        let mut hash = Md5::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let inner = hex(&[password.as_bytes(), user.as_bytes()]);
    format!("md5{}", hex(&[inner.as_bytes(), &salt]))
}

/// What a server keeps of a password (RFC 5802).
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    salt: [u8; 16],
    iterations: u32,
    stored_key: Hash,
    server_key: Hash,
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hash {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn xor(one: &Hash, other: &Hash) -> Hash {
    std::array::from_fn(|index| one[index] ^ other[index])
}

impl Verifier {
    pub(super) fn new(password: &str, salt: [u8; 16], iterations: u32) -> Self {
        let mut block = hmac(password.as_bytes(), &[&salt, &1u32.to_be_bytes()]);
        let mut salted = block;
        for _ in 1..iterations {
            block = hmac(password.as_bytes(), &[&block]);
            salted = xor(&salted, &block);
        }
        Verifier {
            salt,
            iterations,
            stored_key: sha256(&hmac(&salted, &[b"Client Key"])),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }
}

/// An exchange whose first message was answered.
#[derive(Debug)]
pub(super) struct Scram {
    verifier: Verifier,
    client_first: String,
    server_first: String,
    nonce: String,
    /// What the last message must repeat: the header of the first, in base64.
    binding: String,
}

fn malformed(what: &str) -> PgError {
    PgError::violation(format!("malformed SCRAM message ({what})"))
}

impl Scram {
    /// Takes the client's first message; the server's answer is [`Scram::challenge`].
    pub(super) fn begin(data: &[u8], verifier: Verifier, nonce: &[u8; 18]) -> Result<Scram, PgError> {
        let text = std::str::from_utf8(data).map_err(|_| malformed("encoding"))?;
        let mut parts = text.splitn(3, ',');
        let (flag, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        match flag {
            "n" | "y" => {}
            _ => return Err(PgError::violation("unexpected channel-binding flag in SCRAM message")),
        }
        if !name.is_empty() {
            return Err(PgError::fatal("0A000", "client uses authorization identity, but it is not supported"));
        }
        let bare = parts.next().ok_or_else(|| malformed("no user name"))?;
        let mut attributes = bare.split(',');
        attributes.next().filter(|user| user.starts_with("n=")).ok_or_else(|| malformed("no user name"))?;
        let client_nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let client_nonce = client_nonce.filter(|nonce| !nonce.is_empty()).ok_or_else(|| malformed("no nonce"))?;
        let nonce = format!("{client_nonce}{}", BASE64_STANDARD.encode(nonce));
        let salt = BASE64_STANDARD.encode(verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let binding = BASE64_STANDARD.encode(format!("{flag},,"));
        Ok(Scram { verifier, client_first: bare.to_owned(), server_first, nonce, binding })
    }

    pub(super) fn challenge(&self) -> &[u8] {
        self.server_first.as_bytes()
    }

    /// Takes the client's last message. The server's own proof, or `None` for a wrong password.
    pub(super) fn finish(&self, data: &[u8]) -> Result<Option<String>, PgError> {
        let text = std::str::from_utf8(data).map_err(|_| malformed("encoding"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| malformed("no proof"))?;
        if without_proof != format!("c={},r={}", self.binding, self.nonce) {
            return Err(malformed("channel binding or nonce"));
        }
        let proof = BASE64_STANDARD.decode(proof).map_err(|_| malformed("proof"))?;
        let proof: Hash = proof.try_into().map_err(|_| malformed("proof"))?;
        let message =
            [self.client_first.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let client_key = xor(&proof, &hmac(&self.verifier.stored_key, &message));
        if sha256(&client_key) != self.verifier.stored_key {
            return Ok(None);
        }
        let signature = hmac(&self.verifier.server_key, &message);
        Ok(Some(format!("v={}", BASE64_STANDARD.encode(signature))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn scram_agrees_with_the_standard() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = Verifier::new("pencil", salt.try_into().expect("16 bytes"), 4096);
        let mut scram = Scram::begin(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", verifier, &[0; 18]).expect("first");
        scram.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        scram.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", scram.nonce);
        let last = format!("c=biws,r={},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", scram.nonce);
        let proof = scram.finish(last.as_bytes()).expect("well-formed");
        assert_eq!(proof.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        let wrong = last.replace("p=dHzb", "p=dHzc");
        assert_eq!(scram.finish(wrong.as_bytes()).expect("well-formed"), None);
    }

    #[test]
    fn what_is_no_scram_is_refused() {
        let begin = |data: &[u8]| Scram::begin(data, Verifier::new("x", [0; 16], 1), &[0; 18]).map(drop);
        for bad in [&b""[..], b"n", b"n,,", b"p=tls-unique,,n=,r=x", b"n,a=b,n=,r=x", b"n,,n=,r=", b"n,,r=x", b"\xff"] {
            assert!(begin(bad).is_err(), "{bad:?}");
        }
        assert!(begin(b"y,,n=,r=x").is_ok());
    }

    #[test]
    fn md5_is_salted_twice() {
        assert_eq!(md5_answer("u", "p", [1, 2, 3, 4]).len(), 35);
        assert_ne!(md5_answer("u", "p", [1, 2, 3, 4]), md5_answer("u", "p", [1, 2, 3, 5]));
    }
}
