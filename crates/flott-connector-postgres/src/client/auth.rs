//! Proofs of a password for servers that have not left MD5 yet; SCRAM is in `flott-scram`.

use md5::{Digest, Md5};

/// What a server that has MD5 passwords asks for.
pub(crate) fn md5_answer(username: &str, password: &str, salt: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let inner = hex(&Md5::digest(format!("{password}{username}")));
    format!("md5{}", hex(&Md5::new().chain_update(inner).chain_update(salt).finalize()))
}

#[cfg(test)]
mod tests {
    use super::md5_answer;

    #[test]
    fn the_proof_is_that_of_the_server() {
        assert_eq!(
            md5_answer("md5_user", "password", &[0x2a, 0x3d, 0x8f, 0xe0]),
            "md562af4dd09bbb41884907a838a3233294"
        );
    }
}
