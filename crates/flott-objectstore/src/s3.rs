//! Amazon S3 and what speaks its protocol.

use crate::error::Place;
use crate::factory::{Built, client};
use crate::settings::{Limits, Secrets};
use crate::store::LargePut;
use flott_checkpoint::RemoteLocation;
use flott_types::{Configuration, Error, Result, options};
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, S3CopyIfNotExists};
use std::sync::Arc;

const CREDENTIALS: &str =
    "'s3.access-key' and 's3.secret-key', or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

pub(crate) fn build(location: &RemoteLocation, config: &Configuration, limits: Limits) -> Result<Built> {
    let bucket = format!("{}://{}", location.scheme, location.authority);
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&location.authority);
    let credential = credential(config)?;
    let from_variables = [
        builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId),
        builder.get_config_value(&AmazonS3ConfigKey::SecretAccessKey),
        builder.get_config_value(&AmazonS3ConfigKey::Token),
    ];
    let of_config = credential.as_ref().map(|AwsCredential { key_id, secret_key, .. }| [key_id, secret_key]);
    let of_config = of_config.into_iter().flatten().map(|secret| Some(secret.clone()));
    let secrets = Secrets::new(of_config.chain(from_variables));
    if let Some(credential) = credential {
        // Not key by key: a token among the variables would belong to another key.
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    if let Some(region) = config.get(options::S3_REGION) {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = config.get(options::S3_ENDPOINT) {
        builder = builder.with_endpoint(client::endpoint(options::S3_ENDPOINT.key, &endpoint)?.url);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let is_path_style = endpoint.is_some()
        || config.get(options::S3_PATH_STYLE_ACCESS)
        || config.get(options::S3_PATH_STYLE_ACCESS_OLD)
        // As a part of a host's name it would not match the certificate.
        || location.authority.contains('.');
    let is_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let built = builder
        .with_virtual_hosted_style_request(!is_path_style)
        .with_skip_signature(config.get(options::S3_ANONYMOUS_CREDENTIALS))
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_client_options(client::options(limits, limits.request, is_http))
        .with_retry(client::retry(limits))
        .build();
    let client = built.map_err(|error| client::refused(&bucket, &secrets, &error))?;
    let place = Place { bucket, credentials: CREDENTIALS, secrets };
    Ok(Built { place, client: Arc::new(client), large: LargePut::CopyIfAbsent })
}

/// The key of the configuration, if it has one.
fn credential(config: &Configuration) -> Result<Option<AwsCredential>> {
    let missing = |key: &str, other: &str| {
        Err(Error::user(format!(
            "configuration key '{other}' is set and '{key}' is not: a key and its secret belong together"
        )))
    };
    match (config.get(options::S3_ACCESS_KEY), config.get(options::S3_SECRET_KEY)) {
        (Some(key_id), Some(secret_key)) => Ok(Some(AwsCredential { key_id, secret_key, token: None })),
        (None, None) => Ok(None),
        (Some(_), None) => missing(options::S3_SECRET_KEY.key, options::S3_ACCESS_KEY.key),
        (None, Some(_)) => missing(options::S3_ACCESS_KEY.key, options::S3_SECRET_KEY.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location() -> RemoteLocation {
        RemoteLocation { scheme: "s3".to_owned(), authority: "b".to_owned(), path: String::new() }
    }

    #[test]
    fn a_key_without_its_secret_is_refused_and_not_shown() {
        let mut config = Configuration::default();
        config.set("s3.access-key", "hunter2").expect("a key");
        let error = build(&location(), &config, Limits::default()).map(|_| ()).expect_err("no secret");
        assert!(error.to_string().contains("'s3.secret-key' is not"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
