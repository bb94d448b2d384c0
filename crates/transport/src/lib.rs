//! What all clients of object stores in a process share: the one runtime that their connections live on, and how they are
//! told which CA certificates to trust beside the system's.
//!
//! A client keeps its connections alive, and each is driven by a task of the runtime on which it was opened. Where two
//! runtimes use one client, a request may be sent on a connection that the other one opened and does not drive just now,
//! and hangs until its time is up. A store that closes each connection hides that; most do not. Here every request is
//! made on one runtime, whichever runtime or thread waits for its answer.

mod ca;
mod connector;
mod runtime;

pub use ca::{BadCaFile, CaCertificates};
pub use connector::Connector;
pub use runtime::runtime;
