//! Google Cloud Storage. Who one is comes from the key file of `gs.auth.service.account.json.keyfile`, from the usual variables
//! (`GOOGLE_APPLICATION_CREDENTIALS`), or from the machine; an emulator is named by `gs.storage.root.url`.

use crate::error::Place;
use crate::factory::{Built, client};
use crate::settings::{Limits, Secrets};
use crate::store::LargePut;
use async_trait::async_trait;
use flott_checkpoint::RemoteLocation;
use flott_types::{Configuration, Error, Result, options};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientOptions, StaticCredentialProvider};
use std::sync::Arc;

const CREDENTIALS: &str = "'gs.auth.service.account.json.keyfile', or GOOGLE_APPLICATION_CREDENTIALS";

pub(crate) fn build(location: &RemoteLocation, config: &Configuration, limits: Limits) -> Result<Built> {
    let bucket = format!("{}://{}", location.scheme, location.authority);
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&location.authority);
    let secrets = Secrets::new([builder.get_config_value(&GoogleConfigKey::ServiceAccountKey)]);
    match who(config)? {
        Who::Default => {}
        Who::Nobody => {
            // Only some requests of the client look at whether there is a signature to be: an empty token is for the others.
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder
                .with_skip_signature(true)
                .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        }
        Who::ServiceAccount(file) => {
            if builder.get_config_value(&GoogleConfigKey::ServiceAccountKey).is_some() {
                return Err(Error::user(format!(
                    "'{}' and GOOGLE_SERVICE_ACCOUNT_KEY are both set: set one",
                    options::GCS_KEY_FILE.key
                )));
            }
            builder = builder.with_service_account_path(file);
        }
    }
    if let Some(url) = config.get(options::GCS_ROOT_URL) {
        builder = builder.with_base_url(&client::endpoint(options::GCS_ROOT_URL.key, &url)?.url);
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let is_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let built = builder
        .with_client_options(client::options(limits, limits.request, is_http))
        .with_retry(client::retry(limits))
        .with_http_connector(ConditionalCopies)
        .build();
    let client = built.map_err(|error| client::refused(&bucket, &secrets, &error))?;
    let place = Place { bucket, credentials: CREDENTIALS, secrets };
    Ok(Built { place, client: Arc::new(client), large: LargePut::CopyIfAbsent })
}

/// Who asks.
#[derive(Debug, PartialEq, Eq)]
enum Who {
    /// What the usual variables or the machine say.
    Default,
    Nobody,
    /// Whose key is in this file.
    ServiceAccount(String),
}

fn who(config: &Configuration) -> Result<Who> {
    let (key, file_key) = (options::GCS_AUTH_TYPE.key, options::GCS_KEY_FILE.key);
    match (config.get(options::GCS_AUTH_TYPE).as_deref(), config.get(options::GCS_KEY_FILE)) {
        (None | Some("SERVICE_ACCOUNT_JSON_KEYFILE"), Some(file)) => Ok(Who::ServiceAccount(file)),
        (None, None) => Ok(Who::Default),
        (Some("UNAUTHENTICATED"), None) => Ok(Who::Nobody),
        (Some("UNAUTHENTICATED"), Some(_)) => Err(Error::user(format!(
            "'{file_key}' is set, and '{key}' says UNAUTHENTICATED: set one of them"
        ))),
        (Some("SERVICE_ACCOUNT_JSON_KEYFILE"), None) => Err(Error::user(format!(
            "'{key}' says SERVICE_ACCOUNT_JSON_KEYFILE, and '{file_key}' is not set"
        ))),
        (Some(other), _) => Err(Error::user(format!(
            "configuration key '{key}' is '{other}': expected SERVICE_ACCOUNT_JSON_KEYFILE or UNAUTHENTICATED"
        ))),
    }
}

/// Makes each copy one that replaces nothing. This version of the client sends the condition with copies that may replace, and none with those that
/// must not (apache/arrow-rs-object-store#712): nothing here may replace an object, so all get it.
#[derive(Debug)]
struct ConditionalCopies;

impl HttpConnector for ConditionalCopies {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(ConditionalCopier(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct ConditionalCopier(HttpClient);

#[async_trait]
impl HttpService for ConditionalCopier {
    async fn call(&self, mut request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        if request.headers().contains_key("x-goog-copy-source") {
            request.headers_mut().insert("x-goog-if-generation-match", 0_u64.into());
        }
        self.0.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(settings: &[(&str, &str)]) -> String {
        let mut config = Configuration::default();
        for (key, value) in settings {
            config.set(key, value).expect("a key");
        }
        let (scheme, authority) = ("gs".to_owned(), "b".to_owned());
        let location = RemoteLocation { scheme, authority, path: String::new() };
        build(&location, &config, Limits::default()).map(|_| ()).expect_err("it cannot be").to_string()
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let key_file = "gs.auth.service.account.json.keyfile";
        for (settings, expected) in [
            (&[("gs.storage.root.url", "ftp://here")][..], "'gs.storage.root.url' is 'ftp://here': expected"),
            (&[(key_file, "/no/such/file")], "/no/such/file"),
            (&[("gs.auth.type", "MAGIC")], "'gs.auth.type' is 'MAGIC': expected"),
            (&[("gs.auth.type", "UNAUTHENTICATED"), (key_file, "/a")], "set one of them"),
            (
                &[("gs.auth.type", "SERVICE_ACCOUNT_JSON_KEYFILE")],
                "'gs.auth.service.account.json.keyfile' is not set",
            ),
        ] {
            let error = error(settings);
            assert!(error.contains(expected), "{error}");
        }
    }
}
