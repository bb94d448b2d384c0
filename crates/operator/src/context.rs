//! What the passes over all builds share: the client, the caches, and what is remembered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indexbuild_api::{Guarded, IndexBuild, IndexBuildStatus};
use indexbuild_lifecycle::Millis;
use indexbuild_lifecycle::observer::NodeObserver;
use indexbuild_lifecycle::world::{BuildView, World};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::runtime::reflector::ObjectRef;

use crate::budget::Budget;
use crate::caches::{Caches, Nodes};
use crate::memory::BuildMemory;
use crate::objects::{Image, Owner};
use crate::observe::{Objects, Observed, remains, world};
use crate::reporting::Reporting;
use crate::server_time::Moment;
use crate::test_switches::TestSwitches;
use crate::turns::Turns;
use crate::unreadable::UnreadableObjects;
use crate::unstarted;

pub(crate) struct Context {
    pub client: Client,
    /// The image that executors run.
    pub image: Image,
    /// What is watched where this operator looks.
    pub caches: Caches,
    pub nodes: Nodes,
    /// The CSI drivers whose detach cuts a node off from a volume.
    detaching_drivers: BTreeSet<String>,
    /// Events, metrics, and whether ownership is enforced.
    pub reporting: Arc<Reporting>,
    /// The writes that all builds have together; `None`: as many as they like.
    budget: Option<Arc<Budget>>,
    /// Whose pass is made now.
    pub turns: Arc<Turns>,
    memories: Mutex<HashMap<String, Arc<tokio::sync::Mutex<BuildMemory>>>>,
    node_observer: Mutex<NodeObserver>,
    failures: Mutex<HashMap<String, u32>>,
    started: Instant,
    switches: TestSwitches,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// A context that remembers nothing yet.
    #[must_use]
    pub(crate) fn new(client: Client, image: Image, caches: Caches, nodes: Nodes, reporting: Arc<Reporting>) -> Self {
        Self {
            client,
            image,
            caches,
            nodes,
            detaching_drivers: BTreeSet::new(),
            reporting,
            budget: None,
            turns: Arc::new(Turns::new(1)),
            memories: Mutex::default(),
            node_observer: Mutex::default(),
            failures: Mutex::default(),
            started: Instant::now(),
            switches: TestSwitches::default(),
        }
    }

    /// With drivers whose detach is believed.
    #[must_use]
    pub(crate) fn with_detaching_drivers(self, drivers: &[String]) -> Self {
        Self { detaching_drivers: drivers.iter().cloned().collect(), ..self }
    }

    /// With a budget, and turns, that it shares with others.
    #[must_use]
    pub(crate) fn sharing(self, budget: Arc<Budget>, turns: Arc<Turns>) -> Self {
        Self { budget: Some(budget), turns, ..self }
    }

    /// A build as the cache has it now, where that has it.
    pub(crate) fn newest(&self, build: Arc<Guarded<IndexBuild>>) -> Arc<Guarded<IndexBuild>> {
        self.caches.builds.get(&ObjectRef::from_obj(build.as_ref())).unwrap_or(build)
    }

    /// With behaviour that only tests ask for.
    #[must_use]
    pub(crate) fn with_switches(self, switches: TestSwitches) -> Self {
        Self { switches, ..self }
    }

    /// Milliseconds of this process's own monotonic clock.
    pub(crate) fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Now, by this process's clock and the API server's.
    pub(crate) fn moment(&self) -> Moment {
        let server = self.reporting.metrics.server_time().filter(|_| !self.switches.forget_server_time);
        Moment { now: self.now(), server }
    }

    /// Counts one more failure in a row of a build's passes. How many there are now.
    pub(crate) fn failed(&self, uid: String) -> u32 {
        let mut all = lock(&self.failures);
        let failures = all.entry(uid).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    /// Begins to count a build's failures anew.
    pub(crate) fn succeeded(&self, uid: &str) {
        lock(&self.failures).remove(uid);
    }

    pub(crate) fn memory(&self, uid: &str) -> Arc<tokio::sync::Mutex<BuildMemory>> {
        Arc::clone(lock(&self.memories).entry(uid.to_owned()).or_default())
    }

    /// Forgets builds that are not there any more.
    pub(crate) fn forget_all_but(&self, uids: &HashSet<String>) {
        lock(&self.failures).retain(|uid, _| uids.contains(uid));
        lock(&self.memories).retain(|uid, _| {
            let known = uids.contains(uid);
            if !known {
                self.reporting.events.forget(uid);
            }
            known
        });
    }

    /// The lifecycle's view of a build.
    pub(crate) fn world(
        &self,
        build: &IndexBuild,
        status: Option<IndexBuildStatus>,
        objects: &Objects,
        memory: &mut BuildMemory,
    ) -> Result<World, UnreadableObjects> {
        let observed = Observed { build, status, moment: self.moment() };
        let objects = self.switches.hide(objects);
        let mut world = world(observed, &objects, memory, &mut lock(&self.node_observer))?;
        world.build.share = self.budget.as_ref().map(|budget| budget.share_of(&world.build.uid)).unwrap_or_default();
        memory.share = world.build.share;
        unstarted::complete(&mut world, build, &objects, memory, &self.image);
        Ok(self.completed(world))
    }

    /// The lifecycle's view of what a build left whose object is gone.
    pub(crate) fn remains(
        &self,
        owner: &Owner,
        objects: &Objects,
        memory: &mut BuildMemory,
    ) -> Result<World, UnreadableObjects> {
        let Owner { namespace, name, uid } = owner.clone();
        let build = BuildView::gone(uid, name, namespace);
        let objects = self.switches.hide(objects);
        let world = remains(build, self.moment(), &objects, memory, &mut lock(&self.node_observer))?;
        Ok(self.completed(world))
    }

    /// A pod as tests want it.
    pub(crate) fn switched(&self, pod: Pod) -> Pod {
        self.switches.switched(pod)
    }

    /// What tests have of this operator: of its writes, they may want more than there is.
    pub(crate) const fn switches(&self) -> &TestSwitches {
        &self.switches
    }

    fn completed(&self, mut world: World) -> World {
        self.caches.ended.remember(&mut world);
        world.attachments.detaching_drivers.clone_from(&self.detaching_drivers);
        world.enforcement = Some(self.reporting.enforcement());
        self.switches.falsify(&mut world);
        world
    }
}
