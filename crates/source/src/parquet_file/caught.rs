//! Panics of the library on damaged input, caught without a word: the error that names the file is the message.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `act` gives; `None` when it panics. The hook, which would print the panic's text and a backtrace, is left out for
/// this thread meanwhile, and stays what it was for all others.
pub(super) fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| set_hook(leaving_out(take_hook())));
    let before = CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(act));
    CAUGHT.set(before);
    outcome.ok()
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

fn leaving_out(hook: Hook) -> Hook {
    Box::new(move |panic| {
        if !CAUGHT.get() {
            hook(panic);
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    thread_local! {
        static TOLD: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn a_panic_that_is_caught_is_not_told_and_any_other_is() {
        caught(|| {});
        let before = take_hook();
        set_hook(leaving_out(Box::new(|_| TOLD.set(TOLD.get() + 1))));
        assert_eq!(caught(|| 7), Some(7));
        assert_eq!(caught(|| -> u32 { panic!("caught") }), None);
        assert_eq!(TOLD.get(), 0);
        assert!(catch_unwind(|| panic!("not caught here")).is_err());
        set_hook(before);
        assert_eq!(TOLD.get(), 1);
    }
}
