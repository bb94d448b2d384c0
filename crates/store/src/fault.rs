//! Whose fault a failure is, and what ends it.

use std::error::Error;

use http::StatusCode;
use indexbuild_text::causes;
use object_store::client::{HttpError, HttpErrorKind};

use crate::answer::{asked_metadata, has_code, says, status_of};

/// What a failure of a store means to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody's fault, and it passes by itself: no connection, a time-out, 408, 429, 5xx.
    Outage,
    /// The store, or whoever claims to be it, is there and refuses: 401, 403, an expired token, a certificate that
    /// nobody vouches for, no credentials, a quota that is used up. It passes when somebody changes something, and is nobody's fault in the build:
    /// keys are rotated, and policies come late.
    Refused,
    /// The bucket (container) is not there. Somebody may still make it.
    NoBucket,
    NotFound,
    /// The same request will be answered alike: 501, a bad request, an address that is none.
    Final,
}

/// Answers that are about credentials, whatever their status: AWS says of tokens that have run out with 400 that they have,
/// and versitygw of a key that it does not know with 404 that there is no such user. Taken for an object that is not there,
/// a rotated key would read as an empty table.
const CREDENTIAL_CODES: [&str; 9] = [
    "AccessDenied",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoSuchUser",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "XAdminUserNotFound",
];
/// Answers with 400 that are time-outs.
const TIMEOUT_CODES: [&str; 1] = ["RequestTimeout"];
/// Answers that a bucket's quota, or the store, is full, whatever their status: MinIO says so with 400.
const ROOM_CODES: [&str; 4] =
    ["BucketQuotaExceeded", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"];
const BUCKET_CODES: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "BucketNotFound"];
/// Google answers in its own words.
const BUCKET_WORDS: [&str; 2] = ["specified bucket does not exist", "specified container does not exist"];
/// What TLS says of a certificate that it does not trust, whatever is wrong with it.
const CERTIFICATE: &str = "invalid peer certificate";
/// An address that is none, or that may not be used.
const NO_ADDRESS: [&str; 6] = [
    "Invalid URI",
    "invalid URL",
    "URL scheme is not allowed",
    "relative URL without a base",
    "empty host",
    "invalid port",
];

impl Fault {
    #[must_use]
    pub fn of(error: &object_store::Error) -> Self {
        use object_store::Error as Of;
        match error {
            Of::NotFound { .. } => Self::of_absence(error),
            Of::PermissionDenied { .. } | Of::Unauthenticated { .. } => Self::Refused,
            Of::InvalidPath { .. }
            | Of::NotSupported { .. }
            | Of::NotImplemented { .. }
            | Of::AlreadyExists { .. }
            | Of::Precondition { .. }
            | Of::NotModified { .. }
            | Of::UnknownConfigurationKey { .. } => Self::Final,
            // A generic one, and kinds that a later version of the library may have.
            other => Self::of_answer(other),
        }
    }

    fn of_answer(error: &(dyn Error + 'static)) -> Self {
        if asked_metadata(error) {
            return Self::Refused;
        }
        if let Some(status) = status_of(error) {
            return Self::of_status(status, error);
        }
        if says(error, &[CERTIFICATE]) {
            return Self::Refused;
        }
        if says(error, &NO_ADDRESS) {
            return Self::Final;
        }
        match transport(error) {
            // An answer that breaks off in its midst is one that cannot be decoded, too.
            Some(
                HttpErrorKind::Connect
                | HttpErrorKind::Request
                | HttpErrorKind::Timeout
                | HttpErrorKind::Interrupted
                | HttpErrorKind::Decode
                | HttpErrorKind::Unknown,
            ) => Self::Outage,
            // Kinds of a later version.
            Some(_) => Self::Outage,
            None => Self::Final,
        }
    }

    /// Something is not there: which thing is in the answer's code.
    fn of_absence(error: &(dyn Error + 'static)) -> Self {
        if has_code(error, &CREDENTIAL_CODES) {
            Self::Refused
        } else if is_about_bucket(error) {
            Self::NoBucket
        } else {
            Self::NotFound
        }
    }

    fn of_status(status: StatusCode, error: &(dyn Error + 'static)) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Refused,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Outage,
            StatusCode::NOT_IMPLEMENTED => Self::Final,
            StatusCode::NOT_FOUND => Self::of_absence(error),
            StatusCode::BAD_REQUEST if has_code(error, &CREDENTIAL_CODES) => Self::Refused,
            // Somebody makes room, or raises the quota.
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT if has_code(error, &ROOM_CODES) => Self::Refused,
            StatusCode::BAD_REQUEST if has_code(error, &TIMEOUT_CODES) => Self::Outage,
            status if status.is_server_error() => Self::Outage,
            // 200 with an error in its body: S3 says so when it is busy.
            status if status.is_success() => Self::Outage,
            _ => Self::Final,
        }
    }
}

fn is_about_bucket(error: &(dyn Error + 'static)) -> bool {
    has_code(error, &BUCKET_CODES) || says(error, &BUCKET_WORDS)
}

/// Whether a request was given up because nothing moved.
pub(crate) fn is_silence(error: &(dyn Error + 'static)) -> bool {
    transport(error) == Some(HttpErrorKind::Timeout)
}

/// The kind of the failure on the way, if it was one.
fn transport(error: &(dyn Error + 'static)) -> Option<HttpErrorKind> {
    causes(error).find_map(|error| error.downcast_ref::<HttpError>()).map(HttpError::kind)
}
