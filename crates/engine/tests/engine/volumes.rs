//! Who may be where on a volume.

use indexbuild_engine::{EngineError, Volume};

use crate::support::Place;

#[test]
fn g9_i2_an_attempt_never_enters_a_folder_that_is_there() {
    let place = Place::default();
    let owner = place.owner("encode-0");
    let attempt = place.volume.begin(&owner).unwrap();
    let error = place.volume.begin(&owner).unwrap_err();
    assert!(matches!(error, EngineError::AttemptExists { .. }), "{error:?}");
    drop(attempt);
    // Not even when nobody holds it any more.
    assert!(matches!(place.volume.begin(&owner), Err(EngineError::AttemptExists { .. })));
}

#[test]
fn an_attempt_is_held_as_long_as_it_lives_and_can_only_be_removed_after() {
    let place = Place::default();
    let attempt = place.begin("encode-0");
    let listed = place.volume.attempts().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].held);
    assert_eq!(listed[0].owner.as_ref(), Some(attempt.owner()));
    assert!(listed[0].try_lock().unwrap().is_none(), "its lock cannot be had");
    assert!(!place.volume.remove_all().unwrap());
    let dir = attempt.dir().to_owned();
    assert!(dir.exists());
    drop(attempt);
    let listed = place.volume.attempts().unwrap();
    assert!(!listed[0].held);
    place.volume.remove(listed[0].try_lock().unwrap().unwrap()).unwrap();
    assert!(!dir.exists());
    assert!(listed[0].try_lock().unwrap().is_none(), "what is gone cannot be removed again");
    assert!(place.volume.attempts().unwrap().is_empty());
    assert!(place.volume.remove_all().unwrap());
}

#[test]
fn a_removal_that_a_crash_interrupted_is_ended_at_the_next_opening() {
    let place = Place::default();
    let left = place.volume.folder().join(".tmp-removed-7-nonce");
    std::fs::create_dir_all(left.join("runs")).unwrap();
    std::fs::write(left.join("runs/file"), b"x").unwrap();
    Volume::open(place.folder.path(), "build").unwrap();
    assert!(!left.exists());
}

#[test]
fn an_attempt_that_died_before_it_said_whose_it_is_is_listed_and_can_be_removed() {
    let place = Place::default();
    std::fs::create_dir(place.volume.folder().join("3-dead")).unwrap();
    let listed = place.volume.attempts().unwrap();
    assert_eq!((listed[0].owner.as_ref(), listed[0].held), (None, false));
    place.volume.remove(listed[0].try_lock().unwrap().unwrap()).unwrap();
    assert!(place.volume.attempts().unwrap().is_empty());
}

#[test]
fn work_is_not_admitted_without_room_and_the_refusal_has_both_figures() {
    let place = Place::default();
    place.volume.admit(1).unwrap();
    let error = place.volume.admit(u64::MAX / 2).unwrap_err();
    assert!(matches!(error, EngineError::NotAdmitted(_)));
    let text = error.to_string();
    assert!(text.contains("needed") && text.contains("free"), "{text}");
    assert_eq!(std::fs::read_dir(place.volume.folder()).unwrap().count(), 0, "the probe leaves nothing behind");
}

#[test]
fn a_damaged_file_is_kept_aside_once_with_the_reason_beside_it() {
    let place = Place::default();
    let file = place.volume.folder().join("file.run");
    std::fs::write(&file, b"damaged").unwrap();
    let kept = place.volume.quarantine(&file, "a byte is wrong").unwrap();
    assert_eq!(place.volume.quarantine(&file, "a byte is wrong").unwrap(), kept);
    assert_eq!(std::fs::read(&kept).unwrap(), b"damaged");
    assert_eq!(place.volume.quarantined().unwrap(), std::slice::from_ref(&kept));
    let why = std::fs::read_to_string(kept.with_file_name("file.run.why")).unwrap();
    assert!(why.contains("a byte is wrong") && why.contains("file.run"), "{why}");
}
