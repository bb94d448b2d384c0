//! What an object store's answers mean, for all who ask one: the tables that are read, and the indexes that are written.
//!
//! [`Fault`] sorts every failure by what ends it. [`answer`] says what was answered, in words that stay the same as long
//! as the answer does. [`lacking`] says which credentials a secret should have and does not.

mod answer;
mod credentials;
mod fault;

pub use answer::answer;
pub use credentials::lacking;
pub use fault::Fault;
