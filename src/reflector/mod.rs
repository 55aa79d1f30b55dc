//! The session-reflector: answers probes, statelessly or with a count per session.

pub mod counters;
mod extensions;
pub mod rate;
pub mod recognise;
pub mod responder;
mod table;
