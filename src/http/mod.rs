//! The HTTP side of every role: API, metrics.
//!
//! Responsible for serving on a thread of its own, within limits, so that no client ever reaches a probing
//! thread. Not responsible for what is served: roles hand over what to show.

pub mod metrics;
