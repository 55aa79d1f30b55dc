//! The API over real sockets: what it answers, what hostile clients get, and who may reload.
#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

#[path = "../common/mod.rs"]
mod common;

mod client;
mod collector;
mod documented;
mod endpoints;
mod hostile;
mod in_process;
mod reload;
