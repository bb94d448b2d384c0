//! The loop of one owner's life.

use std::sync::Arc;

use crate::config::ExecutorConfig;
use crate::control::ControlPlane;
use crate::exit::ExitStatus;

/// One owner's life, from the claim to the process's end.
pub async fn run(config: ExecutorConfig, control: Arc<dyn ControlPlane>) -> ExitStatus {
    let _ = (config, control);
    ExitStatus::Unusable
}
