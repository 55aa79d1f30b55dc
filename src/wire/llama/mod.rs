//! Upstream LLAMA's own probes: the Go generation's protobuf message ([`go`]) and the Python generation's
//! struct ([`python`]).
//!
//! Both are sent back as they came: a reply is the probe's bytes. What is in them is therefore the collector's
//! own note to itself, but for `tos`, the traffic-class byte the reply shall leave with. Not responsible for
//! telling the formats apart from others ([`crate::reflector::recognise`]). Read [`go::Probe`] first.

pub mod go;
pub mod python;

/// Octets of a signature, in both formats.
pub const SIGNATURE_LEN: usize = 10;
