//! The role that pulls many collectors' summaries into one database.
