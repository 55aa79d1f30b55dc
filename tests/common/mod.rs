//! What integration tests and benches share: network namespaces, packet loss made by nftables, and
//! processes of the `llama` binary.
//!
//! Everything here cleans up when dropped, after a panic too; what a killed run left behind is swept
//! by the next one. Namespaces need root: without it a test fails and names what is missing, it is
//! never passed over in silence. Read [`netns::Namespace`] and [`topology`] first.

// every test file compiles this on its own and uses its part of it
#![allow(dead_code, clippy::unwrap_used, missing_docs, reason = "test support")]

pub mod documented;
pub mod frames;
pub mod netns;
pub mod nft;
pub mod process;
pub mod relay;
pub mod thread;
pub mod topology;
