//! One run of a build: options in, a summary or an error out.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use indexbuild_api::IndexBuild;
use indexbuild_durable::test_switches::Faults;
use indexbuild_executor::StoreAccess;
use rustix::process::Signal;

use crate::build::{DEFAULT_NAMESPACE, StoredBuild};
use crate::folder::{self, Folder, Layout, StateError};
use crate::options::{RunError, RunOptions};
use crate::parent::Parent;
use crate::process;
use crate::requested_fault::Process;
use crate::source_now;
use crate::summary::RunSummary;
use crate::test_switches::suffered_by;

/// The state folder of a build that is told none: `.indexbuild/<namespace>/<name>` in `here`.
pub fn state_folder(here: &Path, build: &IndexBuild) -> PathBuf {
    let namespace = build.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    here.join(".indexbuild").join(namespace).join(build.metadata.name.as_deref().unwrap_or_default())
}

/// Runs a build to its end, or goes on with one that was interrupted or killed.
pub fn run(options: RunOptions) -> Pin<Box<dyn Future<Output = Result<RunSummary, RunError>>>> {
    // Boxed: it is compiled once, in this crate, and not again in each program that runs it.
    Box::pin(run_to_the_end(options))
}

async fn run_to_the_end(mut options: RunOptions) -> Result<RunSummary, RunError> {
    let suffers = suffered_by(Process::Parent, &options.faults);
    if suffers != Faults::default() && !indexbuild_durable::fault::arm(suffers) {
        return Err(RunError::FaultsTooLate);
    }
    let state = std::path::absolute(&options.state)
        .map_err(|source| StateError::Io { folder: options.state.clone(), source })?;
    let folder = Folder::hold(Layout::new(state.clone()))?;
    let mut build = options.build.clone();
    if let Some(parallelism) = options.overrides.parallelism {
        build.spec.parallelism = parallelism;
    }
    if let Some(deadline) = options.overrides.active_deadline {
        // What is begun of a second is given whole.
        build.spec.active_deadline_seconds = Some(deadline.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX));
    }
    if build.spec.suspend && !options.abort {
        return Err(RunError::Suspended);
    }
    let last = StoredBuild::load(folder.layout())?;
    let failed = last.as_ref().is_some_and(StoredBuild::has_failed);
    if options.fresh || (failed && !options.abort) {
        if failed {
            options.progress.say("the last build of this state folder failed; a new one begins", false);
        }
        if let Some(kept) = forget(&folder, last.as_ref()).await? {
            let message = format!(
                "the volumes of the last build stay in {}, as its spec.volume.retention or --keep-volumes asks; remove that folder when they are not needed any more",
                kept.display()
            );
            options.progress.say(&message, false);
        }
    }
    let stored = StoredBuild::begin(&folder, &build, &jiff::Timestamp::now().to_string())?;
    if stored.is_complete() && !options.abort {
        let access = StoreAccess::of_this_machine(options.ca_file.clone());
        if let Some(remark) = source_now::remark(&stored, access).await {
            options.progress.insist(&remark);
        }
    }
    Parent::new(&folder, stored, options)?.run().await
}

/// Forgets a build that has ended: its records, stages, pods and volumes, but for volumes that were to stay (I9). Gives where
/// these are.
async fn forget(folder: &Folder, last: Option<&StoredBuild>) -> Result<Option<PathBuf>, RunError> {
    let layout = folder.layout();
    let Some(last) = last else {
        return Ok(None);
    };
    if !last.has_ended() {
        return Err(RunError::NotEnded { state: layout.root().to_owned() });
    }
    for name in folder::names(layout, &layout.pods())? {
        end_former(&layout.pod_lock(&name)).await;
    }
    let io = |source| StateError::Io { folder: layout.root().to_owned(), source };
    let kept = layout.kept(&last.uid);
    if last.keeps_volumes() {
        for name in folder::names(layout, &layout.volumes())? {
            indexbuild_durable::create_dir_all(&kept).map_err(io)?;
            indexbuild_durable::rename(&layout.volumes().join(&name), &kept.join(&name)).map_err(io)?;
        }
    }
    // The build goes last: until then the folder is the old build's, and is forgotten again.
    for part in [layout.slots(), layout.stages(), layout.pods(), layout.volumes()] {
        for name in folder::names(layout, &part)? {
            let path = part.join(name);
            if path.is_dir() {
                indexbuild_durable::remove_dir_all(&path).map_err(io)?;
            } else {
                indexbuild_durable::remove_file(&path).map_err(io)?;
            }
        }
    }
    indexbuild_durable::remove_file(&layout.journal()).map_err(io)?;
    indexbuild_durable::remove_file(&layout.build()).map_err(io)?;
    Ok(kept.is_dir().then_some(kept))
}

/// Ends a process that outlived its parent and its build, and waits until its lock shows that it is
/// gone: only then may its volume go.
async fn end_former(lock: &Path) {
    const PATIENCE: u32 = 100;
    for tick in 0.. {
        if !lock.exists() || process::is_gone(lock) {
            return;
        }
        let signal = if tick < PATIENCE { Signal::TERM } else { Signal::KILL };
        if let Some(pid) = process::holder(lock).filter(|_| tick % PATIENCE == 0)
            && let Err(error) = process::signal(pid, signal)
        {
            tracing::debug!(%error, pid, "a former process could not be told to end");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
