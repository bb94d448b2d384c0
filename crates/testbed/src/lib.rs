//! A real Kubernetes control plane and real nodes on one Linux machine, started in seconds, thrown away
//! without a trace, with faults that tests ask for.
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
mod certs;
mod clocks;
mod cluster;
mod control_plane;
mod error;
mod fault;
mod image;
mod namespace;
mod node;
pub mod objects;
mod outside;
mod process;
mod tools;
mod volumes;

pub use self::clocks::Clocks;
pub use self::cluster::{Cluster, Options, WORKLOAD_IMAGE, condition};
pub use self::error::TestbedError;
pub use self::fault::{Direction, From};
pub use self::image::write_archive;
pub use self::outside::Door;
pub use self::tools::{Tools, tools_or_skip};
pub use self::volumes::{Provisioner, Reclaim};
