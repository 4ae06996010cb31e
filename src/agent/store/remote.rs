//! Clients of the stores that are reached over the network.

use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::Patience;
use crate::config::{Azure, Google, Password, S3};

pub(super) fn amazon(s3: &S3, bucket: &str, patience: Patience) -> AmazonS3Builder {
    let (client, retry) = patient(patience);
    let client = client.with_allow_invalid_certificates(!s3.verify_tls);
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
        .with_retry(retry)
}

pub(super) fn azure(azure: &Azure, bucket: &str, patience: Patience) -> MicrosoftAzureBuilder {
    let (client, retry) = patient(patience);
    let builder = match &azure.key {
        Some(Password(key)) => MicrosoftAzureBuilder::new().with_access_key(key),
        None => MicrosoftAzureBuilder::from_env(),
    };
    builder
        .with_account(&azure.account)
        .with_container_name(bucket)
        .with_endpoint(azure.endpoint.clone())
        .with_client_options(client)
        .with_retry(retry)
}

pub(super) fn google(google: &Google, bucket: &str, patience: Patience) -> GoogleCloudStorageBuilder {
    let (client, retry) = patient(patience);
    let builder = match &google.key_file {
        Some(path) => GoogleCloudStorageBuilder::new().with_service_account_path(path.to_string_lossy()),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    builder.with_bucket_name(bucket).with_client_options(client).with_retry(retry)
}

/// How long to wait, and how often to ask again.
fn patient(patience: Patience) -> (ClientOptions, RetryConfig) {
    let (retries, limit, request) = match patience {
        Patience::Long => (10, 170, 300),
        Patience::Short => (3, 10, 30),
    };
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(15),
            base: 2.0,
        },
        max_retries: retries,
        retry_timeout: Duration::from_secs(limit),
    };
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(10))
        .with_timeout(Duration::from_secs(request))
        .with_allow_http(true);
    (client, retry)
}
