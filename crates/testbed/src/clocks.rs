//! How soon Kubernetes notices and acts. What a test measures depends on it, so it is printed with the result.

use std::fmt;

/// The timers that decide when a silent node is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Seconds between a kubelet's status updates (`nodeStatusUpdateFrequency`).
    pub node_status: u32,
    /// Seconds that a node's lease lasts (`nodeLeaseDurationSeconds`).
    pub node_lease: u32,
    /// Seconds between two looks at the nodes (`--node-monitor-period`).
    pub monitor_period: u32,
    /// Seconds of silence after which a node is Unknown (`--node-monitor-grace-period`).
    pub monitor_grace: u32,
    /// Seconds that a pod without a toleration of its own stays on such a node
    /// (`--default-unreachable-toleration-seconds`, and the same for not ready).
    pub toleration: u32,
}

impl Clocks {
    /// Those of Kubernetes 1.34.
    pub const DEFAULT: Self =
        Self { node_status: 10, node_lease: 40, monitor_period: 5, monitor_grace: 50, toleration: 300 };
    /// A cut node is Unknown after some 16 s, its pods are Terminating some 10 s later.
    pub const SHORT: Self =
        Self { node_status: 4, node_lease: 8, monitor_period: 1, monitor_grace: 16, toleration: 10 };
}

impl fmt::Display for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node_status, node_lease, monitor_period, monitor_grace, toleration } = self;
        write!(
            f,
            "node status {node_status} s, lease {node_lease} s, monitor {monitor_period} s, grace {monitor_grace} s, toleration {toleration} s"
        )
    }
}
