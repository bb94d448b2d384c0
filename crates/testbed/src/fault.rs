//! What tests break, and how it is mended. A cut drops packets, as a network does; it never refuses them.

use crate::cluster::Cluster;
use crate::control_plane::{API, STORE};
use crate::error::TestbedError;
use crate::namespace::finish;

/// What a node, with all its pods, is cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The API server alone.
    Api,
    /// The object store alone.
    Store,
    /// Other nodes and their pods.
    Nodes,
    /// Everything outside the node.
    Everything,
}

/// Which way packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    Both,
    /// What comes to the node.
    Incoming,
    /// What leaves the node.
    Outgoing,
}

impl Cluster {
    /// Cuts a node off, until [`Cluster::heal`].
    ///
    /// # Errors
    /// A node that does not exist; nft's failure.
    pub fn cut(&self, node: &str, from: From, direction: Direction) -> Result<(), TestbedError> {
        let node = self.node(node)?;
        let peers: Vec<String> = match from {
            From::Api => vec![API.to_owned()],
            From::Store => vec![STORE.to_owned()],
            From::Nodes => self
                .nodes()
                .filter(|other| other.name != node.name)
                .flat_map(|other| {
                    [other.address(), format!("10.244.{}.0/24", other.address().trim_start_matches("10.88.0.1"))]
                })
                .collect(),
            From::Everything => vec!["0.0.0.0/0".to_owned()],
        };
        let mut rules = String::from("add table inet cut\n");
        for (chain, hook) in [("incoming", "input"), ("outgoing", "output"), ("through", "forward")] {
            rules.push_str(&format!("add chain inet cut {chain} {{ type filter hook {hook} priority -10; }}\n"));
        }
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
        finish(command).map(drop)
    }

    /// Ends all cuts of a node.
    ///
    /// # Errors
    /// A node that does not exist; nft's failure.
    pub fn heal(&self, node: &str) -> Result<(), TestbedError> {
        let node = self.node(node)?;
        let mut command = self.namespace().command(&node.net(), "nft");
        command.arg("add table inet cut; delete table inet cut");
        finish(command).map(drop)
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
        self.with_node(node, crate::node::Node::start_kubelet)
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
        self.with_node(node, |node, around| node.crash(around.namespace))
    }

    /// Starts a crashed node, as after a reboot (another boot id) or a thaw (the same).
    ///
    /// # Errors
    /// A node that does not exist; a process that cannot be started.
    pub fn boot_node(&mut self, node: &str, new_boot_id: bool) -> Result<(), TestbedError> {
        self.with_node(node, |node, around| node.boot(around, new_boot_id))
    }

    /// Deletes a Node object, as a cloud's controller does when the machine is gone.
    ///
    /// # Errors
    /// kubectl's.
    pub fn delete_node_object(&self, node: &str) -> Result<(), TestbedError> {
        self.kubectl(&["delete", "node", node, "--wait=false"]).map(drop)
    }

    /// The taint by which an administrator vouches that a node is down.
    ///
    /// # Errors
    /// kubectl's.
    pub fn taint_out_of_service(&self, node: &str) -> Result<(), TestbedError> {
        self.kubectl(&["taint", "node", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]).map(drop)
    }
}
