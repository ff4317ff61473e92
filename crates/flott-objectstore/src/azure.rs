//! Azure Blob Storage and Data Lake Storage: `abfss://container@account.dfs.core.windows.net/path`, or `az://container/path` with the
//! account from `AZURE_STORAGE_ACCOUNT_NAME`. An emulator is named by `fs.azure.abfs.endpoint`.

use crate::error::Place;
use crate::factory::{Built, client};
use crate::settings::{Limits, Secrets};
use crate::store::LargePut;
use crate::upload;
use flott_checkpoint::RemoteLocation;
use flott_types::{Configuration, Error, Result, options};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use std::sync::Arc;

const CREDENTIALS: &str =
    "'fs.azure.account.key.<account>.dfs.core.windows.net', or AZURE_STORAGE_ACCOUNT_KEY";

/// What one request can create.
const PUT_BYTES_MAX: u64 = 5_000 << 20;

pub(crate) fn build(location: &RemoteLocation, config: &Configuration, limits: Limits) -> Result<Built> {
    let bucket = format!("{}://{}", location.scheme, location.authority);
    let (container, host) = match location.authority.split_once('@') {
        Some((container, host)) => (container, Some(host)),
        None => (location.authority.as_str(), None),
    };
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    let account = match host {
        Some(host) => Some(host.split_once('.').map_or(host, |(account, _)| account).to_owned()),
        None => builder.get_config_value(&AzureConfigKey::AccountName),
    };
    let Some(account) = account else {
        return Err(Error::user(format!(
            "'{bucket}' names no account: write {}://{container}@<account>.dfs.core.windows.net, or set AZURE_STORAGE_ACCOUNT_NAME",
            location.scheme
        )));
    };
    let key = account_key(config, &account);
    let secrets = Secrets::new([
        key.clone(),
        builder.get_config_value(&AzureConfigKey::AccessKey),
        builder.get_config_value(&AzureConfigKey::ClientSecret),
        builder.get_config_value(&AzureConfigKey::SasKey),
        builder.get_config_value(&AzureConfigKey::Token),
    ]);
    if let Some(key) = key {
        builder = builder.with_access_key(key);
    }
    if let Some(endpoint) = config.get(options::AZURE_ENDPOINT) {
        // No host of its own for each account: as emulators have it, and Hadoop's client with this key.
        let endpoint = client::endpoint(options::AZURE_ENDPOINT.key, &endpoint)?;
        builder = builder.with_endpoint(format!("{}/{account}", endpoint.url));
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let is_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    // A large object is one request here, because Azure may answer before it has copied: so a request may take long, and what
    // gives up early on small ones is the limit of the whole call.
    let request = upload::time_for(limits.piece_bytes * LARGE_PIECES, limits);
    let built = builder
        .with_account(account)
        .with_client_options(client::options(limits, request, is_http))
        .with_retry(client::retry(limits))
        .build();
    let client = built.map_err(|error| client::refused(&bucket, &secrets, &error))?;
    let place = Place { bucket, credentials: CREDENTIALS, secrets };
    Ok(Built { place, client: Arc::new(client), large: LargePut::Single(PUT_BYTES_MAX) })
}

/// The size for which one request must have time, in pieces: the largest object of all.
const LARGE_PIECES: usize = 640;

/// The key of an account, however the name of its host ends.
fn account_key(config: &Configuration, account: &str) -> Option<String> {
    let of_account = |key: &str| {
        let name = key.strip_prefix(options::AZURE_ACCOUNT_KEY)?;
        Some(name == account || name.strip_prefix(account).is_some_and(|rest| rest.starts_with('.')))
    };
    config.iter().find(|(key, _)| of_account(key) == Some(true)).map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_account_is_taken_and_no_other() {
        let mut config = Configuration::default();
        for (account, key) in [("mine", "bWluZQ=="), ("mineral", "bm8=")] {
            config.set(&format!("fs.azure.account.key.{account}.dfs.core.windows.net"), key).expect("a key");
        }
        assert_eq!(account_key(&config, "mine").as_deref(), Some("bWluZQ=="));
        assert_eq!(account_key(&config, "min"), None);
        let location = RemoteLocation {
            scheme: "abfss".to_owned(),
            authority: "data@mine.dfs.core.windows.net".to_owned(),
            path: String::new(),
        };
        let built = build(&location, &config, Limits::default()).expect("it can be");
        assert_eq!(built.place.secrets.redact("bWluZQ=="), "******");
        assert_eq!(built.place.bucket, "abfss://data@mine.dfs.core.windows.net");
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let at = |authority: &str, key: &str, value: &str| {
            let mut config = Configuration::default();
            config.set(key, value).expect("a key");
            let (scheme, authority) = ("abfss".to_owned(), authority.to_owned());
            let location = RemoteLocation { scheme, authority, path: String::new() };
            build(&location, &config, Limits::default()).map(|_| ()).expect_err("it cannot be").to_string()
        };
        let error = at("data@mine.dfs.core.windows.net", "fs.azure.abfs.endpoint", "ftp://here");
        assert!(error.contains("'fs.azure.abfs.endpoint' is 'ftp://here': expected"), "{error}");
        let key = "fs.azure.account.key.mine.dfs.core.windows.net";
        let error = at("data@mine.dfs.core.windows.net", key, "no base64");
        assert!(
            error.contains("cannot use 'abfss://data@mine.dfs") && !error.contains("no base64"),
            "{error}"
        );
        let error = at("data", key, "bWluZQ==");
        assert!(error.contains("write abfss://data@<account>.dfs.core.windows.net"), "{error}");
    }
}
