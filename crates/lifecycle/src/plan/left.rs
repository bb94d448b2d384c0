//! What a build that is let go leaves behind, though nobody asked for that: told before, as nobody could tell it afterwards.

use indexbuild_api::{IndexBuildStatus, Reason};

use super::mode;
use crate::action::Event;
use crate::platform::Platform;
use crate::world::World;

/// What stays of a build that is deleted and let go now, and the way to remove it. `ended`: all was done that can be.
pub(super) fn behind(world: &World, status: &IndexBuildStatus, ended: bool) -> Option<Event> {
    let build = &world.build;
    if !build.deleting {
        return None;
    }
    let volumes = status.volumes.map_or(0, |volumes| volumes.held).max(count(world.claims.len()));
    let (reason, why, volumes) = if build.namespace_ends {
        let volumes = (volumes > 0).then(|| {
            format!(
                "{volumes} volumes lose their claims with the namespace, and go or stay by the reclaim policy of their class: \
                 `kubectl get persistentvolumes` shows those that stay as Released from {}/…",
                build.namespace
            )
        });
        (Reason::NamespaceDeleted, format!("namespace {} is being deleted", build.namespace), volumes)
    } else {
        // What has ended has given each volume its fate, or a record that will.
        let volumes = (!ended && volumes > 0).then(|| {
            let (namespace, label) = (&build.namespace, indexbuild_api::labels::BUILD_UID);
            match world.platform {
                Platform::Kubernetes => format!(
                    "{volumes} volumes may stay: `kubectl get pvc -n {namespace} -l {label}={}` shows them",
                    build.uid
                ),
                Platform::OneMachine => format!("{volumes} folders may stay among the volumes of the run's state"),
            }
        });
        let why = if ended { "its clean-up was given up" } else { "the time allowed for the deletion is over" };
        (Reason::CleanupTimedOut, why.to_owned(), volumes)
    };
    let objects = (!mode::was_cleaned(world)).then(|| objects(world));
    let left: Vec<String> = objects.into_iter().chain(volumes).collect();
    (!left.is_empty()).then(|| Event {
        reason,
        warning: true,
        message: format!("build {}/{} is let go, as {why}: {}", build.namespace, build.name, left.join("; ")),
    })
}

fn objects(world: &World) -> String {
    let prefix = world.build.prefix();
    let latest = format!("{}LATEST", prefix.trim_end_matches('/').trim_end_matches(world.build.uid.as_str()));
    if mode::published(world) {
        return if world.build.index_goes() {
            format!(
                "its index stays under {prefix}, though deletionPolicy is Delete; the store's own tool removes it                  (`aws s3 rm --recursive {prefix}`), and {latest} where that names it"
            )
        } else {
            format!(
                "beside its index, which stays as deletionPolicy says, objects that no index needs may be left under {prefix}"
            )
        };
    }
    format!(
        "what it wrote stays under {prefix}, without a tombstone, so that an executor that is cut off may still publish there; \
         the store's own tool removes it once all executors have ended (`aws s3 rm --recursive {prefix}`)"
    )
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
