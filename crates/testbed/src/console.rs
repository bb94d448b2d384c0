//! What a shell in a cluster can ask of the process that holds it: `testbed cut node2`, `testbed image …`.
//!
//! The order goes over a socket in the cluster's folder, one line of JSON each way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::error::{At as _, TestbedError};
use crate::fault::{Direction, From};
use crate::image::{program_files, write_archive};
use crate::provisioner::Provisioner;
use crate::volumes::Reclaim;

/// Where the socket is, for programs that run in the cluster's shell.
pub const SOCKET: &str = "INDEXBUILD_TESTBED_SOCKET";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
pub enum Order {
    /// Cut a node off: packets are dropped, never refused
    Cut {
        /// The node: node1, node2, …
        node: String,
        /// From what
        #[arg(long, value_enum, default_value_t = Peer::Everything)]
        from: Peer,
        /// Which way
        #[arg(long, value_enum, default_value_t = Way::Both)]
        way: Way,
    },
    /// End all cuts of a node
    Heal {
        /// The node
        node: String,
    },
    /// Kill a node's kubelet; its containers live on
    StopKubelet {
        /// The node
        node: String,
    },
    /// Start it again
    StartKubelet {
        /// The node
        node: String,
    },
    /// End all processes of a node at once; its volumes stay
    Crash {
        /// The node
        node: String,
    },
    /// Bring a crashed node back, with another boot id
    Boot {
        /// The node
        node: String,
    },
    /// Kill the process of a pod's first container
    Kill {
        /// The pod
        pod: String,
    },
    /// Stop the API server
    StopApiServer,
    /// Start it again
    StartApiServer,
    /// Offer local volumes (class `local`) on each node, and look after released ones
    Volumes {
        /// How many on each node
        #[arg(default_value_t = 4)]
        per_node: u32,
    },
    /// Put a program, with what it is linked with, into an image on every node
    Image {
        /// The image's name
        name: String,
        /// The program
        program: PathBuf,
    },
    /// Import an image's archive on every node
    Import {
        /// The archive (OCI or Docker)
        archive: PathBuf,
    },
    /// Make a bucket; prints the folder of its objects
    Bucket {
        /// The bucket
        name: String,
    },
}

/// What a node is cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Peer {
    /// The API server alone
    Api,
    /// The object store alone
    Store,
    /// The other nodes
    Nodes,
    /// Everything outside the node
    Everything,
}

/// Which way packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Way {
    /// Both
    Both,
    /// What comes to the node
    In,
    /// What leaves the node
    Out,
}

/// Sends an order to the cluster whose shell this is. Returns what it answers.
///
/// # Errors
/// Not in such a shell; the order's own failure.
pub fn send(order: &Order) -> Result<String, TestbedError> {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return Err(TestbedError::Unavailable(
            "this is asked from within a testbed's shell: start one by `make testbed`".to_owned(),
        ));
    };
    let mut stream = UnixStream::connect(&socket).at("connect to", Path::new(&socket))?;
    let line = serde_json::to_string(order).map_err(|error| TestbedError::Unavailable(error.to_string()))?;
    stream.write_all(format!("{line}\n").as_bytes()).at("write to", Path::new(&socket))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).at("read from", Path::new(&socket))?;
    let answer: Result<String, String> = serde_json::from_str(&answer)
        .map_err(|_| TestbedError::Unavailable("the testbed ended before it answered".to_owned()))?;
    answer.map_err(TestbedError::Unavailable)
}

/// Carries out orders while a child of the cluster runs.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
    provisioner: Option<Provisioner>,
}

