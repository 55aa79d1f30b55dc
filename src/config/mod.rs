//! From a configuration file to a checked, frozen [`Plan`].

pub mod plan;

pub use plan::Plan;
