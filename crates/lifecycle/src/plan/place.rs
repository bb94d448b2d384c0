//! Where an owner runs, in words.

use super::Pass;
use super::grants::RecordDraft;
use crate::platform::Platform;
use crate::world::NodeReady;

impl Pass<'_> {
    /// Of one machine there is no other, so that it needs no naming.
    pub(super) fn on_node(&self, name: &str) -> String {
        match self.world.platform {
            Platform::Kubernetes => format!(" on node {name}"),
            Platform::OneMachine => String::new(),
        }
    }

    /// Where the owner runs, and how that node is.
    pub(super) fn place_of(&self, draft: &RecordDraft<'_>) -> String {
        let grant = draft.view.record.spec.grant.as_ref();
        let Some(name) = grant.map(|grant| grant.node_name.as_str()).filter(|name| !name.is_empty()) else {
            return String::new();
        };
        match self.world.node(name).filter(|node| !node.gone) {
            None if self.world.nodes.is_empty() => self.on_node(name),
            None => format!(" on node {name}, which is not there any more"),
            Some(node) => match node.ready {
                NodeReady::True => self.on_node(name),
                NodeReady::False => format!(" on node {name}, which says that it is not ready"),
                NodeReady::Unknown => format!(" on node {name}, which is silent too"),
            },
        }
    }
}
