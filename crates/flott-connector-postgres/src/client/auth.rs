//! Proofs of a password: SCRAM-SHA-256 of RFC 5802 and 7677, and MD5 for servers that have not left it yet.

use super::PgError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

const KEY_BYTES: usize = 32;
/// A server that asks for more wants to keep us busy.
const ITERATIONS_MAX: u32 = 10_000_000;

/// The client's half of an exchange.
pub(crate) struct Scram {
    password: String,
    nonce: String,
    server_signature: Option<Vec<u8>>,
}

/// No channel binding: `n` says that this client has none.
const HEADER: &str = "n,,";

impl Scram {
    /// `nonce` is at random.
    pub(crate) fn new(password: &str, nonce: &[u8]) -> Self {
        Self { password: password.to_owned(), nonce: BASE64_STANDARD.encode(nonce), server_signature: None }
    }

    /// The server knows the user from the first message of the connection.
    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    pub(crate) fn first(&self) -> String {
        format!("{HEADER}{}", self.first_bare())
    }

    /// The proof, for the server's challenge.
    pub(crate) fn answer(&mut self, challenge: &str) -> Result<String, PgError> {
        let wrong = || PgError::Protocol("a challenge of SCRAM that is none".to_owned());
        let field =
            |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or_else(wrong);
        let (nonce, iterations) = (field("r=")?, field("i=")?.parse::<u32>().map_err(|_| wrong())?);
        let salt = BASE64_STANDARD.decode(field("s=")?).map_err(|_| wrong())?;
        let iterations =
            NonZeroU32::new(iterations).filter(|n| n.get() <= ITERATIONS_MAX).ok_or_else(wrong)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(wrong());
        }
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, self.password.as_bytes(), &mut salted);
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(HEADER));
        let signed = format!("{},{challenge},{without_proof}", self.first_bare());
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        self.server_signature = Some(sign(&sign(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)))
    }

    /// Whether the server knows the password, too.
    pub(crate) fn check(&self, last: &str) -> Result<(), PgError> {
        let signature = last.split(',').find_map(|part| part.strip_prefix("v="));
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok());
        if signature.is_some() && signature == self.server_signature {
            return Ok(());
        }
        Err(PgError::Protocol("a server that does not know the password itself".to_owned()))
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// What a server that has MD5 passwords asks for.
pub(crate) fn md5_answer(username: &str, password: &str, salt: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let inner = hex(&Md5::digest(format!("{password}{username}")));
    format!("md5{}", hex(&Md5::new().chain_update(inner).chain_update(salt).finalize()))
}

#[cfg(test)]
mod tests {
    use super::{Scram, md5_answer};
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    /// The example of RFC 7677, whose user name the server of PostgreSQL ignores.
    #[test]
    fn the_proof_is_that_of_the_standard() {
        let nonce = BASE64_STANDARD.decode("rOprNGfwEbeRWgbNEkqO").unwrap();
        let mut scram = Scram::new("pencil", &nonce);
        assert_eq!(scram.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = scram.answer(challenge).unwrap();
        assert!(
            answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="),
            "{answer}"
        );
        scram.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect_err("signed for another user");
        for challenge in
            ["", "r=other,s=,i=1", "r=rOprNGfwEbeRWgbNEkqO,s=,i=1", "r=rOprNGfwEbeRWgbNEkqOx,s=,i=0"]
        {
            scram.answer(challenge).expect_err("no challenge");
        }
        assert_eq!(
            md5_answer("md5_user", "password", &[0x2a, 0x3d, 0x8f, 0xe0]),
            "md562af4dd09bbb41884907a838a3233294"
        );
    }
}
