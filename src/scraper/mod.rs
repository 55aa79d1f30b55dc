//! The role that pulls many collectors' summaries into one database.

pub mod fetch;
pub mod fingerprint;
pub mod interval;
pub mod list;
pub mod page;
pub mod positions;
pub mod timetable;
pub mod upstream;
