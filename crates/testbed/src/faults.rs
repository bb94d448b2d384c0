//! Faults that tests inject, and how each is mended. A cut drops packets, as a network does; it never refuses them. Pods are
//! named as `name` in the namespace `default`, or as `namespace/name`.

use clap::ValueEnum;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::control_plane::{API, STORE};
use crate::error::TestbedError;
use crate::namespace::{output_of, signal};
use crate::node::Node;

/// What a node, with all its pods, is cut off from.
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
pub enum Direction {
    /// Both
    Both,
    /// What comes to the node
    #[value(name = "in")]
    Incoming,
    /// What leaves the node
    #[value(name = "out")]
    Outgoing,
}

impl Cluster {
    /// Cuts a node off, until [`Cluster::heal`].
    ///
    /// # Errors
    /// A node that does not exist; nft's failure.
    pub fn cut(&self, node: &str, from: Peer, direction: Direction) -> Result<(), TestbedError> {
        let node = self.node(node)?;
        let peers = self.peers(node, from);
        let mut rules = table();
        for peer in peers {
            if direction != Direction::Outgoing {
                for chain in ["incoming", "through"] {
                    rules.push_str(&format!("add rule inet cut {chain} iifname eth0 ip saddr {peer} drop\n"));
                }
            }
            if direction != Direction::Incoming {
                for chain in ["outgoing", "through"] {
                    rules.push_str(&format!("add rule inet cut {chain} oifname eth0 ip daddr {peer} drop\n"));
                }
            }
        }
        let mut command = self.namespace().command(&node.net(), "nft");
        command.arg(rules);
        output_of(command).map(drop)
    }

    /// Cuts one pod off, until [`Cluster::heal`] of its node; the node's other pods go on.
    ///
    /// # Errors
    /// A pod without an address; nft's failure.
    pub fn cut_pod(&self, pod: &str, from: Peer, direction: Direction) -> Result<(), TestbedError> {
        let object = self.pod(pod)?;
        let node = self.node(object["spec"]["nodeName"].as_str().unwrap_or_default())?;
        let Some(address) = object["status"]["podIP"].as_str() else {
            return Err(TestbedError::Unavailable(format!("pod {pod} has no address yet: wait until it runs")));
        };
        let mut rules = table();
        for peer in self.peers(node, from) {
            if direction != Direction::Outgoing {
                rules.push_str(&format!(
                    "add rule inet cut through iifname eth0 ip daddr {address} ip saddr {peer} drop\n"
                ));
            }
            if direction != Direction::Incoming {
                rules.push_str(&format!(
                    "add rule inet cut through oifname eth0 ip saddr {address} ip daddr {peer} drop\n"
                ));
            }
        }
        let mut command = self.namespace().command(&node.net(), "nft");
        command.arg(rules);
        output_of(command).map(drop)
    }

    /// The addresses that a node is to be cut off from.
    fn peers(&self, node: &Node, from: Peer) -> Vec<String> {
        match from {
            Peer::Api => vec![API.to_owned()],
            Peer::Store => vec![STORE.to_owned()],
            Peer::Nodes => self
                .nodes()
                .filter(|other| other.name != node.name)
                .flat_map(|other| {
                    [other.address(), format!("10.244.{}.0/24", other.address().trim_start_matches("10.88.0.1"))]
                })
                .collect(),
            Peer::Everything => vec!["0.0.0.0/0".to_owned()],
        }
    }

    /// Ends all cuts of a node and of its pods.
    ///
    /// # Errors
    /// A node that does not exist; nft's failure.
    pub fn heal(&self, node: &str) -> Result<(), TestbedError> {
        let node = self.node(node)?;
        let mut command = self.namespace().command(&node.net(), "nft");
        command.arg("add table inet cut; delete table inet cut");
        output_of(command).map(drop)
    }

    /// Kills a node's kubelet; its containers live on.
    ///
    /// # Errors
    /// A node that does not exist.
    pub fn stop_kubelet(&mut self, node: &str) -> Result<(), TestbedError> {
        self.node_mut(node)?.stop_kubelet();
        Ok(())
    }

    /// Starts a kubelet that was stopped.
    ///
    /// # Errors
    /// A node that does not exist; a kubelet that cannot be started.
    pub fn start_kubelet(&mut self, node: &str) -> Result<(), TestbedError> {
        self.with_node(node, Node::start_kubelet)
    }

