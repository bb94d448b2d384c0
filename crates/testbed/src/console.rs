//! Commands from a shell in a cluster to the process that holds it: `testbed cut node2`, `testbed image …`.
//!
//! The command goes over a socket in the cluster's folder, one line of JSON each way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::error::{At as _, TestbedError};
use crate::faults::{Direction, Peer};
use crate::image::{program_files, write_archive};
use crate::local_volumes::Reclaim;
use crate::provisioner::Provisioner;

/// Where the socket is, for programs that run in the cluster's shell.
pub const SOCKET: &str = "INDEXBUILD_TESTBED_SOCKET";

#[derive(Clone, Debug, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
pub enum ConsoleCommand {
    /// Cut a node off: packets are dropped, never refused
    Cut {
        /// The node: node1, node2, …
        node: String,
        /// From what
        #[arg(long, value_enum, default_value_t = Peer::Everything)]
        from: Peer,
        /// Which way
        #[arg(long, value_enum, default_value_t = Direction::Both)]
        way: Direction,
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

/// Sends a command to the cluster whose shell this is. Returns its answer.
///
/// # Errors
/// Not in such a shell; the command's own failure.
pub fn send(command: &ConsoleCommand) -> Result<String, TestbedError> {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return Err(TestbedError::Unavailable(
            "this is asked from within a testbed's shell: start one by `make testbed`".to_owned(),
        ));
    };
    let mut stream = UnixStream::connect(&socket).at("connect to", Path::new(&socket))?;
    let line = serde_json::to_string(command).map_err(|error| TestbedError::Unavailable(error.to_string()))?;
    stream.write_all(format!("{line}\n").as_bytes()).at("write to", Path::new(&socket))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).at("read from", Path::new(&socket))?;
    let answer: Result<String, String> = serde_json::from_str(&answer)
        .map_err(|_| TestbedError::Unavailable("the testbed ended before it answered".to_owned()))?;
    answer.map_err(TestbedError::Unavailable)
}

/// Executes commands while a child of the cluster runs.
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
                // A client that disconnects before the answer does no harm.
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
        let answer = match serde_json::from_str::<ConsoleCommand>(&line) {
            Ok(command) => self.execute(cluster, command).map_err(|error| error.to_string()),
            Err(error) => Err(format!("not a command: {error}")),
        };
        let answer = serde_json::to_string(&answer).map_err(std::io::Error::other)?;
        stream.write_all(format!("{answer}\n").as_bytes())
    }

    fn execute(&mut self, cluster: &mut Cluster, command: ConsoleCommand) -> Result<String, TestbedError> {
        match command {
            ConsoleCommand::Cut { node, from, way } => {
                cluster.cut(&node, from, way)?;
                Ok(format!("{node} is cut off; `testbed heal {node}` ends it"))
            }
            ConsoleCommand::Heal { node } => cluster.heal(&node).map(|()| format!("{node} is in contact again")),
            ConsoleCommand::StopKubelet { node } => {
                cluster.stop_kubelet(&node).map(|()| format!("no kubelet on {node}"))
            }
            ConsoleCommand::StartKubelet { node } => {
                cluster.start_kubelet(&node).map(|()| format!("{node} has a kubelet"))
            }
            ConsoleCommand::Crash { node } => cluster.crash_node(&node).map(|()| format!("{node} is down")),
            ConsoleCommand::Boot { node } => cluster.boot_node(&node, true).map(|()| format!("{node} boots")),
            ConsoleCommand::Kill { pod } => cluster.kill_container(&pod).map(|()| format!("{pod} is killed")),
            ConsoleCommand::StopApiServer => {
                cluster.stop_api_server();
                Ok("the API server is down".to_owned())
            }
            ConsoleCommand::StartApiServer => cluster.start_api_server().map(|()| "the API server is up".to_owned()),
            ConsoleCommand::Volumes { per_node } => {
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
            ConsoleCommand::Image { name, program } => {
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
            ConsoleCommand::Import { archive } => {
                cluster.import_image(&archive).map(|()| format!("{} is on every node", archive.display()))
            }
            ConsoleCommand::Bucket { name } => cluster.bucket(&name).map(|folder| folder.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_outside_of_a_testbed_says_where_it_belongs() {
        let error = send(&ConsoleCommand::Heal { node: "node1".to_owned() }).unwrap_err().to_string();
        assert!(error.contains("make testbed"), "{error}");
    }

    #[test]
    fn a_command_is_the_same_on_the_other_side() {
        let command = ConsoleCommand::Cut { node: "node2".to_owned(), from: Peer::Api, way: Direction::Incoming };
        let line = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<ConsoleCommand>(&line).unwrap(), command);
    }
}
