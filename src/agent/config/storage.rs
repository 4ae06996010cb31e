//! [storage] of medusa.ini: which bucket, where, with which keys and limits.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::sendable;
use super::{Error, File, Password, read};
use crate::ini::Ini;

/// The bucket and how to write to it.
#[derive(Debug, Clone)]
pub struct Storage {
    /// As written, for Capabilities.
    pub provider: String,
    /// Which kind of store.
    pub place: Place,
    /// Bucket's name.
    pub bucket: String,
    /// One key segment before everything, if any.
    pub prefix: Option<String>,
    /// Files in flight at once (Medusa's concurrent_transfers).
    pub transfers: usize,
    /// Parts of one file in flight at once.
    pub part_transfers: usize,
    /// From this size on a file goes up in parts, in bytes.
    pub multipart_threshold: u64,
    /// Size of a part in bytes.
    pub part_size: u64,
    /// Bytes per second for the whole node; not for a local store.
    pub bandwidth: Option<u64>,
    /// What a purge may take away.
    pub retention: Retention,
    /// PEM file of authorities that may have signed the store's certificate, beside the system's.
    pub authority: Option<PathBuf>,
}

/// What a purge may take away, as the user configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Backups that began earlier than this many days ago go; 0 for no limit.
    pub max_age_days: u32,
    /// Of more complete backups than this the oldest go; 0 for no limit.
    pub max_count: usize,
    /// Days for which a file that no backup refers to any more is kept.
    pub grace_days: u32,
}

/// A kind of store.
#[derive(Debug, Clone)]
pub enum Place {
    /// A directory: `base_path/bucket_name`.
    Local {
        /// base_path.
        base: PathBuf,
    },
    /// Anything that speaks S3.
    S3(S3),
    /// Azure's blobs.
    Azure(Azure),
    /// Google's storage.
    Google(Google),
}

impl Place {
    /// Where it is, for Capabilities.
    pub fn host(&self) -> String {
        match self {
            Self::Local { base } => base.display().to_string(),
            Self::S3(s3) => s3.host.clone(),
            Self::Azure(azure) => azure.endpoint.clone(),
            Self::Google(_) => "storage.googleapis.com".to_owned(),
        }
    }
}

/// Azure's own settings.
#[derive(Debug, Clone)]
pub struct Azure {
    /// Storage account.
    pub account: String,
    /// From key_file; without it the machine's own identity is used (workload identity, managed identity, environment).
    pub key: Option<Password>,
    /// The account's address.
    pub endpoint: String,
    /// Access tier for everything written.
    pub tier: Option<String>,
}

/// Google's own settings.
#[derive(Debug, Clone)]
pub struct Google {
    /// A service account's key; without it the attached service account is used.
    pub key_file: Option<PathBuf>,
}

/// S3's own settings.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `http(s)://host[:port]`; `None` for AWS.
    pub endpoint: Option<String>,
    /// Host without scheme, for Capabilities.
    pub host: String,
    /// Region.
    pub region: String,
    /// From key_file; without it the machine's own identity is used (IRSA, IMDS, environment).
    pub credentials: Option<Credentials>,
    /// Whether a certificate must be valid.
    pub verify_tls: bool,
    /// Bucket in the host name instead of the path.
    pub virtual_host: bool,
    /// Storage class for everything written.
    pub storage_class: Option<String>,
    /// Key of SSE-KMS.
    pub kms_id: Option<String>,
    /// Base64 key of SSE-C.
    pub sse_c_key: Option<String>,
}

