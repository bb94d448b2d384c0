//! When the containers of a namespace's pods begin, and when they crash.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Containers {
    /// Namespaces where they wait before they begin.
    waiting: watch::Sender<BTreeSet<String>>,
    /// How often those of a namespace have crashed.
    crashes: watch::Sender<BTreeMap<String, u64>>,
}

impl Containers {
    /// They do not begin, as when an image is on its way.
    pub(crate) fn hold(&self, namespace: &str) {
        self.waiting.send_modify(|waiting| waiting.extend([namespace.to_owned()]));
    }

    /// They begin.
    pub(crate) fn release(&self, namespace: &str) {
        self.waiting.send_modify(|waiting| waiting.retain(|name| name != namespace));
    }

    pub(super) async fn may_start(&self, namespace: &str) {
        let mut waiting = self.waiting.subscribe();
        if waiting.wait_for(|waiting| !waiting.contains(namespace)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Those that run end with an exit code, and without a word.
    pub(crate) fn crash(&self, namespace: &str) {
        self.crashes.send_modify(|crashes| *crashes.entry(namespace.to_owned()).or_default() += 1);
    }

    pub(super) fn crashes(&self, namespace: &str) -> u64 {
        self.crashes.borrow().get(namespace).copied().unwrap_or_default()
    }

    /// Until they have crashed once more.
    pub(super) async fn crashed(&self, namespace: &str, before: u64) {
        let mut crashes = self.crashes.subscribe();
        let more = |crashes: &BTreeMap<String, u64>| crashes.get(namespace).is_some_and(|now| *now > before);
        if crashes.wait_for(more).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
