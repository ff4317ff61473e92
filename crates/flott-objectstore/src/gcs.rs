//! Google Cloud Storage. Who one is comes from the usual variables (`GOOGLE_APPLICATION_CREDENTIALS`), or from the machine.

use crate::error::Place;
use crate::factory::{Built, client};
use crate::settings::{Limits, Secrets};
use crate::store::LargePut;
use flott_checkpoint::RemoteLocation;
use flott_types::Result;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use std::sync::Arc;

pub(crate) fn build(location: &RemoteLocation, limits: Limits) -> Result<Built> {
    let bucket = format!("{}://{}", location.scheme, location.authority);
    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&location.authority);
    let secrets = Secrets::new([builder.get_config_value(&GoogleConfigKey::ServiceAccountKey)]);
    let built = builder
        .with_client_options(client::options(limits, limits.request, false))
        .with_retry(client::retry(limits))
        .build();
    let client = built.map_err(|error| client::refused(&bucket, &secrets, &error))?;
    let place = Place { bucket, credentials: "GOOGLE_APPLICATION_CREDENTIALS", secrets };
    Ok(Built { place, client: Arc::new(client), large: LargePut::CopyIfAbsent })
}