/// Keys of a bucket. Never printed.
#[derive(Clone)]
pub struct Credentials {
    /// aws_access_key_id.
    pub id: String,
    /// aws_secret_access_key.
    pub secret: String,
    /// aws_session_token.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Medusa's grace period.
const GRACE_DAYS: u32 = 10;
/// Bytes of a part where nothing is said. Medusa makes parts of 50 MB, of which one alone fits into a sidecar's memory; of
/// these several are on their way at a time. Readers do not care.
const PART: u64 = 16 << 20;

pub(super) fn storage(file: &File<'_>, env: &impl Fn(&str) -> Option<String>) -> Result<Storage, Error> {
    const MIB: u64 = 1 << 20;
    let provider = file.need("storage", "storage_provider")?;
    let bucket = file.segment("bucket_name", file.need("storage", "bucket_name")?)?;
    let prefix = match file.get("storage", "prefix") {
        Some(prefix) => Some(file.segment("prefix", prefix)?),
        None => None,
    };
    let kind = provider.to_lowercase();
    let place = match kind.as_str() {
        "local" => Place::Local { base: file.need("storage", "base_path")?.into() },
        "azure_blobs" => Place::Azure(azure(file, env)?),
        "google_storage" => Place::Google(Google { key_file: file.get("storage", "key_file").map(PathBuf::from) }),
        other if other.starts_with("s3") || other == "ibm_storage" => Place::S3(s3(file, other)?),
        _ => {
            return Err(Error::Provider { provider: provider.to_owned() });
        }
    };
    let bandwidth = file.size("storage", "transfer_max_bandwidth", 50 * MIB)?;
    Ok(Storage {
        provider: provider.to_owned(),
        bandwidth: (!matches!(place, Place::Local { .. })).then_some(bandwidth),
        place,
        bucket,
        prefix,
        transfers: file.at_once("concurrent_transfers", 1)?,
        part_transfers: file.at_once("multipart_max_concurrency", 4)?,
        // Medusa never uploads in parts to a RADOS gateway, and then expects plain tags.
        multipart_threshold: match kind.as_str() {
            "s3_rgw" => u64::MAX,
            _ => file.size("storage", "multi_part_upload_threshold", 20 * MIB)?,
        },
        part_size: file.size("storage", "multipart_chunksize", PART)?,
        // Where Medusa's clients look: boto3, and the others through `requests`.
        authority: env("AWS_CA_BUNDLE").or_else(|| env("REQUESTS_CA_BUNDLE")).map(PathBuf::from),
        retention: Retention {
            max_age_days: file.days("max_backup_age")?.unwrap_or(0),
            max_count: file.whole("storage", "max_backup_count")?.unwrap_or(0),
            grace_days: file.days("backup_grace_period_in_days")?.unwrap_or(GRACE_DAYS),
        },
    })
}

fn s3(file: &File<'_>, kind: &str) -> Result<S3, Error> {
    let gateway = kind == "s3_rgw" && file.get("storage", "host").is_some();
    let compatible = matches!(kind, "s3_compatible" | "ibm_storage") || gateway;
    let region = match file.plain("region")? {
        Some(region) if region != "default" => region.to_owned(),
        Some(_) | None => match kind.strip_prefix("s3_").filter(|_| !compatible) {
            Some(name) => named_region(name).ok_or(Error::Provider { provider: kind.to_owned() })?.to_owned(),
            None => "us-east-1".to_owned(),
        },
    };
    let (endpoint, host) = if compatible {
        file.need("storage", "host")?;
        let host = file.host()?.unwrap_or_default();
        let scheme = if file.flag("storage", "secure", true)? { "https" } else { "http" };
        let port = file.port()?;
        let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        (Some(format!("{scheme}://{authority}")), authority)
    } else {
        (None, format!("s3.{region}.amazonaws.com"))
    };
    let style = file.get("storage", "s3_addressing_style").unwrap_or("auto");
    let virtual_host = match style {
        "auto" => !compatible,
        "virtual" => true,
        "path" => false,
        other => {
            return Err(Error::Value {
                section: "storage",
                key: "s3_addressing_style",
                value: other.to_owned(),
                expected: "auto, path or virtual",
            });
        }
    };
    Ok(S3 {
        endpoint,
        host,
        region,
        credentials: credentials(file)?,
        verify_tls: !compatible || file.flag("storage", "ssl_verify", false)?,
        virtual_host,
        storage_class: file.plain("storage_class")?.map(str::to_uppercase),
        kms_id: file.plain("kms_id")?.map(str::to_owned),
        sse_c_key: file.plain("sse_c_key")?.map(str::to_owned),
    })
}

/// The account, by the key file or the environment, and its address.
fn azure(file: &File<'_>, env: &impl Fn(&str) -> Option<String>) -> Result<Azure, Error> {
    #[derive(Deserialize)]
    struct Key {
        storage_account: String,
        key: String,
    }
    let (account, key) = match file.get("storage", "key_file").map(Path::new) {
        Some(path) => {
            let key: Key =
                serde_json::from_str(&read(path)?).map_err(|_| Error::AzureKeyFile { path: path.to_owned() })?;
            (key.storage_account, Some(Password(key.key)))
        }
        None => (env("AZURE_STORAGE_ACCOUNT").ok_or(Error::Account)?, None),
    };
    // It becomes a part of the host's name.
    if !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || account.is_empty() {
        return Err(Error::AccountName { account });
    }
    let port = file.port()?.map(|port| format!(":{port}")).unwrap_or_default();
    let domain = file.host()?.unwrap_or("windows.net");
    // An address has no names below it: the account comes behind it, as emulators have it.
    let endpoint = if domain.parse::<IpAddr>().is_ok() {
        let scheme = if file.flag("storage", "secure", true)? { "https" } else { "http" };
        format!("{scheme}://{domain}{port}/{account}")
    } else {
        format!("https://{account}.blob.core.{domain}{port}")
    };
    let capitalised = |class: &str| {
        let mut letters = class.to_lowercase().chars().collect::<Vec<_>>();
        letters.iter_mut().take(1).for_each(|first| first.make_ascii_uppercase());
        letters.into_iter().collect()
    };
    let tier = file.plain("storage_class")?.map(capitalised);
    Ok(Azure { account, key, endpoint, tier })
}

fn credentials(file: &File<'_>) -> Result<Option<Credentials>, Error> {
    let Some(path) = file.get("storage", "key_file").map(Path::new) else {
        return Ok(None);
    };
    let text = read(path)?;
    let keys = Ini::parse(&text).map_err(|source| Error::Ini { path: path.to_owned(), source })?;
    let profile = file.get("storage", "api_profile").unwrap_or("default");
    let named = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
    if let Some(key) = named.into_iter().find(|key| keys.get(profile, key).is_some_and(|text| !sendable(text))) {
        return Err(Error::KeyText { path: path.to_owned(), profile: profile.to_owned(), key });
    }
    match (keys.get(profile, "aws_access_key_id"), keys.get(profile, "aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(Credentials {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: keys.get(profile, "aws_session_token").map(str::to_owned),
        })),
        (Some(_) | None, _) => Err(Error::KeyFile { path: path.to_owned(), profile: profile.to_owned() }),
    }
}

