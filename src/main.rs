//! Parses the command line, runs one role, turns an error into an exit code.

fn main() {}
