//! The role that pulls many collectors' summaries into one database.

pub mod fingerprint;
pub mod interval;
pub mod list;
pub mod positions;
pub mod timetable;