/// Regions that libcloud's provider names stand for: `s3_us_west_oregon` and the like, without `s3_`.
fn named_region(name: &str) -> Option<&'static str> {
    Some(match name {
        "us_east" | "us_east1" => "us-east-1",
        "us_east2" => "us-east-2",
        "us_west" => "us-west-1",
        "us_west2" | "us_west_oregon" => "us-west-2",
        "us_gov_east" => "us-gov-east-1",
        "us_gov_west" => "us-gov-west-1",
        "eu_west" => "eu-west-1",
        "eu_west2" => "eu-west-2",
        "eu_central" => "eu-central-1",
        "eu_north1" => "eu-north-1",
        "ap_south" => "ap-south-1",
        "ap_southeast" => "ap-southeast-1",
        "ap_southeast2" => "ap-southeast-2",
        "ap_northeast" | "ap_northeast1" => "ap-northeast-1",
        "ap_northeast2" => "ap-northeast-2",
        "sa_east" => "sa-east-1",
        "sa_east2" => "sa-east-2",
        "ca_central" => "ca-central-1",
        "cn_north" => "cn-north-1",
        "cn_northwest" => "cn-northwest-1",
        "af_south" => "af-south-1",
        "me_south" => "me-south-1",
        _ => return None,
    })
}

/// Medusa's sizes: `50MB/s`, `1.5 GB`, `104857600`; a kilobyte is 1024 bytes.
pub(super) fn bytes(value: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 6] =
        [("PB", 1 << 50), ("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];
    let text = value.replace(' ', "").replace("/s", "");
    let unit = UNITS.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = unit.unwrap_or((text.as_str(), 1));
    let number: f64 = number.parse().ok()?;
    let whole = unit.is_some() || number.fract() == 0.0;
    let product = number * factor as f64;
    // Above 2^63 a float is no count of bytes any more.
    (whole && product.is_finite() && (0.0..9.2e18).contains(&product)).then_some(product as u64)
}
