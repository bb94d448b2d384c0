//! What all who ask an object store share: the tables that are read, and the indexes that are written.
//!
//! [`client()`] makes the client of a store, and nobody else does. [`Connector`] makes HTTP clients whose connections
//! live on [`runtime()`], the one of the process, and that trust [`CaCertificates`] beside the system's. A client keeps its
//! connections alive, and each is driven by a task of the runtime on which it was opened. Where two runtimes use one
//! client, a request may be sent on a connection that the other one opened and does not drive just now, and hangs until its
//! time is up. A store that closes each connection hides that; most do not.
//!
//! How long a store may be silent is [`Patience`], and [`download()`] goes on where a connection broke: both count from the
//! last byte. Lists come without the keys that cannot be read ([`is_readable`]).
//!
//! [`in_parallel`] makes many small requests, a few at once.
//!
//! [`Fault`] sorts every failure by what ends it. [`answer()`] says what was answered, in words that stay the same as long
//! as the answer does. [`lacking`] says which credentials a secret should have and does not, [`check_endpoint`] whether an
//! address is one, and [`missing_right`] which right a refusal is about.
//!
//! [`file_url()`] and [`path_of_file_url`] are the one way from a path to a URL and back.
//!
//! Words: `docs/glossary.md`.

mod answer;
mod ca;
mod client;
mod connector;
mod credentials;
mod download;
mod endpoint;
mod fault;
mod file_url;
mod listed;
mod parallel;
mod patience;
mod rights;
mod runtime;
mod values;

pub use answer::answer;
pub use ca::{BadCaFile, CaCertificates};
pub use client::{ClientError, Provider, Retries, StoreOptions, client};
pub use connector::Connector;
pub use credentials::{is_known, lacking};
pub use download::{Changed, DownloadError, download, download_bytes, is_changed};
pub use endpoint::{BadEndpoint, check_endpoint};
pub use fault::Fault;
pub use file_url::{
    BadFileUrl, decoded_name, file_url, is_file_url, names_of_file_url, path_of_file_url, readable_file_url,
};
pub use listed::is_readable;
pub use parallel::in_parallel;
pub use patience::Patience;
pub use rights::{Asked, missing_right};
pub use runtime::runtime;
pub use values::{BadValue, trimmed};
