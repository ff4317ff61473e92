//! Azure Blob Storage and Data Lake Storage: `abfss://container@account.dfs.core.windows.net/path`, or `az://container/path` with the
//! account from `AZURE_STORAGE_ACCOUNT_NAME`.

use crate::error::Place;
use crate::factory::{Built, client};
use crate::settings::{Limits, Secrets};
use crate::store::LargePut;
use crate::upload;
use flott_checkpoint::RemoteLocation;
use flott_types::{Configuration, Result, options};
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
    let account = host.map(|host| host.split_once('.').map_or(host, |(account, _)| account));
    let key = account.and_then(|account| account_key(config, account));
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    let secrets = Secrets::new([
        key.clone(),
        builder.get_config_value(&AzureConfigKey::AccessKey),
        builder.get_config_value(&AzureConfigKey::ClientSecret),
        builder.get_config_value(&AzureConfigKey::SasKey),
        builder.get_config_value(&AzureConfigKey::Token),
    ]);
    if let Some(account) = account {
        builder = builder.with_account(account);
    }
    if let Some(key) = key {
        builder = builder.with_access_key(key);
    }
    // A large object is one request here, because Azure may answer before it has copied: so a request may take long, and what
    // gives up early on small ones is the limit of the whole call.
    let request = upload::time_for(limits.piece_bytes * LARGE_PIECES, limits);
    let built = builder
        .with_client_options(client::options(limits, request, false))
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
}
