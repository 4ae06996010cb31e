//! Clients of the stores that are reached over the network.

use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, RetryConfig};
use reqwest::Certificate;

use super::pace::Pace;
use super::transport::{Limits, Transport};
use super::{Error, Patience};
use crate::config::{Azure, Google, Password, S3, Storage};

pub(super) fn amazon(s3: &S3, bucket: &str, (transport, retry): Client) -> AmazonS3Builder {
    let client = Transport::options().with_allow_invalid_certificates(!s3.verify_tls);
    let mut builder = match &s3.credentials {
        Some(keys) => {
            let builder = AmazonS3Builder::new().with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
            match &keys.token {
                Some(token) => builder.with_token(token),
                None => builder,
            }
        }
        None => AmazonS3Builder::from_env(),
    };
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = &s3.kms_id {
        builder = builder.with_sse_kms_encryption(key);
    }
    if let Some(key) = &s3.sse_c_key {
        builder = builder.with_ssec_encryption(key);
    }
    builder
        .with_bucket_name(bucket)
        .with_region(&s3.region)
        .with_virtual_hosted_style_request(s3.virtual_host)
        .with_client_options(client)
        .with_http_connector(transport)
        .with_retry(retry)
}

pub(super) fn azure(azure: &Azure, bucket: &str, (transport, retry): Client) -> MicrosoftAzureBuilder {
    let builder = match &azure.key {
        Some(Password(key)) => MicrosoftAzureBuilder::new().with_access_key(key),
        None => MicrosoftAzureBuilder::from_env(),
    };
    builder
        .with_account(&azure.account)
        .with_container_name(bucket)
        .with_endpoint(azure.endpoint.clone())
        .with_client_options(Transport::options())
        .with_http_connector(transport)
        .with_retry(retry)
}

pub(super) fn google(google: &Google, bucket: &str, (transport, retry): Client) -> GoogleCloudStorageBuilder {
    let builder = match &google.key_file {
        Some(path) => GoogleCloudStorageBuilder::new().with_service_account_path(path.to_string_lossy()),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    builder
        .with_bucket_name(bucket)
        .with_client_options(Transport::options())
        .with_http_connector(transport)
        .with_retry(retry)
}

/// How a store is asked, and how often again.
type Client = (Transport, RetryConfig);

/// With the authority that the user named, and waits that suit who waits.
pub(super) fn client(config: &Storage, patience: Patience) -> Result<Client, Error> {
    let (limits, retry) = patient(patience);
    let mut authorities = Vec::new();
    if let Some(path) = &config.authority {
        let failed = |source| Error::Authority { path: path.clone(), source };
        let pem = std::fs::read(path).map_err(|error| failed(Box::new(error)))?;
        authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(Box::new(error)))?;
        if authorities.is_empty() {
            return Err(failed("there is no certificate in it".into()));
        }
    }
    Ok((Transport { limits, authorities }, retry))
}

fn patient(patience: Patience) -> (Limits, RetryConfig) {
    let (retries, again, whole) = match patience {
        // How long a big object takes says nothing; how long nothing comes does.
        Patience::Long => (10, 170, None),
        Patience::Short => (3, 10, Some(Duration::from_secs(30))),
    };
    // Each wait is drawn at random between the first one and three times the last one.
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(15), base: 3.0 };
    let retry = RetryConfig { backoff, max_retries: retries, retry_timeout: Duration::from_secs(again) };
    // A minute is what Medusa's client gives a connection, too; a kilobyte a second is less than any that works brings.
    let pace = Pace { window: Duration::from_secs(60), least: 64 << 10, answer: Duration::from_secs(300) };
    (Limits { whole, pace }, retry)
}
