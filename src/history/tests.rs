//! The history from outside its thread.
