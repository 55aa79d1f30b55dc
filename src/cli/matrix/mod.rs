//! The matrix of a running collector, scraper or demo, in the terminal: its API's answers in, text out.
//!
//! Responsible for asking ([`client`], [`question`], [`follow`]), for understanding ([`answer`]) and for showing ([`view`],
//! [`grid`], [`worst`], [`json`]). Not responsible for joining anything: the server does (see [`crate::matrix`]). What a
//! server says is not trusted: it is bounded by [`client`], checked by [`answer`], cleaned by [`text`]. Read
//! [`view::render`] first.

pub mod answer;
pub mod client;
pub mod flags;
pub mod follow;
pub mod grid;
pub mod json;
pub mod look;
pub mod metric;
pub mod question;
#[cfg(test)]
mod samples;
pub mod text;
pub mod view;
#[cfg(test)]
mod view_tests;
pub mod worst;

pub use metric::Metric;
