//! The HTTP side of every role: API, metrics, the page.
//!
//! Responsible for serving on a thread of its own, within limits, so that no client ever reaches a probing
//! thread. Not responsible for what is served: roles hand over what to show. Read [`server::Server`] first,
//! then [`recent::Recent`] (what is kept to be asked for), [`api::State`] (what a role hands over) and
//! [`metrics::router`].

pub mod answer;
pub mod api;
pub mod client;
mod connection;
pub mod counters;
pub mod events;
pub mod matrix;
pub mod metrics;
pub mod recent;
pub mod server;
pub mod web;
