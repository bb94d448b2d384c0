//! A real Kubernetes control plane and real nodes on one Linux machine, started in seconds, thrown away
//! without a trace, with faults that tests ask for. Words: `docs/glossary.md`.
//!
//! ```no_run
//! use indexbuild_testbed::{Cluster, Direction, Peer, Options, Tools, objects};
//!
//! let cluster = Cluster::start(&Tools::find()?, Options::default())?;
//! cluster.apply(&[objects::on_node(objects::pod("writer", &["pause"]), "node2")])?;
//! cluster.cut("node2", Peer::Everything, Direction::Both)?;
//! // … what must hold while it is cut off …
//! cluster.heal("node2")?;
//! # Ok::<(), indexbuild_testbed::TestbedError>(())
//! ```
//!
//! All processes live in namespaces of their own, so the end of the cluster ends all of them. All nodes share
//! one kernel: a file lock conflicts between "nodes" where it would not in reality.

mod api_reads;
mod assertions;
mod audit;
mod certs;
mod clocks;
mod cluster;
mod console;
mod control_plane;
mod csi;
mod dockerfile;
mod error;
mod exec;
mod fake_nodes;
mod faults;
mod image;
mod local_volumes;
mod namespace;
mod node;
pub mod objects;
mod port_forward;
mod process;
mod provisioner;
mod tools;

pub use self::audit::ApiCall;
pub use self::clocks::Clocks;
pub use self::cluster::{Cluster, Options, WORKLOAD_IMAGE, condition};
pub use self::console::{Console, ConsoleCommand, SOCKET, send};
pub use self::dockerfile::{BaseImage, ImageBuilder, ImageSpec};
pub use self::error::TestbedError;
pub use self::fake_nodes::EXIT_CODE;
pub use self::faults::{Direction, Peer};
pub use self::image::{program_files, write_archive};
pub use self::local_volumes::Reclaim;
pub use self::objects::ON_DEMAND;
pub use self::port_forward::PortForward;
pub use self::provisioner::Provisioner;
pub use self::tools::{Tools, or_skip, tools_or_skip};
