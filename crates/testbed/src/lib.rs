//! A real Kubernetes control plane and real nodes on one Linux machine, started in seconds, thrown away
//! without a trace, with faults that tests ask for. Words: `docs/glossary.md`.
//!
//! ```no_run
//! use indexbuild_testbed::{Cluster, Direction, From, Options, Tools, objects};
//!
//! let cluster = Cluster::start(&Tools::find()?, Options::default())?;
//! cluster.apply(&[objects::on_node(objects::pod("writer", &["pause"]), "node2")])?;
//! cluster.cut("node2", From::Everything, Direction::Both)?;
//! // … what must hold while it is cut off …
//! cluster.heal("node2")?;
//! # Ok::<(), indexbuild_testbed::TestbedError>(())
//! ```
//!
//! All processes live in namespaces of their own, so the end of the cluster ends all of them. All nodes share
//! one kernel: a file lock conflicts between "nodes" where it would not in reality.

mod assert;
mod audit;
mod certs;
mod clocks;
mod cluster;
mod console;
mod control_plane;
mod dockerfile;
mod error;
mod fake;
mod fault;
mod image;
mod inside;
mod namespace;
mod node;
pub mod objects;
mod outside;
mod process;
mod provisioner;
mod read;
mod tools;
mod volumes;

pub use self::audit::Call;
pub use self::clocks::Clocks;
pub use self::cluster::{Cluster, Options, WORKLOAD_IMAGE, condition};
pub use self::console::{Console, Order, Peer, SOCKET, Way, send};
pub use self::dockerfile::{Base, Images, Recipe};
pub use self::error::TestbedError;
pub use self::fake::EXIT_CODE;
pub use self::fault::{Direction, From};
pub use self::image::{program_files, write_archive};
pub use self::objects::ON_DEMAND;
pub use self::outside::Door;
pub use self::provisioner::Provisioner;
pub use self::tools::{Tools, or_skip, tools_or_skip};
pub use self::volumes::Reclaim;
