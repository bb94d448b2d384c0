//! The threads of a job.

use std::any::Any;

use crate::error::EngineError;

/// Runs `work` on this many threads, and waits for all. Of several errors, the first one that is not `Cancelled` is
/// returned: that is how a thread ends when another has failed.
pub(crate) fn run<T: Send>(
    threads: usize,
    work: impl Fn(usize) -> Result<T, EngineError> + Sync,
) -> Result<Vec<T>, EngineError> {
    let outcomes: Vec<Result<T, EngineError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|number| {
                let work = &work;
                std::thread::Builder::new().name(format!("engine-{number}")).spawn_scoped(scope, move || work(number))
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| match handle {
                Ok(handle) => handle.join().unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
                Err(error) => Err(EngineError::io("start", std::path::Path::new("a thread"), error)),
            })
            .collect()
    });
    let mut done = Vec::with_capacity(threads);
    let mut first: Option<EngineError> = None;
    for outcome in outcomes {
        match outcome {
            Ok(value) => done.push(value),
            Err(error) => {
                if first.as_ref().is_none_or(|first| matches!(first, EngineError::Cancelled)) {
                    first = Some(error);
                }
            }
        }
    }
    match first {
        Some(error) => Err(error),
        None => Ok(done),
    }
}

pub(crate) fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    let words = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned());
    EngineError::Panicked(words)
}
