use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ca::CaCertificates;
use crate::connector::Connector;
use crate::endpoint::{BadEndpoint, check_endpoint, is_plain};
use crate::patience::Patience;
use crate::values::{BadValue, usable};

/// An unused connection is closed after so long: one that a partition has cut looks like any other, and each request
/// that is sent on it is lost.
const IDLE_CONNECTION: &str = "5 seconds";

/// Whose interface a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    S3,
    Gcs,
    Azure,
    /// A web server.
    Http,
}

/// How a remote store is reached. What is not said here comes from the environment (`AWS_…`,
/// `GOOGLE_…`, `AZURE_…`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StoreOptions {
    /// The service's address, where it is not the provider's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Whether a service may be reached by plain HTTP. An endpoint that is written with `http://` is, whatever this says.
    pub allow_http: bool,
    /// Further options by their `object_store` names, as `aws_access_key_id`, in upper or lower case.
    pub extra: BTreeMap<String, String>,
    /// CA certificates that may vouch for the endpoint's certificate, beside the system's.
    #[serde(skip)]
    pub ca: CaCertificates,
    /// How long it may be silent.
    #[serde(skip)]
    pub patience: Patience,
}

/// How often a client itself asks again before a failure is its caller's. It asks often: after a partition each pause
/// is time lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    longest_pause: Duration,
    most: usize,
    within: Duration,
}

impl Retries {
    /// Of an index: a few quick tries; whoever calls knows for how long an outage is to be waited for.
    pub const INDEX: Self = Self::new(1, 10, 20);
    /// Of an index on a web server: the library's own.
    pub const WEB_SERVER: Self = Self::new(15, 10, 180);
    /// Of a table whose reader waits better than the client does.
    pub const WAITED_FOR: Self = Self::new(2, 5, 5);
    /// Of a table whose reader does not wait.
    pub const TABLE: Self = Self::new(2, 30, 60);

    const fn new(longest_pause: u64, most: usize, within: u64) -> Self {
        Self { longest_pause: Duration::from_secs(longest_pause), most, within: Duration::from_secs(within) }
    }

    fn config(self) -> RetryConfig {
        let Self { longest_pause, most, within } = self;
        let backoff = BackoffConfig { max_backoff: longest_pause, ..BackoffConfig::default() };
        RetryConfig { backoff, max_retries: most, retry_timeout: within }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("its store knows no option `{0}`")]
    UnknownOption(String),
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error(transparent)]
    Value(#[from] BadValue),
    #[error(transparent)]
    Runtime(io::Error),
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

fn option<K: std::str::FromStr>(name: &str) -> Result<K, ClientError> {
    name.to_ascii_lowercase().parse().map_err(|_| ClientError::UnknownOption(name.to_owned()))
}

/// The settings in the environment that a provider's client takes, as its own `from_env` does: those whose names begin with
/// `prefix`, and one of another name.
fn from_environment<K: std::str::FromStr>(prefix: &str, also: Option<(&str, K)>) -> Result<Vec<(K, String)>, BadValue> {
    let mut found = Vec::new();
    let mut take = |key: K, name: &str, value: &str| {
        let value = usable(name, value)?;
        // One that is empty is not set.
        if !value.is_empty() {
            found.push((key, value.to_owned()));
        }
        Ok(())
    };
    if let Some((name, key)) = also
        && let Ok(value) = std::env::var(name)
    {
        take(key, name, &value)?;
    }
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && name.starts_with(prefix)
            && let Ok(key) = name.to_ascii_lowercase().parse()
        {
            take(key, name, value)?;
        }
    }
    Ok(found)
}

/// The builders of the providers have all of this in common, but no trait.
macro_rules! built {
    ($builder:ident, $key:ident, $url:ident, $options:ident, $retry:ident, $connector:ident,
     unless_said: [$($default:ident),*], environment: $prefix:literal, also: $also:expr, endpoint: $endpoint:ident,
     region: $region:expr, endpoints: [$($known:ident),+]) => {{
        let StoreOptions { endpoint, region, allow_http, extra, ca: _, patience: _ } = $options;
        let mut builder = $builder::new()$(.with_config($key::$default, "true"))*;
        for (key, value) in from_environment::<$key>($prefix, $also)? {
            builder = builder.with_config(key, value);
        }
        let mut builder = builder
            .with_url($url)
            .with_retry($retry)
            .with_http_connector($connector)
            .with_config($key::Client(ClientConfigKey::PoolIdleTimeout), IDLE_CONNECTION);
        if let Some(endpoint) = endpoint {
            builder = builder.with_config($key::$endpoint, usable("endpoint", endpoint)?);
        }
        let region_key: Option<$key> = $region;
        if let (Some(key), Some(region)) = (region_key, region) {
            builder = builder.with_config(key, usable("region", region)?);
        }
        for (name, value) in extra {
            let key = option::<$key>(name)?;
            let value = usable(name, value)?;
            if !value.is_empty() {
                builder = builder.with_config(key, value);
            }
        }
        let mut plain = *allow_http;
        for key in [$($key::$known),+] {
            if let Some(endpoint) = builder.get_config_value(&key) {
                check_endpoint(&endpoint)?;
                // Whoever writes http:// means to do without TLS.
                plain |= is_plain(&endpoint);
            }
        }
        if plain {
            builder = builder.with_config($key::Client(ClientConfigKey::AllowHttp), "true");
        }
        Arc::new(builder.build()?)
    }};
}

/// The client of the bucket (of a web server: the origin) that `url` names: the one place that makes one.
///
/// # Errors
/// [`ClientError`]: nothing was asked yet.
pub fn client(
    provider: Provider,
    url: &str,
    options: &StoreOptions,
    retries: Retries,
) -> Result<Arc<dyn ObjectStore>, ClientError> {
    let connector = Connector::new(options.ca.clone()).map_err(ClientError::Runtime)?.with_patience(options.patience);
    let retry = retries.config();
    Ok(match provider {
        // One object at a time is deleted anyway, and the answer for one is a status: a refusal among several is none.
        Provider::S3 => built!(AmazonS3Builder, AmazonS3ConfigKey, url, options, retry, connector,
            unless_said: [DisableBulkDelete], environment: "AWS_", also: None, endpoint: Endpoint,
            region: Some(AmazonS3ConfigKey::Region), endpoints: [S3Endpoint, Endpoint]),
        Provider::Gcs => built!(GoogleCloudStorageBuilder, GoogleConfigKey, url, options, retry, connector,
            unless_said: [], environment: "GOOGLE_", also: Some(("SERVICE_ACCOUNT", GoogleConfigKey::ServiceAccount)),
            endpoint: BaseUrl, region: None, endpoints: [BaseUrl]),
        Provider::Azure => built!(MicrosoftAzureBuilder, AzureConfigKey, url, options, retry, connector,
            unless_said: [], environment: "AZURE_", also: Some(("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint)),
            endpoint: Endpoint, region: None, endpoints: [Endpoint]),
        Provider::Http => {
            let StoreOptions { endpoint: _, region: _, allow_http, extra, ca: _, patience: _ } = options;
            let mut options = ClientOptions::new().with_allow_http(*allow_http);
            for (name, value) in extra {
                options = options.with_config(option::<ClientConfigKey>(name)?, usable(name, value)?);
            }
            let builder = HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retry);
            Arc::new(builder.with_http_connector(connector).build()?)
        }
    })
}
