//! The operator: observes builds on the Kubernetes API, asks the lifecycle what to do, and does it.