    /// Has a kubelet find too little room on its disk (`evictionHard` above what is free), so that it evicts one pod after the
    /// other, and its node takes no new ones; or enough again. Images that no pod uses may be gone by then.
    ///
    /// # Errors
    /// A node that does not exist; a kubelet that cannot be started.
    pub fn press_disk(&mut self, node: &str, pressed: bool) -> Result<(), TestbedError> {
        self.node(node)?.write_disk_pressure(pressed)?;
        self.stop_kubelet(node)?;
        self.start_kubelet(node)
    }

    /// Stops (SIGSTOP) a node's kubelet, or lets it go on: a process that slept longer than its lease.
    ///
    /// # Errors
    /// A node that does not exist.
    pub fn freeze_kubelet(&self, node: &str, frozen: bool) -> Result<(), TestbedError> {
        self.node(node)?.freeze_kubelet(frozen);
        Ok(())
    }

    /// Ends all processes of a node at once; its volumes stay.
    ///
    /// # Errors
    /// A node that does not exist; mounts that cannot be undone.
    pub fn crash_node(&mut self, node: &str) -> Result<(), TestbedError> {
        self.with_node(node, |node, context| node.crash(context.namespace))
    }

    /// Starts a crashed node, as after a reboot (another boot id) or a thaw (the same).
    ///
    /// # Errors
    /// A node that does not exist; a process that cannot be started.
    pub fn boot_node(&mut self, node: &str, new_boot_id: bool) -> Result<(), TestbedError> {
        self.with_node(node, |node, context| node.boot(context, new_boot_id))
    }

    /// Deletes a Node object, as a cloud's controller does when the machine is gone.
    pub fn delete_node_object(&self, node: &str) -> Result<(), TestbedError> {
        self.kubectl(&["delete", "node", node, "--wait=false"]).map(drop)
    }

    /// The taint by which an administrator vouches that a node is down.
    pub fn taint_out_of_service(&self, node: &str) -> Result<(), TestbedError> {
        self.kubectl(&["taint", "node", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]).map(drop)
    }

    /// Takes that taint away again.
    ///
    /// # Errors
    /// kubectl's: a node without it.
    pub fn untaint_out_of_service(&self, node: &str) -> Result<(), TestbedError> {
        self.kubectl(&["taint", "node", node, "node.kubernetes.io/out-of-service-"]).map(drop)
    }

    /// Lets no new pods on a node, or lets them again.
    pub fn cordon(&self, node: &str, closed: bool) -> Result<(), TestbedError> {
        self.kubectl(&[if closed { "cordon" } else { "uncordon" }, node]).map(drop)
    }

    /// Drains a node as before maintenance: eviction of each pod, which a PodDisruptionBudget may refuse.
    /// [`Cluster::cordon`] with `false` undoes it.
    ///
    /// # Errors
    /// Pods that have not gone within this many seconds.
    pub fn drain(&self, node: &str, seconds: u32) -> Result<(), TestbedError> {
        let timeout = format!("--timeout={seconds}s");
        self.kubectl(&["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", &timeout]).map(drop)
    }

    /// Kills the processes of a pod's first container (SIGKILL), as the kernel does when memory is short.
    ///
    /// # Errors
    /// A pod whose container does not run.
    pub fn kill_container(&self, pod: &str) -> Result<(), TestbedError> {
        self.signal_container(pod, Signal::KILL)
    }

    /// Stops (SIGSTOP) the processes of a pod's first container, or lets them go on: a process that sleeps for
    /// longer than its lease, and then believes that no time has passed.
    ///
    /// # Errors
    /// A pod whose container does not run.
    pub fn freeze_container(&self, pod: &str, frozen: bool) -> Result<(), TestbedError> {
        self.signal_container(pod, if frozen { Signal::STOP } else { Signal::CONT })
    }

    fn signal_container(&self, pod: &str, what: Signal) -> Result<(), TestbedError> {
        for process in self.processes(pod)? {
            signal(process, what);
        }
        Ok(())
    }
}

fn table() -> String {
    let mut rules = String::from("add table inet cut\n");
    for (chain, hook) in [("incoming", "input"), ("outgoing", "output"), ("through", "forward")] {
        rules.push_str(&format!("add chain inet cut {chain} {{ type filter hook {hook} priority -10; }}\n"));
    }
    rules
}
