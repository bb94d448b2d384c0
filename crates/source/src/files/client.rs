//! Makes the client of an object store.

use std::sync::Arc;
use std::time::Duration;

use indexbuild_store::{Connector, check_endpoint};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use super::location::Scheme;
use crate::spec::StoreSettings;

/// An unused connection is closed after so long: one that a partition has cut looks like any other, and each request
/// that is sent on it is lost.
const IDLE_CONNECTION: &str = "5 seconds";

/// The client of a bucket. Where the caller waits better than the library does, its retries are few.
pub(super) fn build(
    settings: &StoreSettings,
    scheme: Scheme,
    base: &str,
    caller_waits: bool,
    connector: Connector,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let StoreSettings { endpoint, region, allow_http, extra, ca: _ } = settings;
    // A reader that waits longer than this says so to its caller, who knows whether to give way. It asks again
    // often: after a partition each pause is time lost.
    let retry = RetryConfig {
        backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
        max_retries: if caller_waits { 5 } else { 30 },
        retry_timeout: Duration::from_secs(if caller_waits { 5 } else { 60 }),
    };
    let plain_http = *allow_http || endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    let flag = plain_http.to_string();
    Ok(match scheme {
        Scheme::S3 => {
            let mut builder = AmazonS3Builder::from_env()
                .with_url(base)
                .with_retry(retry)
                .with_http_connector(connector)
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::PoolIdleTimeout), IDLE_CONNECTION);
            if plain_http {
                builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), flag);
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(region) = region {
                builder = builder.with_region(region);
            }
            for (key, value) in extra {
                builder = builder.with_config(key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()?, value);
            }
            for key in [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint] {
                builder.get_config_value(&key).as_deref().map_or(Ok(()), check_endpoint)?;
            }
            Arc::new(builder.build()?)
        }
        Scheme::Gs => {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_url(base)
                .with_retry(retry)
                .with_http_connector(connector)
                .with_config(GoogleConfigKey::Client(ClientConfigKey::PoolIdleTimeout), IDLE_CONNECTION);
            if plain_http {
                builder = builder.with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), flag);
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint);
            }
            for (key, value) in extra {
                builder = builder.with_config(key.to_ascii_lowercase().parse::<GoogleConfigKey>()?, value);
            }
            builder.get_config_value(&GoogleConfigKey::BaseUrl).as_deref().map_or(Ok(()), check_endpoint)?;
            Arc::new(builder.build()?)
        }
        Scheme::Az => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_url(base)
                .with_retry(retry)
                .with_http_connector(connector)
                .with_config(AzureConfigKey::Client(ClientConfigKey::PoolIdleTimeout), IDLE_CONNECTION);
            if plain_http {
                builder = builder.with_config(AzureConfigKey::Client(ClientConfigKey::AllowHttp), flag);
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            for (key, value) in extra {
                builder = builder.with_config(key.to_ascii_lowercase().parse::<AzureConfigKey>()?, value);
            }
            builder.get_config_value(&AzureConfigKey::Endpoint).as_deref().map_or(Ok(()), check_endpoint)?;
            Arc::new(builder.build()?)
        }
        Scheme::Http | Scheme::Https => {
            let plain_http = plain_http || scheme == Scheme::Http;
            let mut options = ClientOptions::new().with_allow_http(plain_http);
            for (key, value) in extra {
                options = options.with_config(key.to_ascii_lowercase().parse::<ClientConfigKey>()?, value);
            }
            let builder = HttpBuilder::new().with_url(base).with_client_options(options).with_retry(retry);
            Arc::new(builder.with_http_connector(connector).build()?)
        }
    })
}