impl Console {
    /// A console of a cluster; its shell gets [`SOCKET`] with [`Console::path`].
    ///
    /// # Errors
    /// A socket that cannot be made.
    pub fn new(cluster: &Cluster) -> Result<Self, TestbedError> {
        let path = cluster.folder().join("console");
        let listener = UnixListener::bind(&path).at("make", &path)?;
        listener.set_nonblocking(true).at("listen on", &path)?;
        Ok(Self { listener, path, provisioner: None })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until the child has ended.
    ///
    /// # Errors
    /// A child that cannot be waited for.
    pub fn serve(&mut self, cluster: &mut Cluster, child: &mut Child) -> Result<ExitStatus, TestbedError> {
        loop {
            while let Ok((stream, _)) = self.listener.accept() {
                // Whoever goes away before the answer is not waited for.
                let _ = self.answer(cluster, &stream);
            }
            if let Some(status) = child.try_wait().at("wait for", Path::new("the command"))? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn answer(&mut self, cluster: &mut Cluster, mut stream: &UnixStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let answer = match serde_json::from_str::<Order>(&line) {
            Ok(order) => self.carry_out(cluster, order).map_err(|error| error.to_string()),
            Err(error) => Err(format!("not an order: {error}")),
        };
        let answer = serde_json::to_string(&answer).map_err(std::io::Error::other)?;
        stream.write_all(format!("{answer}\n").as_bytes())
    }

    fn carry_out(&mut self, cluster: &mut Cluster, order: Order) -> Result<String, TestbedError> {
        match order {
            Order::Cut { node, from, way } => {
                let from = match from {
                    Peer::Api => From::Api,
                    Peer::Store => From::Store,
                    Peer::Nodes => From::Nodes,
                    Peer::Everything => From::Everything,
                };
                let direction = match way {
                    Way::Both => Direction::Both,
                    Way::In => Direction::Incoming,
                    Way::Out => Direction::Outgoing,
                };
                cluster.cut(&node, from, direction)?;
                Ok(format!("{node} is cut off; `testbed heal {node}` ends it"))
            }
            Order::Heal { node } => cluster.heal(&node).map(|()| format!("{node} is in contact again")),
            Order::StopKubelet { node } => cluster.stop_kubelet(&node).map(|()| format!("no kubelet on {node}")),
            Order::StartKubelet { node } => cluster.start_kubelet(&node).map(|()| format!("{node} has a kubelet")),
            Order::Crash { node } => cluster.crash_node(&node).map(|()| format!("{node} is down")),
            Order::Boot { node } => cluster.boot_node(&node, true).map(|()| format!("{node} boots")),
            Order::Kill { pod } => cluster.kill_container(&pod).map(|()| format!("{pod} is killed")),
            Order::StopApiServer => {
                cluster.stop_api_server();
                Ok("the API server is down".to_owned())
            }
            Order::StartApiServer => cluster.start_api_server().map(|()| "the API server is up".to_owned()),
            Order::Volumes { per_node } => {
                let nodes: Vec<String> = cluster.nodes().map(|node| node.name.clone()).collect();
                for node in &nodes {
                    for number in 1..=per_node {
                        cluster.offer_volume(node, &format!("{node}-{number}"), Reclaim::Delete)?;
                    }
                }
                if self.provisioner.is_none() {
                    self.provisioner = Some(cluster.provisioner()?);
                }
                Ok(format!("{per_node} volumes of class local on each of {} nodes", nodes.len()))
            }
            Order::Image { name, program } => {
                let archive = cluster.folder().join("console-image.tar");
                let files = program_files(&program)?;
                let place = files.first().map(|(_, place)| place.clone()).unwrap_or_default();
                let listed: Vec<(&Path, &str)> =
                    files.iter().map(|(file, place)| (file.as_path(), place.as_str())).collect();
                write_archive(&archive, &name, &listed, &[&place])?;
                let done = cluster.import_image(&archive);
                let _ = std::fs::remove_file(&archive);
                done.map(|()| format!("{name} is on every node"))
            }
            Order::Import { archive } => {
                cluster.import_image(&archive).map(|()| format!("{} is on every node", archive.display()))
            }
            Order::Bucket { name } => cluster.bucket(&name).map(|folder| folder.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_outside_of_a_testbed_says_where_it_belongs() {
        let error = send(&Order::Heal { node: "node1".to_owned() }).unwrap_err().to_string();
        assert!(error.contains("make testbed"), "{error}");
    }

    #[test]
    fn an_order_is_the_same_on_the_other_side() {
        let order = Order::Cut { node: "node2".to_owned(), from: Peer::Api, way: Way::In };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
    }
}
