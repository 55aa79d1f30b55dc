//! LLAMA: loss and latency matrix.
//!
//! Modules in reading order: [`time`] → [`wire`] → [`probe`] → [`net`] → [`summary`] → [`config`] →
//! [`sink`] → [`reflector`] → [`collector`] → [`cli`].

pub mod cli;
pub mod collector;
pub mod config;
pub mod net;
pub mod probe;
pub mod reflector;
pub mod sink;
pub mod summary;
pub mod time;
pub mod wire;
