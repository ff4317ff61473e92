//! SCRAM, by which a client proves that it knows a password without sending it, and sees that the server knows it, too: the client's half of RFC 5802,
//! with SHA-256 (RFC 7677) and SHA-512.
//!
//! PostgreSQL and Kafka ask for it, each in messages of its own: here are only the texts in them. Channels are *not* bound, and passwords are taken as they
//! are, without SASLprep: those of printable ASCII are the same with it.

#![deny(missing_docs)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;

const NONCE_BYTES: usize = 18;
/// A server that asks for more wants to keep us busy.
const ITERATIONS_MAX: u32 = 10_000_000;
/// No channel binding: `n` says that this client has none.
const HEADER: &str = "n,,";

/// The hash of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramHash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn sign(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }
}

/// What the other side has said is no SCRAM, or it does not know the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScramError(&'static str);

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ScramError {}

const NO_CHALLENGE: ScramError = ScramError("a challenge of SCRAM that is none");

/// The client's half of one exchange: [`Scram::first`], [`Scram::answer`], [`Scram::check`].
pub struct Scram {
    hash: ScramHash,
    username: String,
    password: String,
    nonce: String,
    server_signature: Option<Vec<u8>>,
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram")
            .field("hash", &self.hash)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Scram {
    /// An exchange of its own, with a new nonce. Who has told the user's name before may leave it empty.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new(hash: ScramHash, username: &str, password: &str) -> Result<Self, ScramError> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| ScramError("the system has no randomness"))?;
        Ok(Self::with_nonce(hash, username, password, &nonce))
    }

    /// The same with this nonce, for tests.
    pub fn with_nonce(hash: ScramHash, username: &str, password: &str, nonce: &[u8]) -> Self {
        Self {
            hash,
            username: username.replace('=', "=3D").replace(',', "=2C"),
            password: password.to_owned(),
            nonce: BASE64_STANDARD.encode(nonce),
            server_signature: None,
        }
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.username, self.nonce)
    }

    /// What begins the exchange.
    pub fn first(&self) -> String {
        format!("{HEADER}{}", self.first_bare())
    }

    /// The proof, for the server's challenge.
    ///
    /// # Errors
    /// If it is none, or not for this exchange.
    pub fn answer(&mut self, challenge: &str) -> Result<String, ScramError> {
        let field =
            |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or(NO_CHALLENGE);
        let (nonce, iterations) = (field("r=")?, field("i=")?.parse::<u32>().map_err(|_| NO_CHALLENGE)?);
        let salt = BASE64_STANDARD.decode(field("s=")?).map_err(|_| NO_CHALLENGE)?;
        let iterations =
            NonZeroU32::new(iterations).filter(|n| n.get() <= ITERATIONS_MAX).ok_or(NO_CHALLENGE)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(NO_CHALLENGE);
        }
        let hash = self.hash;
        let mut salted = vec![0; hash.digest().output_len()];
        pbkdf2::derive(hash.pbkdf2(), iterations, &salt, self.password.as_bytes(), &mut salted);
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(HEADER));
        let signed = format!("{},{challenge},{without_proof}", self.first_bare());
        let client_key = hash.sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest(), &client_key);
        let signature = hash.sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        self.server_signature = Some(hash.sign(&hash.sign(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)))
    }

    /// Whether the server knows the password, too, as its last message says.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, last: &str) -> Result<(), ScramError> {
        let signature = last.split(',').find_map(|part| part.strip_prefix("v="));
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok());
        if signature.is_some() && signature == self.server_signature {
            return Ok(());
        }
        Err(ScramError("a server that does not know the password itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn scram(hash: ScramHash, username: &str) -> Scram {
        let nonce = BASE64_STANDARD.decode("rOprNGfwEbeRWgbNEkqO").unwrap();
        Scram::with_nonce(hash, username, "pencil", &nonce)
    }

    /// The example of RFC 7677.
    #[test]
    fn the_proof_is_that_of_the_standard() {
        let mut scram = scram(ScramHash::Sha256, "user");
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.answer(CHALLENGE).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        scram.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        scram.check("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect_err("another signature");
        scram.check("e=other-error").expect_err("an error");
    }

    #[test]
    fn what_is_no_challenge_is_an_error() {
        let nonce = "r=rOprNGfwEbeRWgbNEkqO";
        for challenge in ["", "r=other,s=,i=1", &format!("{nonce},s=,i=1"), &format!("{nonce}x,s=,i=0")] {
            scram(ScramHash::Sha512, "user").answer(challenge).expect_err("no challenge");
        }
    }

    #[test]
    fn names_are_escaped_and_passwords_never_shown() {
        let scram = scram(ScramHash::Sha512, "a=b,c");
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO");
        assert!(!format!("{scram:?}").contains("pencil"));
    }
}
