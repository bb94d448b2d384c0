//! What every process that runs for long has, whatever it does: pauses before it tries again, a heartbeat by which a
//! liveness probe is answered, the address at which it is, and an account of the memory and processor time that it used.

mod exit;
mod heartbeat;
mod listen;
mod pauses;
mod usage;

pub use exit::exit_at_once;
pub use heartbeat::{Heartbeat, probe};
pub use listen::listen;
pub use pauses::{Pauses, about, between, chance};
pub use usage::{Usage, cpu_time, peak_rss, usage};
