//! The scraper's own metrics.
